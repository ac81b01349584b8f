"""Clusters in the order of the network onto cores in the order of the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from nmc.hardware.target import Target
from nmc.ir.mapping import HOST, Partitioned, Place, Placed
from nmc.passes.base import Context, Program
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.problem import Problem
from nmc.passes.place.sites import host_place


def placed(partitioned: Partitioned, chosen: Mapping[int, Place], target: Target) -> Placed:
    """The partitioned network with places; the host's cluster sits at the host's port."""
    places = dict(chosen)
    if HOST in partitioned.by_id:
        places[HOST] = host_place(target.grid)
    return Placed(partitioned.network, partitioned.clusters, partitioned.rates, places)


@dataclass(frozen=True)
class PlaceRowMajor:
    """Place clusters one after the other, tile by tile in rows; pinned ones first, on their own cores.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        pins: layers that have to lie somewhere.
    """

    name: ClassVar[str] = "place-row-major"
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
        return placed(problem.partitioned, problem.places(problem.row_major()), context.target)
