"""Runs the quick placers from several starts and keeps the best result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.ir.connectivity import IndexArray
from nmc.ir.mapping import Partitioned, Placed
from nmc.passes.base import Context, Program
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.anneal import FEW, PlaceAnneal, annealed
from nmc.passes.place.hill_climb import PlaceHillClimb, climb
from nmc.passes.place.problem import Problem
from nmc.passes.place.row_major import placed
from nmc.passes.place.starts import scattered, starts


@dataclass(frozen=True)
class PlaceAuto:
    """Place from the best of several starts, by annealing at a low temperature and climbing.

    Starts are row-major order, stripes of the mesh in the order of the network and in that of the
    Fiedler vector, and spectral coordinates that are drawn together and spread over the mesh again
    and again; small problems are climbed from many random placements, too. Up to `FEW` clusters,
    hill climbing from row-major order and annealing from there run as well, so that neither is
    ever better. The fewest hop-weighted packets are kept.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        pins: layers that have to lie somewhere.
        moves: swaps tried per cluster and annealing.
    """

    name: ClassVar[str] = "place-auto"
    stage: ClassVar[str] = "place"
    consumes: ClassVar[type[Program]] = Partitioned
    produces: ClassVar[type[Program]] = Placed

    chips: int | None = None
    pins: Pins = NO_PINS
    moves: int = PlaceAnneal.moves

    def run(self, program: Program, context: Context) -> Program:
        """Place the clusters.

        Raises:
            NmcError: there are more clusters than cores, or pins cannot be kept (exit 4).
        """
        problem = Problem.posed(program, context, self.chips, self.pins, self.name)
        site_of = best_found(problem, context, self.moves)
        return placed(problem.partitioned, problem.places(site_of), context.target)


def best_found(problem: Problem, context: Context, moves: int) -> IndexArray:
    """The best placement of all starts and searches; of equal costs the simpler one."""
    rows = problem.row_major()
    if len(rows) < 2:
        return rows
    few = len(rows) <= FEW
    climbed = climb(problem, rows, context.generator(PlaceHillClimb.name)) if few else rows
    generator = context.generator(PlaceAuto.name)
    others = [*starts(problem, generator)]
    others += [climb(problem, site_of, generator) for site_of in scattered(problem, generator)]
    best: IndexArray = min([climbed, *others], key=problem.cost)
    # Where climbing found the best start, this is what annealing by name finds.
    found = [rows, climbed, annealed(problem, best, context.generator(PlaceAnneal.name), moves)]
    if best is not climbed and few:
        found.append(annealed(problem, climbed, context.generator(PlaceAnneal.name), moves))
    return min(found, key=problem.cost)
