"""The placement problem as arrays: who sends how much to whom, and which cores there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.mapping import Partitioned, Place
from nmc.ir.reference import encode
from nmc.passes.base import Context, Program
from nmc.passes.partition.rates import sampled
from nmc.passes.partition.traffic import Spikes, flow_of
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.pinned import Start, keep_pins
from nmc.passes.place.sites import on_chip, usable_sites

if TYPE_CHECKING:
    from nmc.kernels.placement import Task

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Flows:
    """Packets between clusters, both directions added.

    Attributes:
        starts, partners, weights: CSR over clusters; the own cluster is left out.
        to_host: (clusters,) packets to and from the host.
    """

    starts: IndexArray
    partners: NDArray[np.int32]
    weights: Array
    to_host: Array


def flows_of(partitioned: Partitioned, spikes: Spikes | None = None) -> Flows:
    """The flows of a partitioned network; clusters in their order, the host left out.

    Args:
        partitioned: clusters.
        spikes: of each neuron; populations that are missing send at their mean rates, once a step if
            there is none.
    """
    on_chip_ids = {cluster.id: index for index, cluster in enumerate(on_chip(partitioned))}
    number = np.array([on_chip_ids.get(cluster.id, -1) for cluster in partitioned.clusters], dtype=np.int64)
    flow = flow_of(partitioned, spikes or {})
    count = len(on_chip_ids)
    a, b = number[flow.source], number[flow.destination]
    to_host = np.zeros(count)
    for one, other in ((a, b), (b, a)):
        leaves = (one >= 0) & (other < 0)
        to_host += np.bincount(one[leaves], flow.packets[leaves], minlength=count)
    between = (a >= 0) & (b >= 0) & (a != b)
    a, b, packets = a[between], b[between], flow.packets[between]
    # A pair that sends both ways has one number, which stands in the rows of both.
    pairs, at = np.unique(np.append(a * count + b, b * count + a), return_inverse=True)
    weights = np.bincount(at.reshape(-1), np.append(packets, packets), minlength=len(pairs))
    starts = np.zeros(count + 1, dtype=np.int64)
    if count:
        np.cumsum(np.bincount(pairs // count, minlength=count), out=starts[1:])
    return Flows(starts, (pairs % max(count, 1)).astype(np.int32), weights, to_host)


@dataclass(frozen=True, eq=False)
class Problem:
    """Clusters that want cores. A placement is (clusters,) int64: the site of each cluster.

    Attributes:
        start: the clusters, where each may lie, and a first placement.
        free: cores that may be used.
        port: tile of the host's port.
        crossing: links that the way from one chip to the next counts as.
        spikes: of each neuron, see `flows_of`.
    """

    start: Start
    free: tuple[Place, ...]
    port: tuple[int, int]
    crossing: int = 1
    spikes: Spikes = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        partitioned: Partitioned,
        target: Target,
        chips: int | None,
        pins: Pins = NO_PINS,
        spikes: Spikes | None = None,
    ) -> Problem:
        """The problem of ``chips`` chips (None: the target's own number).

        Raises:
            NmcError: see `usable_sites` and `keep_pins`.
        """
        free = tuple(usable_sites(partitioned, target, chips))
        if pins:
            start = keep_pins(partitioned, target, target.grid.chips if chips is None else chips, free, pins)
        else:
            start = Start(partitioned, (None,) * partitioned.cores_used, tuple(range(partitioned.cores_used)))
        return cls(start, free, target.grid.host_port, target.grid.crossing_links, spikes or {})

    @classmethod
    def posed(cls, program: Program, context: Context, chips: int | None, pins: Pins, asking: str) -> Problem:
        """The problem of a pass: spikes are those of the first calibration inputs.

        Hops of a compile are counted on the same inputs, so what costs less here is reported with fewer.

        Raises:
            NmcError: see `of`.
        """
        if not isinstance(program, Partitioned):
            raise TypeError(f"{asking} needs a Partitioned")
        inputs = sampled(program.network, context)
        if not len(inputs):
            return cls.of(program, context.target, chips, pins)
        # Imported here: the compiled kernels take a while to load, and listing passes needs none.
        from nmc.kernels.message_counts import message_counts

        spikes = message_counts(program.network, encode(program.network, inputs))
        return cls.of(program, context.target, chips, pins, spikes)

    @property
    def partitioned(self) -> Partitioned:
        """What is placed: cut and joined where pins ask for it."""
        return self.start.partitioned

    @cached_property
    def task(self) -> Task:
        """The same as the kernels take it."""
        from nmc.kernels.placement import Task

        flows = flows_of(self.partitioned, self.spikes)
        chip, column, row, core = np.array([(p.chip, p.x, p.y, p.core) for p in self.free], dtype=np.int64).T.copy()
        tiles = np.full((int(column.max()) + 1, int(row.max()) + 1, int(core.max()) + 1), -1, dtype=np.int64)
        tiles[column, row, core] = np.arange(len(self.free))
        x = column + chip * (self.crossing - 1)
        return Task(
            flows.starts, flows.partners, flows.weights, flows.to_host, x, row, self.port, column, row, tiles,
            *self._regions(),
        )  # fmt: skip

    def _regions(self) -> tuple[IndexArray, Mask]:
        """(clusters,) region of each cluster, 0: any, and (regions, sites) whether a site belongs to a region."""
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
        """Hop-weighted packets; a chip crossing counts as so many links as the target says."""
        from nmc.kernels.placement import placement_costs

        return float(placement_costs(self.task, site_of[None])[0])

    def astray(self, sites_of: IndexArray) -> IndexArray:
        """(placements,) clusters outside their regions, for each row of (placements, clusters)."""
        outside: IndexArray = (~self.task.allowed[self.task.region_of[None], sites_of]).sum(axis=1)
        return outside

    def places(self, site_of: IndexArray) -> Mapping[int, Place]:
        """By cluster id."""
        clusters = on_chip(self.partitioned)
        return {c.id: self.free[int(site)] for c, site in zip(clusters, site_of, strict=True)}
