"""Hill climbing: swaps of two cores as long as packets have fewer links to cross."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.mapping import HOST, Partitioned, Place, Placed
from nmc.passes.base import Context, Program
from nmc.passes.partition.traffic import traffic
from nmc.passes.place.row_major import placed
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


@dataclass(frozen=True)
class PlaceHillClimb:
    """Start in row-major order, then swap cores as long as hop-weighted packets get fewer.

    The result is never worse than row-major order. Which cluster is moved first depends on
    the seed; nothing depends on time.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        sweeps: at most so many rounds over all clusters.
    """

    name: ClassVar[str] = "place-hill-climb"
    stage: ClassVar[str] = "place"
    consumes: ClassVar[type[Program]] = Partitioned
    produces: ClassVar[type[Program]] = Placed

    chips: int | None = None
    sweeps: int = 50

    def run(self, program: Program, context: Context) -> Program:
        """Place the clusters.

        Raises:
            NmcError: there are more clusters than cores (exit 4).
        """
        if not isinstance(program, Partitioned):
            raise TypeError(f"{self.name} needs a Partitioned")
        free = usable_sites(program, context.target, self.chips)
        clusters = on_chip(program)
        site_of = climb(program, free, context.target.grid.host_port, context.generator(self.name), self.sweeps)
        chosen: dict[int, Place] = {c.id: free[int(site)] for c, site in zip(clusters, site_of, strict=True)}
        return placed(program, chosen, context.target)


def climb(
    partitioned: Partitioned,
    free: list[Place],
    port: tuple[int, int],
    generator: np.random.Generator,
    sweeps: int,
) -> IndexArray:
    """(clusters,) the site of each cluster; see `nmc.kernels.placement.swap_climb`."""
    # Imported here: the compiled kernel takes a while to load, and listing passes needs none.
    from nmc.kernels.placement import swap_climb

    flows = flows_of(partitioned)
    count = partitioned.cores_used
    site_of = np.arange(count, dtype=np.int64)
    x = np.array([place.x for place in free], dtype=np.int64)
    y = np.array([place.y for place in free], dtype=np.int64)
    order = generator.permutation(count).astype(np.int64)
    swap_climb(site_of, flows.starts, flows.partners, flows.weights, flows.pinned, x, y, port, order, sweeps)
    return site_of
