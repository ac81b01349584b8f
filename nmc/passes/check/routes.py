"""Whether routes lead exactly where axons wait, along the walk that the mesh takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Box, Cluster, Place, Region, Route
from nmc.ir.network import Population
from nmc.passes.check.structure import Parts
from nmc.passes.check.window import Window, holds_axis, times_held

Mask = NDArray[np.bool_]

Held = Mapping[str, tuple[Window, Mask]]
"""Neurons with an axon at a core: by source population, a window and which of its neurons."""


def heard(parts: Parts, cluster: Cluster) -> Held:
    """Neurons with an axon at a core."""
    regions: dict[str, list[Region]] = {}
    for axon in parts.axons[cluster.id]:
        regions.setdefault(parts.projections[axon.projection].source, []).append(axon.region)
    found = {}
    for name, several in regions.items():
        window = Window.around([box for region in several for box in region])
        mask = np.zeros(window.shape, dtype=np.bool_)
        for region in several:
            for box in region:
                mask[window.cut(box)] = True
        found[name] = (window, mask)
    return found


def check_routes(
    parts: Parts, destination: Cluster, wanted: Held, routes: Sequence[Route], sink: DiagnosticSink
) -> None:
    """Every neuron with an axon at a core has exactly one route there, and no other neuron has one.

    The routes to the core are added up first, population by population; slices, which hold every
    neuron once, are looked at one by one only where the sum is wrong or a route leaves its slice.

    Args:
        parts: the mapping.
        destination: the core.
        wanted: of `heard`.
        routes: all routes to the core.
        sink: takes the findings.
    """
    carried: dict[str, list[Route]] = {}
    for route in routes:
        carried.setdefault(parts.clusters[route.source].slices[route.slice].population, []).append(route)
    for name in {**wanted, **carried}:
        found = carried.get(name, [])
        if _astray(parts, found) or not _carries(wanted.get(name), [route.region for route in found]):
            _report(parts, destination, name, wanted.get(name), found, sink)


def _astray(parts: Parts, routes: Sequence[Route]) -> bool:
    """Whether a route carries neurons that are not in its slice."""
    for route in routes:
        piece = parts.clusters[route.source].slices[route.slice].box
        for box in route.region:
            if not all(holds_axis(outer, inner) for outer, inner in zip(piece, box, strict=True)):
                return True
    return False


def _carries(asked: tuple[Window, Mask] | None, regions: Sequence[Region]) -> bool:
    """Whether the regions hold exactly the neurons that are asked for, each once."""
    if asked is None or not regions:
        return not regions and asked is None
    window, mask = asked
    grown = window.with_boxes([box for region in regions for box in region])
    return grown == window and bool(np.array_equal(times_held(regions, window), mask))


def _report(
    parts: Parts,
    destination: Cluster,
    name: str,
    asked: tuple[Window, Mask] | None,
    routes: Sequence[Route],
    sink: DiagnosticSink,
) -> None:
    """What is wrong with the routes of every slice of a population to one core."""
    population = parts.network.by_name[name]
    for source in parts.routed.clusters:
        for index, held, box in parts.slices(source):
            if held is population:
                regions = [route.region for route in routes if (route.source, route.slice) == (source.id, index)]
                text = _route_problem(population, box, asked, regions)
                if text:
                    ends = f"from slice {index} of core {source.id} to core {destination.id}"
                    sink.error("mapping-route", f"{ends}: {text}", origin=population.origin)


def _route_problem(
    population: Population, box: Box, asked: tuple[Window, Mask] | None, regions: Sequence[Region]
) -> str:
    """What is wrong with the routes of one slice to one core, or nothing."""
    window = Window.around([box, *(inner for region in regions for inner in region)])
    needed = np.zeros(window.shape, dtype=np.bool_)
    if asked is not None:
        whole = np.zeros(population.shape, dtype=np.bool_)
        whole[tuple(slice(a, b) for a, b in zip(asked[0].low, asked[0].high, strict=True))] = asked[1]
        needed[window.cut(box)] = whole[tuple(slice(*axis) for axis in box)]
    count = times_held(regions, window)
    stolen, twice = int((count[needed] == 0).sum()), int((count[needed] > 1).sum())
    surplus = int((count[~needed] > 0).sum())
    if not (stolen or twice or surplus):
        return ""
    return (
        f"{stolen} neurons of '{population.name}' have axons and no route, {twice} have several routes, "
        f"{surplus} have a route and no axon"
    )


def check_links(parts: Parts, sink: DiagnosticSink) -> None:
    """Every route walks from tile to tile, along x and then along y, from its source to its destination."""
    for route in parts.routes:
        ends = parts.routed.places.get(route.source), parts.routed.places.get(route.destination)
        if ends[0] is None or ends[1] is None:
            continue  # Reported as a cluster without a place.
        expected = _walk(ends[0], ends[1])
        if list(route.links) != expected:
            sink.error(
                "mapping-path",
                f"the route from core {route.source} to core {route.destination} passes {list(route.links)}, the walk "
                f"along x and then y is {expected}",
            )


def _walk(source: Place, destination: Place) -> list[tuple[int, int]]:
    along_x = range(source.x, destination.x, 1 if destination.x > source.x else -1)
    along_y = range(source.y, destination.y, 1 if destination.y > source.y else -1)
    corner = [(x, source.y) for x in along_x]
    return [*corner, *((destination.x, y) for y in along_y), (destination.x, destination.y)]
