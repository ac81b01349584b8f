"""Packets between clusters: one per message and destination core, the own core's included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.mapping import HOST, Box, Cluster, Partitioned
from nmc.passes.partition.demand import Mask


class Heard(NamedTuple):
    """Neurons of one population that send to a cluster.

    Attributes:
        low: first corner of a window of the population.
        mask: (window,) which of its neurons send.
    """

    low: tuple[int, ...]
    mask: Mask

    @property
    def window(self) -> tuple[slice, ...]:
        """The window as an index of the population."""
        return tuple(slice(a, a + n) for a, n in zip(self.low, self.mask.shape, strict=True))


def heard_by(partitioned: Partitioned, cluster: Cluster) -> dict[str, Heard]:
    """Neurons that send to a cluster, by source population: the memory is that of the part that is heard."""
    return heard_from(cluster, sources_of(partitioned))


def sources_of(partitioned: Partitioned) -> dict[str, str]:
    """The source population of every projection."""
    return {p.name: p.source for p in partitioned.network.projections}


def heard_from(cluster: Cluster, sources: Mapping[str, str]) -> dict[str, Heard]:
    """Neurons that send to a cluster, by source population; ``sources`` are those of the projections."""
    regions: dict[str, list[Box]] = {}
    for axon in cluster.axons:
        regions.setdefault(sources[axon.projection], []).extend(axon.region)
    return {name: heard_of(boxes) for name, boxes in regions.items()}


def heard_of(boxes: Sequence[Box]) -> Heard:
    """The union of one or more boxes."""
    axes = range(len(boxes[0]))
    low = tuple(min(box[axis][0] for box in boxes) for axis in axes)
    high = [max(box[axis][1] for box in boxes) for axis in axes]
    mask = np.zeros([b - a for a, b in zip(low, high, strict=True)], dtype=np.bool_)
    for box in boxes:
        mask[tuple(slice(i - a, j - a, k) for (i, j, k), a in zip(box, low, strict=True))] = True
    return Heard(low, mask)


class Sender(NamedTuple):
    """Neurons of one slice that send to one cluster.

    Attributes:
        source: id of the cluster that sends.
        slice: number of the slice in it.
        destination: id of the cluster that hears.
        box: a part of the slice; ``mask`` says which of its neurons send.
    """

    source: int
    slice: int
    destination: int
    box: Box
    mask: Mask


def senders(partitioned: Partitioned) -> Iterator[Sender]:
    """Everything that is sent, destination by destination.

    Slices are found by the neurons that a cluster hears, and masks span no more than those: the
    time does not grow with the square of the clusters.
    """
    network = partitioned.network
    pieces = [
        (cluster.id, index, piece) for cluster in partitioned.clusters for index, piece in enumerate(cluster.slices)
    ]
    owner = {p.name: np.full(p.shape, -1, dtype=np.int32) for p in network.populations}
    for number, (_, _, piece) in enumerate(pieces):
        owner[piece.population][tuple(slice(*axis) for axis in piece.box)] = number
    sources = sources_of(partitioned)
    for destination in partitioned.clusters:
        for name, (low, heard) in heard_from(destination, sources).items():
            high = [a + n for a, n in zip(low, heard.shape, strict=True)]
            patch = owner[name][tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            for number in np.unique(patch[heard]).tolist():
                if number >= 0:
                    source, index, piece = pieces[number]
                    part = tuple(_overlap(axis, a, b) for axis, a, b in zip(piece.box, low, high, strict=True))
                    mask = heard[tuple(slice(i - a, j - a, k) for (i, j, k), a in zip(part, low, strict=True))]
                    yield Sender(source, index, destination.id, part, mask)


def _overlap(axis: tuple[int, int, int], low: int, high: int) -> tuple[int, int, int]:
    """The part of a range inside [low, high); it has one."""
    start, stop, step = axis
    return start + max(-(-(low - start) // step), 0) * step, min(stop, high), step


Spikes = Mapping[str, Array]
"""Messages of each neuron per inference, by population, in its shape."""


class Flow(NamedTuple):
    """Packets between pairs of clusters, each pair once, those of a cluster to itself included.

    Attributes:
        source, destination: (pairs,) places in ``Partitioned.clusters``.
        packets: (pairs,) of every pair.
    """

    source: IndexArray
    destination: IndexArray
    packets: Array


def flow_of(partitioned: Partitioned, spikes: Spikes) -> Flow:
    """What clusters send each other.

    Args:
        partitioned: clusters.
        spikes: of each neuron; populations that are missing send at their mean rates, once a step if
            there is none.
    """
    owner = {p.name: np.full(p.shape, -1, dtype=np.int64) for p in partitioned.network.populations}
    for place, cluster in enumerate(partitioned.clusters):
        for piece in cluster.slices:
            owner[piece.population][tuple(slice(*axis) for axis in piece.box)] = place
    count, sources = len(partitioned.clusters), sources_of(partitioned)
    pairs: list[IndexArray] = [np.zeros(0, dtype=np.int64)]
    packets: list[Array] = [np.zeros(0)]
    for place, cluster in enumerate(partitioned.clusters):
        for name, heard in heard_from(cluster, sources).items():
            senders_of = owner[name][heard.window][heard.mask]
            counted = spikes.get(name)
            if counted is None:
                found, neurons = np.unique(senders_of, return_counts=True)
                sent: Array = neurons * partitioned.rates.get(name, 1.0)
            else:
                found, at = np.unique(senders_of, return_inverse=True)
                sent = np.bincount(at.reshape(-1), counted[heard.window][heard.mask])
            held = found >= 0
            pairs.append(found[held] * count + place)
            packets.append(sent[held])
    flat, at = np.unique(np.concatenate(pairs), return_inverse=True)
    summed = np.bincount(at.reshape(-1), np.concatenate(packets), minlength=len(flat))
    return Flow(flat // count, flat % count, summed) if count else Flow(flat, flat, summed)


def traffic(partitioned: Partitioned) -> Mapping[tuple[int, int], float]:
    """Packets per step of the window between clusters: {(source id, destination id): packets}.

    Messages that never leave the host are no packets.
    """
    ids = [cluster.id for cluster in partitioned.clusters]
    source, destination, packets = flow_of(partitioned, {})
    flows = {
        (ids[a], ids[b]): n for a, b, n in zip(source.tolist(), destination.tolist(), packets.tolist(), strict=True)
    }
    flows.pop((HOST, HOST), None)
    return flows


def packets_per_step(partitioned: Partitioned) -> float:
    """All packets per step of the window, at the measured rates (1 where none is known)."""
    return float(sum(traffic(partitioned).values()))


def destinations(partitioned: Partitioned) -> Mapping[str, IndexArray]:
    """Destination cores of each neuron, the host included: by population, in its shape (int64)."""
    count = {p.name: np.zeros(p.shape, dtype=np.int64) for p in partitioned.network.populations}
    sources = sources_of(partitioned)
    for cluster in partitioned.clusters:
        for name, heard in heard_from(cluster, sources).items():
            count[name][heard.window] += heard.mask
    return count
