"""Cut a network into clusters that fit cores."""

from __future__ import annotations

import difflib

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.passes.base import Pass
from nmc.passes.partition.auto import PartitionAuto
from nmc.passes.partition.greedy import PartitionGreedy
from nmc.passes.partition.kernighan_lin import PartitionKernighanLin
from nmc.passes.partition.metis import PartitionMetis
from nmc.passes.partition.overlap import PartitionOverlap
from nmc.passes.partition.require_room import RequireRoom
from nmc.passes.partition.tiles import PartitionTiles

PARTITIONERS = ("auto", "overlap", "tiles", "greedy", "kernighan-lin", "metis")
"""What ``--partitioner`` takes."""

__all__ = [
    "PARTITIONERS",
    "PartitionAuto",
    "PartitionGreedy",
    "PartitionKernighanLin",
    "PartitionMetis",
    "PartitionOverlap",
    "PartitionTiles",
    "RequireRoom",
    "partition_passes",
]


def partition_passes(
    name: str, chips: int | None = None, optimise: str = "energy", effort: str = "normal"
) -> tuple[Pass, ...]:
    """The passes of a partitioner, behind the one that refuses what cannot fit.

    Args:
        name: one of `PARTITIONERS`.
        chips: chips that may be used; None: the target's own number.
        optimise: what `auto` and `overlap` aim at, see `PartitionOverlap`; the others know one aim.
        effort: ``high`` has `auto` and `overlap` try Mt-KaHyPar, too.

    Raises:
        NmcError: unknown name (exit 2).
    """
    searched, room = "high" if effort == "high" else "normal", RequireRoom(chips)
    match name:
        case "auto":
            return (room, PartitionAuto(chips, optimise, effort=searched))
        case "overlap":
            return (room, PartitionOverlap(optimise, effort=searched))
        case "tiles":
            return (room, PartitionTiles())
        case "greedy":
            return (room, PartitionGreedy())
        case "kernighan-lin":
            return (room, PartitionKernighanLin())
        case "metis":
            return (room, PartitionMetis())
    near = difflib.get_close_matches(name, PARTITIONERS, n=1)
    raise NmcError.single(
        "unknown-partitioner",
        f"partitioner '{name}' is not known",
        ExitCode.USAGE,
        help=f"did you mean '{near[0]}'?" if near else f"choose one of: {', '.join(PARTITIONERS)}",
    )
