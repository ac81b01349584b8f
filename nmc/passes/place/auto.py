"""Runs the quick placers and keeps the best result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.ir.mapping import Partitioned, Placed
from nmc.passes.base import Context, Program
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.anneal import PlaceAnneal, annealed
from nmc.passes.place.hill_climb import PlaceHillClimb, climb
from nmc.passes.place.problem import Problem
from nmc.passes.place.row_major import placed


@dataclass(frozen=True)
class PlaceAuto:
    """Place in row-major order, by hill climbing and by annealing; keep the fewest hop-weighted packets.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        pins: layers that have to lie somewhere.
    """

    name: ClassVar[str] = "place-auto"
    stage: ClassVar[str] = "place"
    consumes: ClassVar[type[Program]] = Partitioned
    produces: ClassVar[type[Program]] = Placed

    chips: int | None = None
    pins: Pins = NO_PINS

    def run(self, program: Program, context: Context) -> Program:
        """Place the clusters.

        Raises:
            NmcError: there are more clusters than cores, or pins cannot be kept (exit 4).
        """
        if not isinstance(program, Partitioned):
            raise TypeError(f"{self.name} needs a Partitioned")
        problem = Problem.of(program, context.target, self.chips, self.pins)
        rows = problem.row_major()
        climbed = climb(problem, rows, context.generator(PlaceHillClimb.name))
        cooled = annealed(problem, climbed, context.generator(PlaceAnneal.name), PlaceAnneal.moves)
        # Of equal costs the simpler placer wins: min keeps the first.
        site_of = min((rows, climbed, cooled), key=problem.cost)
        return placed(problem.partitioned, problem.places(site_of), context.target)
