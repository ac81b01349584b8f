"""Faults of routes and places: messages that go astray, and cores that are not where they should be."""

from __future__ import annotations

from dataclasses import replace

from nmc.ir.mapping import HOST, Place, Routed, region_mask
from nmc.testing.fault_bench import Bench, shifted, with_one_more, without_first


def stolen_route(bench: Bench) -> Routed | None:
    """A route entry is missing."""
    index = bench.route()
    return None if index is None else bench.with_route(index)


def doubled_route(bench: Bench) -> Routed | None:
    """A route entry stands twice: messages arrive twice."""
    index = bench.route()
    return None if index is None else bench.with_route(index, *[bench.routed.routes[index]] * 2)


def shrunk_route(bench: Bench) -> Routed | None:
    """One neuron lost its route."""
    index = bench.route(lambda r: int(region_mask(r.region, bench.route_shape(r)).sum()) > 1)
    if index is None:
        return None
    route = bench.routed.routes[index]
    return bench.with_route(index, replace(route, region=without_first(route.region, bench.route_shape(route))))


def grown_route(bench: Bench) -> Routed | None:
    """A neuron has a route to a core that does not hear it."""
    index = bench.route(lambda r: with_one_more(r.region, bench.route_shape(r)) is not None)
    if index is None:
        return None
    route = bench.routed.routes[index]
    region = with_one_more(route.region, bench.route_shape(route))
    return None if region is None else bench.with_route(index, replace(route, region=region))


def shifted_route(bench: Bench) -> Routed | None:
    """A route carries the neurons beside those that it should."""
    options = [
        (i, moved)
        for i, r in enumerate(bench.routed.routes)
        for by in (1, -1)
        if (moved := shifted(r.region, bench.route_shape(r), by)) is not None
    ]
    found = bench.pick(options)
    return (
        None if found is None else bench.with_route(found[0], replace(bench.routed.routes[found[0]], region=found[1]))
    )


def wrong_destination(bench: Bench) -> Routed | None:
    """A route leads to another core."""
    index = bench.route()
    if index is None:
        return None
    route = bench.routed.routes[index]
    other = bench.pick([c.id for c in bench.cores if c.id != route.destination])
    return None if other is None else bench.with_route(index, replace(route, destination=other))


def wrong_source(bench: Bench) -> Routed | None:
    """A route starts from another core."""
    index = bench.route()
    if index is None:
        return None
    route = bench.routed.routes[index]
    other = bench.pick([c.id for c in bench.cores if c.id != route.source])
    return None if other is None else bench.with_route(index, replace(route, source=other))


def route_of_unknown_slice(bench: Bench) -> Routed | None:
    """A route of a slice that its core does not have."""
    index = bench.route()
    if index is None:
        return None
    return bench.with_route(index, replace(bench.routed.routes[index], slice=99))


def cut_path(bench: Bench) -> Routed | None:
    """A path jumps over a tile."""
    index = bench.route(lambda r: len(r.links) > 2)
    if index is None:
        return None
    route = bench.routed.routes[index]
    at = int(bench.generator.integers(1, len(route.links) - 1))
    return bench.with_route(index, replace(route, links=(*route.links[:at], *route.links[at + 1 :])))


def empty_path(bench: Bench) -> Routed | None:
    """A route without a path."""
    index = bench.route()
    return None if index is None else bench.with_route(index, replace(bench.routed.routes[index], links=()))


def detour(bench: Bench) -> Routed | None:
    """A path goes one tile back and forth."""
    index = bench.route(lambda r: len(r.links) > 1)
    if index is None:
        return None
    route = bench.routed.routes[index]
    return bench.with_route(index, replace(route, links=(*route.links[:2], *route.links)))


def backward_path(bench: Bench) -> Routed | None:
    """A path leads from the destination to the source."""
    index = bench.route(lambda r: len(r.links) > 1)
    if index is None:
        return None
    route = bench.routed.routes[index]
    return bench.with_route(index, replace(route, links=route.links[::-1]))


def y_before_x(bench: Bench) -> Routed | None:
    """A path goes along y first: legal steps, but such routes may deadlock."""
    index = bench.route(lambda r: len({x for x, _ in r.links}) > 1 and len({y for _, y in r.links}) > 1)
    if index is None:
        return None
    route = bench.routed.routes[index]
    (x0, y0), (x1, y1) = route.links[0], route.links[-1]
    step_x, step_y = (1 if x1 > x0 else -1), (1 if y1 > y0 else -1)
    links = [(x0, y) for y in range(y0, y1, step_y)] + [(x, y1) for x in range(x0, x1 + step_x, step_x)]
    return bench.with_route(index, replace(route, links=tuple(links)))


def path_too_long(bench: Bench) -> Routed | None:
    """A path goes one tile beyond its destination."""
    index = bench.route()
    if index is None:
        return None
    route = bench.routed.routes[index]
    x, y = route.links[-1]
    return bench.with_route(index, replace(route, links=(*route.links, (x + 1, y))))


def swapped_places(bench: Bench) -> Routed | None:
    """Two cores on different tiles change places; routes lead where they led before."""
    places = bench.routed.places
    connected = {n for r in bench.routed.routes for n in (r.source, r.destination)}
    found = bench.pick(
        [
            (a.id, b.id)
            for a in bench.cores
            for b in bench.cores
            if a.id < b.id
            and {a.id, b.id} & connected
            and (places[a.id].x, places[a.id].y) != (places[b.id].x, places[b.id].y)
        ]
    )
    return None if found is None else bench.places({found[0]: places[found[1]], found[1]: places[found[0]]})


def shared_place(bench: Bench) -> Routed | None:
    """Two clusters sit on one core."""
    found = bench.pick([(a.id, b.id) for a in bench.cores for b in bench.cores if a.id < b.id])
    return None if found is None else bench.places({found[0]: bench.routed.places[found[1]]})


def place_off_the_mesh(bench: Bench) -> Routed | None:
    """A core that does not exist."""
    cluster = bench.pick(bench.cores)
    if cluster is None:
        return None
    place = bench.routed.places[cluster.id]
    return bench.places({cluster.id: replace(place, core=place.core + 1000)})


def wrong_chip(bench: Bench) -> Routed | None:
    """The chip is not the one that the tile belongs to."""
    cluster = bench.pick(bench.cores)
    if cluster is None:
        return None
    place = bench.routed.places[cluster.id]
    return bench.places({cluster.id: replace(place, chip=place.chip + 1)})


def missing_place(bench: Bench) -> Routed | None:
    """A cluster has no place."""
    cluster = bench.pick(bench.cores)
    if cluster is None:
        return None
    kept = {number: place for number, place in bench.routed.places.items() if number != cluster.id}
    return replace(bench.routed, places=kept)


def moved_host(bench: Bench) -> Routed | None:
    """The host sits somewhere else than at its port."""
    if HOST not in bench.routed.places:
        return None
    place = bench.routed.places[HOST]
    return bench.places({HOST: Place(place.chip, place.x + 1, place.y, place.core)})
