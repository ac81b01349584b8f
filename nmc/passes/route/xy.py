"""XY routing: first along x, then along y. One route per source slice and destination core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.ir.mapping import Place, Placed, Region, Route, Routed
from nmc.passes.base import Context, Program
from nmc.passes.partition.boxes import region_of
from nmc.passes.partition.traffic import senders


def xy_links(source: Place, destination: Place) -> tuple[tuple[int, int], ...]:
    """Tiles passed from source to destination, both included; one tile if it is the same."""
    x, y = source.x, source.y
    links = [(x, y)]
    while x != destination.x:
        x += 1 if destination.x > x else -1
        links.append((x, y))
    while y != destination.y:
        y += 1 if destination.y > y else -1
        links.append((x, y))
    return tuple(links)


@dataclass(frozen=True)
class RouteXY:
    """Route exactly the neurons that have an axon at a core, along x and then along y.

    Messages from the host to the host are routes too, of one tile; they are no packets.
    """

    name: ClassVar[str] = "route-xy"
    stage: ClassVar[str] = "route"
    consumes: ClassVar[type[Program]] = Placed
    produces: ClassVar[type[Program]] = Routed

    def run(self, program: Program, context: Context) -> Program:
        """Route all messages."""
        if not isinstance(program, Placed):
            raise TypeError(f"{self.name} needs a Placed")
        places = program.places
        routes = [
            Route(
                sender.source,
                sender.slice,
                _shifted(region_of(np.ascontiguousarray(sender.mask)), sender.box),
                sender.destination,
                xy_links(places[sender.source], places[sender.destination]),
            )
            for sender in senders(program)
        ]
        routes.sort(key=lambda route: (route.source, route.slice, route.destination))
        return Routed(program.network, program.clusters, program.rates, program.places, tuple(routes))


def _shifted(region: Region, box: tuple[tuple[int, int, int], ...]) -> Region:
    """A region counted within a box, in the coordinates of the population."""
    return tuple(
        tuple(
            (start + a * step, start + (b - 1) * step + 1, c * step)
            for (a, b, c), (start, _, step) in zip(inner, box, strict=True)
        )
        for inner in region
    )
