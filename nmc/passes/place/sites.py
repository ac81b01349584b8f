"""The cores of a target that may be used, and whether the clusters find room on them."""

from __future__ import annotations

from nmc.hardware.target import Grid, Target
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST, Cluster, Partitioned, Place
from nmc.passes.place.shortage import too_many_cores


def sites(grid: Grid, chips: int) -> list[Place]:
    """Usable cores: chip by chip, tile by tile in rows, core by core."""
    unavailable = set(grid.unavailable_cores)
    found: list[Place] = []
    for chip in range(chips):
        number = 0
        for y in range(grid.tiles_y):
            for x in range(grid.tiles_x):
                for core in range(grid.cores_per_tile):
                    if number not in unavailable:
                        found.append(Place(chip, chip * grid.tiles_x + x, y, core))
                    number += 1
    return found


def host_place(grid: Grid) -> Place:
    """Where messages of the host enter and leave."""
    return Place(0, *grid.host_port)


def usable_sites(partitioned: Partitioned, target: Target, chips: int | None) -> list[Place]:
    """The sites of ``chips`` chips (None: the target's own number).

    Raises:
        NmcError: more chips are asked for than can be joined (exit 2), or there are more
            clusters than cores (exit 4), with the layers that take them and what would help.
    """
    grid = target.grid
    count = grid.chips if chips is None else chips
    if not 1 <= count <= grid.chips_max:
        raise NmcError.single(
            "chips-out-of-range",
            f"--chips {count} is outside 1 to {grid.chips_max}, what target '{target.name}' can join",
            ExitCode.USAGE,
            help=f"give --chips from 1 to {grid.chips_max}",
        )
    if partitioned.cores_used > count * grid.cores_per_chip:
        raise too_many_cores(partitioned, target, count)
    return sites(grid, count)


def on_chip(partitioned: Partitioned) -> list[Cluster]:
    """The clusters that need a core."""
    return [cluster for cluster in partitioned.clusters if cluster.id != HOST]
