"""Simulated annealing from a climbed placement, at a low temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.ir.mapping import Partitioned, Placed
from nmc.passes.base import Context, Program
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.hill_climb import climb
from nmc.passes.place.problem import Problem
from nmc.passes.place.row_major import placed


@dataclass(frozen=True)
class Schedule:
    """How an annealing cools.

    Attributes:
        hot, cold: first and last temperature, as fractions of the mean change of cost of a tried swap.
        reach: tiles that a cluster may go at first; None: over the whole mesh.
    """

    hot: float
    cold: float
    reach: int | None = None


WHOLE_MESH = Schedule(1.0, 0.01)
"""Leaves the start, which pays where there are few clusters."""

NEARBY = Schedule(0.3, 0.01, reach=4)
"""Keeps the order of the start and mends it."""

FEW = 1024
"""Up to so many clusters are annealed over the whole mesh too."""

MOVES_MAX = 4_000_000
"""Swaps tried in one run, at most, ..."""

VISITS_MAX = 400_000_000
"""... and flows looked at: some seconds."""


@dataclass(frozen=True)
class PlaceAnneal:
    """Climb from row-major order, anneal from there at a low temperature, and climb again.

    Where there are few clusters, a second run starts hotter and reaches over the whole mesh. The best placement
    is kept, so the result is never worse than hill climbing from row-major order with the same seed. The number
    of moves is fixed; nothing depends on time.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        pins: layers that have to lie somewhere.
        moves: swaps tried per cluster and run.
    """

    name: ClassVar[str] = "place-anneal"
    stage: ClassVar[str] = "place"
    consumes: ClassVar[type[Program]] = Partitioned
    produces: ClassVar[type[Program]] = Placed

    chips: int | None = None
    pins: Pins = NO_PINS
    moves: int = 2_000

    def run(self, program: Program, context: Context) -> Program:
        """Place the clusters.

        Raises:
            NmcError: there are more clusters than cores, or pins cannot be kept (exit 4).
        """
        problem = Problem.posed(program, context, self.chips, self.pins, self.name)
        start = climb(problem, problem.row_major(), context.generator("place-hill-climb"))
        site_of = annealed(problem, start, context.generator(self.name), self.moves)
        return placed(problem.partitioned, problem.places(site_of), context.target)


def annealed(problem: Problem, start: IndexArray, generator: np.random.Generator, moves: int) -> IndexArray:
    """The placement that annealing and climbing from ``start`` ends in, never worse than ``start``."""
    # Imported here: the compiled kernel takes a while to load, and listing passes needs none.
    from nmc.kernels.placement_anneal import anneal

    clusters = len(start)
    if not clusters or not moves:
        return start
    task = problem.task
    visits = 2 * len(task.partners) // clusters + 1
    tried = min(moves * clusters, MOVES_MAX, VISITS_MAX // visits)
    found = [start]
    for schedule in (NEARBY, WHOLE_MESH) if clusters <= FEW else (NEARBY,):
        site_of = start.copy()
        seed = int(generator.integers(1 << 62))
        anneal(task, site_of, seed, tried, schedule.hot, schedule.cold, schedule.reach or max(task.tiles.shape))
        found.append(climb(problem, site_of, generator))
    return min(found, key=problem.cost)
