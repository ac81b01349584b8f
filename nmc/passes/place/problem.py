"""The placement problem as arrays: who sends how much to whom, and which cores there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.mapping import HOST, Partitioned, Place
from nmc.passes.partition.traffic import traffic
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.pinned import Start, keep_pins
from nmc.passes.place.sites import on_chip, usable_sites

Mask = NDArray[np.bool_]

Arrays = tuple[IndexArray, IndexArray, Array, Array, IndexArray, IndexArray, tuple[int, int]]
"""Flows, tiles and the port, in the order in which the kernels take them."""


@dataclass(frozen=True, eq=False)
class Flows:
    """Packets per step between clusters, both directions added.

    Attributes:
        starts, partners, weights: CSR over clusters; the own cluster is left out.
        to_host: (clusters,) packets to and from the host.
    """

    starts: IndexArray
    partners: IndexArray
    weights: Array
    to_host: Array


def flows_of(partitioned: Partitioned) -> Flows:
    """The flows of a partitioned network; clusters in their order, the host left out."""
    number = {cluster.id: index for index, cluster in enumerate(on_chip(partitioned))}
    to_host = np.zeros(len(number))
    between: dict[tuple[int, int], float] = {}
    for (source, destination), packets in traffic(partitioned).items():
        if HOST in (source, destination):
            to_host[number[destination if source == HOST else source]] += packets
        elif source != destination:
            a, b = number[source], number[destination]
            for pair in ((a, b), (b, a)):
                between[pair] = between.get(pair, 0.0) + packets
    pairs = sorted(between)
    rows = np.array([a for a, _ in pairs], dtype=np.int64)
    starts = np.zeros(len(number) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=len(number)), out=starts[1:])
    partners = np.array([b for _, b in pairs], dtype=np.int64)
    return Flows(starts, partners, np.array([between[pair] for pair in pairs]), to_host)


@dataclass(frozen=True, eq=False)
class Problem:
    """Clusters that want cores. A placement is (clusters,) int64: the site of each cluster.

    Attributes:
        start: the clusters, where each may lie, and a first placement.
        free: cores that may be used.
        x, y: (sites,) tile of each core.
        port: tile of the host's port.
    """

    start: Start
    free: tuple[Place, ...]
    x: IndexArray
    y: IndexArray
    port: tuple[int, int]

    @classmethod
    def of(cls, partitioned: Partitioned, target: Target, chips: int | None, pins: Pins = NO_PINS) -> Problem:
        """The problem of ``chips`` chips (None: the target's own number).

        Raises:
            NmcError: see `usable_sites` and `keep_pins`.
        """
        free = tuple(usable_sites(partitioned, target, chips))
        if pins:
            start = keep_pins(partitioned, target, target.grid.chips if chips is None else chips, free, pins)
        else:
            start = Start(partitioned, (None,) * partitioned.cores_used, tuple(range(partitioned.cores_used)))
        x = np.array([place.x for place in free], dtype=np.int64)
        y = np.array([place.y for place in free], dtype=np.int64)
        return cls(start, free, x, y, target.grid.host_port)

    @property
    def partitioned(self) -> Partitioned:
        """What is placed: cut and joined where pins ask for it."""
        return self.start.partitioned

    @cached_property
    def flows(self) -> Flows:
        """Packets per step between the clusters."""
        return flows_of(self.partitioned)

    @cached_property
    def regions(self) -> tuple[IndexArray, Mask]:
        """(clusters,) region of each cluster, and (regions, sites) whether a site belongs to a region."""
        distinct = list(dict.fromkeys([None, *self.start.regions]))
        allowed = np.ones((len(distinct), len(self.free)), dtype=np.bool_)
        for number, region in enumerate(distinct):
            if region is not None:
                allowed[number] = False
                allowed[number, sorted(region)] = True
        number_of = {region: number for number, region in enumerate(distinct)}
        return np.array([number_of[region] for region in self.start.regions], dtype=np.int64), allowed

    def row_major(self) -> IndexArray:
        """Clusters in the order of the network on cores in the order of the mesh, those with a region first."""
        return np.array(self.start.site_of, dtype=np.int64)

    def cost(self, site_of: IndexArray) -> float:
        """Hop-weighted packets per step."""
        from nmc.kernels.placement import placement_cost

        return float(placement_cost(site_of, *self.arrays))

    @property
    def arrays(self) -> Arrays:
        """What the kernels take after the placement."""
        flows = self.flows
        return flows.starts, flows.partners, flows.weights, flows.to_host, self.x, self.y, self.port

    def astray(self, sites_of: IndexArray) -> IndexArray:
        """(placements,) clusters outside their regions, for each row of (placements, clusters)."""
        region_of, allowed = self.regions
        outside: IndexArray = (~allowed[region_of[None], sites_of]).sum(axis=1)
        return outside

    def places(self, site_of: IndexArray) -> Mapping[int, Place]:
        """By cluster id."""
        clusters = on_chip(self.partitioned)
        return {c.id: self.free[int(site)] for c, site in zip(clusters, site_of, strict=True)}
