"""The placement problem as arrays: who sends how much to whom, and which cores there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.mapping import HOST, Partitioned, Place
from nmc.passes.partition.traffic import traffic
from nmc.passes.place.sites import on_chip, usable_sites


@dataclass(frozen=True, eq=False)
class Flows:
    """Packets per step between clusters, both directions added.

    Attributes:
        starts, partners, weights: CSR over clusters; the own cluster is left out.
        pinned: (clusters,) packets to and from the host.
    """

    starts: IndexArray
    partners: IndexArray
    weights: Array
    pinned: Array


def flows_of(partitioned: Partitioned) -> Flows:
    """The flows of a partitioned network; clusters in their order, the host left out."""
    number = {cluster.id: index for index, cluster in enumerate(on_chip(partitioned))}
    pinned = np.zeros(len(number))
    between: dict[tuple[int, int], float] = {}
    for (source, destination), packets in traffic(partitioned).items():
        if HOST in (source, destination):
            pinned[number[destination if source == HOST else source]] += packets
        elif source != destination:
            a, b = number[source], number[destination]
            for pair in ((a, b), (b, a)):
                between[pair] = between.get(pair, 0.0) + packets
    pairs = sorted(between)
    rows = np.array([a for a, _ in pairs], dtype=np.int64)
    starts = np.zeros(len(number) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=len(number)), out=starts[1:])
    partners = np.array([b for _, b in pairs], dtype=np.int64)
    return Flows(starts, partners, np.array([between[pair] for pair in pairs]), pinned)


@dataclass(frozen=True, eq=False)
class Problem:
    """Clusters that want cores. A placement is (clusters,) int64: the site of each cluster.

    Attributes:
        partitioned: what is placed.
        free: cores that may be used.
        flows: packets per step between the clusters.
        x, y: (sites,) tile of each core.
        port: tile of the host's port.
    """

    partitioned: Partitioned
    free: tuple[Place, ...]
    flows: Flows
    x: IndexArray
    y: IndexArray
    port: tuple[int, int]

    @classmethod
    def of(cls, partitioned: Partitioned, target: Target, chips: int | None) -> Problem:
        """The problem of ``chips`` chips (None: the target's own number).

        Raises:
            NmcError: see `usable_sites`.
        """
        free = tuple(usable_sites(partitioned, target, chips))
        x = np.array([place.x for place in free], dtype=np.int64)
        y = np.array([place.y for place in free], dtype=np.int64)
        return cls(partitioned, free, flows_of(partitioned), x, y, target.grid.host_port)

    def row_major(self) -> IndexArray:
        """Clusters in the order of the network on cores in the order of the mesh."""
        return np.arange(self.partitioned.cores_used, dtype=np.int64)

    def cost(self, site_of: IndexArray) -> float:
        """Hop-weighted packets per step."""
        from nmc.kernels.placement import placement_cost

        return float(placement_cost(site_of, *self.arrays))

    @property
    def arrays(
        self,
    ) -> tuple[IndexArray, IndexArray, Array, Array, IndexArray, IndexArray, tuple[int, int]]:
        """What the kernels take after the placement."""
        flows = self.flows
        return flows.starts, flows.partners, flows.weights, flows.pinned, self.x, self.y, self.port

    def places(self, site_of: IndexArray) -> Mapping[int, Place]:
        """By cluster id."""
        clusters = on_chip(self.partitioned)
        return {c.id: self.free[int(site)] for c, site in zip(clusters, site_of, strict=True)}
