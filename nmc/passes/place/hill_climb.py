"""Hill climbing: swaps of two cores as long as packets have fewer links to cross."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.ir.mapping import Partitioned, Placed
from nmc.passes.base import Context, Program
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.problem import Problem
from nmc.passes.place.row_major import placed

SWEEPS = 50
"""Rounds over all clusters, at most."""

EXHAUSTIVE = 1_000_000
"""Up to so many clusters times cores every core is tried for every cluster; beyond ..."""

NEAR = 2
"""... those so many tiles around the cluster and around the middle of its partners."""

VISITS = 2_000_000_000
"""Flows that a climb may look at: a placement whose first round needs more stays as it is."""


@dataclass(frozen=True)
class PlaceHillClimb:
    """Start in row-major order, then swap cores as long as hop-weighted packets get fewer.

    The result is never worse than row-major order. Which cluster is moved first depends on
    the seed; nothing depends on time.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        pins: layers that have to lie somewhere.
        sweeps: at most so many rounds over all clusters.
    """

    name: ClassVar[str] = "place-hill-climb"
    stage: ClassVar[str] = "place"
    consumes: ClassVar[type[Program]] = Partitioned
    produces: ClassVar[type[Program]] = Placed

    chips: int | None = None
    pins: Pins = NO_PINS
    sweeps: int = SWEEPS

    def run(self, program: Program, context: Context) -> Program:
        """Place the clusters.

        Raises:
            NmcError: there are more clusters than cores, or pins cannot be kept (exit 4).
        """
        problem = Problem.posed(program, context, self.chips, self.pins, self.name)
        site_of = climb(problem, problem.row_major(), context.generator(self.name), self.sweeps)
        return placed(problem.partitioned, problem.places(site_of), context.target)


def climb(problem: Problem, start: IndexArray, generator: np.random.Generator, sweeps: int = SWEEPS) -> IndexArray:
    """The placement that climbing from ``start`` ends in; see `nmc.kernels.placement.swap_climb`."""
    # Imported here: the compiled kernel takes a while to load, and listing passes needs none.
    from nmc.kernels.placement import swap_climb

    site_of = start.copy()
    order = generator.permutation(len(site_of)).astype(np.int64)
    columns, rows, cores = problem.task.tiles.shape
    tried, reach = len(problem.free), max(columns, rows)
    if len(site_of) * tried > EXHAUSTIVE:
        tried, reach = 2 * (2 * NEAR + 1) ** 2 * cores, NEAR
    visits = 2 * tried * len(problem.task.partners) + 1
    swap_climb(problem.task, site_of, order, min(sweeps, VISITS // visits), reach)
    return site_of
