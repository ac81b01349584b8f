"""Whether axons and routes carry every synapse exactly once, and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import IndexArray, size
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Box, Place, Region, region_mask
from nmc.ir.network import Population
from nmc.passes.check.reach import Reach, reach
from nmc.passes.check.structure import Parts

Mask = NDArray[np.bool_]

Reaches = dict[tuple[int, int, str], Reach]
"""Recounted synapses by (cluster, slice, projection)."""


def count_reaches(parts: Parts) -> Reaches:
    """Synapses of every projection into every slice."""
    reaches: Reaches = {}
    for cluster in parts.routed.clusters:
        for index, population, box in parts.slices(cluster):
            targets = region_mask((box,), population.shape).reshape(-1)
            for projection in parts.network.incoming[population.name]:
                reaches[cluster.id, index, projection.name] = reach(projection.connectivity, targets)
    return reaches


def check_synapses(parts: Parts, reaches: Reaches, sink: DiagnosticSink) -> None:
    """Every synapse hangs on exactly one axon entry, every axon has a synapse, delays are the network's."""
    entries: dict[tuple[int, int, str], IndexArray] = {}
    for number, axons in parts.axons.items():
        for axon in axons:
            projection = parts.projections[axon.projection]
            shape = parts.network.by_name[projection.source].shape
            key = (number, axon.slice, axon.projection)
            entries.setdefault(key, np.zeros(size(shape), dtype=np.int64))
            entries[key] += region_mask(axon.region, shape).reshape(-1)
            if axon.delay != projection.delay:
                sink.error(
                    "mapping-delay",
                    f"core {number}: axons of '{axon.projection}' have delay {axon.delay}, the network's is "
                    f"{projection.delay}",
                    origin=projection.origin,
                )
    for key, found in reaches.items():
        number, index, name = key
        needed = found.per_source > 0
        covered = entries.get(key, np.zeros(len(needed), dtype=np.int64))
        dropped = int(found.per_source[covered == 0].sum())
        doubled = int(found.per_source[covered > 1].sum())
        idle = int((covered[~needed] > 0).sum())
        if dropped or doubled or idle:
            sink.error(
                "mapping-synapse",
                f"core {number}, slice {index}: of the {int(found.per_source.sum())} synapses of '{name}' {dropped} "
                f"have no axon and {doubled} have several; {idle} axons have no synapse",
                origin=parts.projections[name].origin,
            )


def heard(parts: Parts, number: int) -> dict[str, Mask]:
    """Neurons with an axon at a core: by source population, in its shape."""
    masks: dict[str, Mask] = {}
    for axon in parts.axons[number]:
        source = parts.network.by_name[parts.projections[axon.projection].source]
        mask = region_mask(axon.region, source.shape)
        masks[source.name] = masks[source.name] | mask if source.name in masks else mask
    return masks


def check_routes(parts: Parts, sink: DiagnosticSink) -> None:
    """Every neuron with an axon at a core has exactly one route there, and no other neuron has one."""
    carried: dict[tuple[int, int, int], list[Region]] = {}
    for route in parts.routes:
        carried.setdefault((route.source, route.slice, route.destination), []).append(route.region)
    for destination in parts.clusters:
        wanted = heard(parts, destination)
        for source in parts.routed.clusters:
            for index, population, box in parts.slices(source):
                regions = carried.get((source.id, index, destination), [])
                asked = wanted.get(population.name)
                if regions or asked is not None:
                    text = _route_problem(population, box, asked, regions)
                    if text:
                        ends = f"from slice {index} of core {source.id} to core {destination}"
                        sink.error("mapping-route", f"{ends}: {text}", origin=population.origin)


def _route_problem(population: Population, box: Box, asked: Mask | None, regions: list[Region]) -> str:
    """What is wrong with the routes of one slice to one core, or nothing."""
    shape = population.shape
    count = np.zeros(shape, dtype=np.int64)
    for region in regions:
        count += region_mask(region, shape)
    own = region_mask((box,), shape)
    needed = own if asked is None else asked & own
    if asked is None:
        needed = np.zeros(shape, dtype=np.bool_)
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
