"""From filled cores to a `Partitioned`: neighbouring slices joined, axons as exact regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.ir.mapping import HOST, AxonGroup, Box, Cluster, Partitioned, Slice, whole
from nmc.ir.network import Network, Population
from nmc.ir.neurons import Source
from nmc.passes.partition.boxes import merge_boxes
from nmc.passes.partition.demand import Core, DemandModel, Mask
from nmc.passes.partition.geometry import source_region


def on_host(population: Population) -> bool:
    """Whether the host computes the population: inputs that it sends, and layers moved there."""
    return population.on_host or isinstance(population.neuron, Source)


def chip_populations(network: Network) -> list[Population]:
    """The populations that need cores, in topological order."""
    return [p for p in network.populations if not on_host(p)]


def host_hears(model: DemandModel, population: Population) -> Mask:
    """Neurons of a population that send to the host, in its shape."""
    heard = np.zeros(population.neurons, dtype=np.bool_)
    for projection in model.network.outgoing[population.name]:
        target = model.network.by_name[projection.target]
        if on_host(target):
            heard[model.geometries[projection.name].sources(whole(target.shape))] = True
    return heard.reshape(population.shape)


def fan_out(model: DemandModel, population: Population, cores: Sequence[Core]) -> IndexArray:
    """Destination cores of each neuron, the host included, in the population's shape (int64)."""
    count = host_hears(model, population).reshape(-1).astype(np.int64)
    for core in cores:
        seen = core.seen.get(population.name)
        if seen is not None:
            count += seen
    return count.reshape(population.shape)


def assemble(model: DemandModel, cores: Sequence[Core]) -> Partitioned:
    """Clusters in the order of the network, numbered from 0; the host's last, if there is one."""
    return assemble_boxes(model, [core.boxes() for core in cores])


def assemble_boxes(model: DemandModel, cores: Sequence[Mapping[str, Sequence[Box]]]) -> Partitioned:
    """The same from the boxes of every core, by population."""
    network = model.network
    order = {p.name: index for index, p in enumerate(network.populations)}
    contents = [
        [Slice(name, box) for name in sorted(boxes, key=order.__getitem__) for box in merge_boxes(boxes[name])]
        for boxes in cores
    ]
    contents.sort(key=lambda slices: [(order[s.population], s.box) for s in slices])
    clusters = [_cluster(model, index, slices) for index, slices in enumerate(contents)]
    hosted = [Slice(p.name, whole(p.shape)) for p in network.populations if on_host(p)]
    if hosted:
        clusters.append(_cluster(model, HOST, hosted))
    return Partitioned(network, tuple(clusters), model.rates)


def _cluster(model: DemandModel, number: int, slices: Sequence[Slice]) -> Cluster:
    network = model.network
    axons: list[AxonGroup] = []
    for index, piece in enumerate(slices):
        for projection in network.incoming[piece.population]:
            shape = network.by_name[projection.source].shape
            region = source_region(model.geometries[projection.name], piece.box, shape)
            if region:
                axons.append(AxonGroup(projection.name, index, region, projection.delay))
    origins = tuple(network.by_name[s.population].origin for s in slices)
    return Cluster(number, tuple(slices), tuple(axons), origins)
