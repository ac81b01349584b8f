"""Give every cluster a core of the mesh."""

from __future__ import annotations

import difflib

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.passes.base import Pass
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.anneal import PlaceAnneal
from nmc.passes.place.auto import PlaceAuto
from nmc.passes.place.hill_climb import PlaceHillClimb
from nmc.passes.place.pso import PlacePSO
from nmc.passes.place.row_major import PlaceRowMajor

PLACERS = ("auto", "row-major", "hill-climb", "anneal", "pso")
"""What ``--placer`` takes; ``auto`` is the best of all but ``pso``."""

__all__ = ["PLACERS", "PlaceAnneal", "PlaceAuto", "PlaceHillClimb", "PlacePSO", "PlaceRowMajor", "placement_pass"]


def placement_pass(name: str, chips: int | None = None, pins: Pins = NO_PINS) -> Pass:
    """The pass of a placer.

    Args:
        name: one of `PLACERS`.
        chips: chips that may be used; None: the target's own number.
        pins: layers that have to lie somewhere.

    Raises:
        NmcError: unknown name (exit 2).
    """
    match name:
        case "auto":
            return PlaceAuto(chips, pins)
        case "row-major":
            return PlaceRowMajor(chips, pins)
        case "hill-climb":
            return PlaceHillClimb(chips, pins)
        case "anneal":
            return PlaceAnneal(chips, pins)
        case "pso":
            return PlacePSO(chips, pins)
    near = difflib.get_close_matches(name, PLACERS, n=1)
    raise NmcError.single(
        "unknown-placer",
        f"placer '{name}' is not known",
        ExitCode.USAGE,
        help=f"did you mean '{near[0]}'?" if near else f"choose one of: {', '.join(PLACERS)}",
    )
