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

SCHEDULES = ((0.1, 0.01), (1.0, 0.01))
"""First and last temperature of each run, as fractions of the mean change of cost of a random
swap. The first does not forget the start (the best of five tried on ResNet-20); the second
leaves it, which pays where there are few clusters."""

MOVES_MAX = 10_000_000
"""Swaps tried in one run, at most: some seconds."""


@dataclass(frozen=True)
class PlaceAnneal:
    """Climb from row-major order, anneal from there at a low temperature, and climb again.

    A second run starts hotter. The best placement met is kept, so the result is never worse than hill climbing from
    row-major order with the same seed. The number of moves is fixed; nothing depends on time.

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
    moves: int = 10_000

    def run(self, program: Program, context: Context) -> Program:
        """Place the clusters.

        Raises:
            NmcError: there are more clusters than cores, or pins cannot be kept (exit 4).
        """
        if not isinstance(program, Partitioned):
            raise TypeError(f"{self.name} needs a Partitioned")
        problem = Problem.of(program, context.target, self.chips, self.pins)
        start = climb(problem, problem.row_major(), context.generator("place-hill-climb"))
        site_of = annealed(problem, start, context.generator(self.name), self.moves)
        return placed(problem.partitioned, problem.places(site_of), context.target)


def annealed(problem: Problem, start: IndexArray, generator: np.random.Generator, moves: int) -> IndexArray:
    """The placement that annealing and climbing from ``start`` ends in."""
    # Imported here: the compiled kernel takes a while to load, and listing passes needs none.
    from nmc.kernels.placement import anneal

    if not len(start):
        return start
    tiles = np.full(
        (int(problem.x.max()) + 1, int(problem.y.max()) + 1, max(place.core for place in problem.free) + 1),
        -1,
        dtype=np.int64,
    )
    for site, place in enumerate(problem.free):
        tiles[place.x, place.y, place.core] = site
    found = [start]
    for hot, cold in SCHEDULES:
        site_of = start.copy()
        seed = int(generator.integers(1 << 62))
        anneal(site_of, *problem.arrays, *problem.regions, tiles, seed, min(moves * len(site_of), MOVES_MAX), hot, cold)
        found.append(climb(problem, site_of, generator))
    return min(found, key=problem.cost)
