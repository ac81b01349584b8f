"""Packets between clusters: one per message and destination core, the own core's included."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.ir.mapping import HOST, Cluster, Partitioned
from nmc.passes.partition.demand import Mask


def heard_by(partitioned: Partitioned, cluster: Cluster) -> dict[str, Mask]:
    """Neurons that send to a cluster: by source population, in its shape."""
    network = partitioned.network
    sources = {p.name: p.source for p in network.projections}
    heard: dict[str, Mask] = {}
    for axon in cluster.axons:
        source = network.by_name[sources[axon.projection]]
        mask = heard.setdefault(source.name, np.zeros(source.shape, dtype=np.bool_))
        for box in axon.region:
            mask[tuple(slice(*axis) for axis in box)] = True
    return heard


def traffic(partitioned: Partitioned) -> Mapping[tuple[int, int], float]:
    """Packets per step of the window between clusters: {(source id, destination id): packets}.

    Messages that never leave the host are no packets.
    """
    flows: dict[tuple[int, int], float] = {}
    for destination in partitioned.clusters:
        heard = heard_by(partitioned, destination)
        for source in partitioned.clusters:
            if source.id == destination.id == HOST:
                continue
            for piece in source.slices:
                if piece.population not in heard:
                    continue
                senders = int(heard[piece.population][tuple(slice(*axis) for axis in piece.box)].sum())
                if senders:
                    key = (source.id, destination.id)
                    rate = partitioned.rates.get(piece.population, 1.0)
                    flows[key] = flows.get(key, 0.0) + rate * senders
    return flows


def packets_per_step(partitioned: Partitioned) -> float:
    """All packets per step of the window, at the measured rates (1 where none is known)."""
    return float(sum(traffic(partitioned).values()))


def destinations(partitioned: Partitioned) -> Mapping[str, IndexArray]:
    """Destination cores of each neuron, the host included: by population, in its shape (int64)."""
    count = {p.name: np.zeros(p.shape, dtype=np.int64) for p in partitioned.network.populations}
    for cluster in partitioned.clusters:
        for name, mask in heard_by(partitioned, cluster).items():
            count[name] += mask
    return count
