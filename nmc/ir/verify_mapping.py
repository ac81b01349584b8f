"""Invariants of `Partitioned`, `Placed` and `Routed`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from nmc.ir.connectivity import Shape
from nmc.ir.mapping import HOST, Box, Cluster, Partitioned, Placed, Region, Route, Routed
from nmc.ir.network import Projection
from nmc.ir.origin import Origin
from nmc.ir.verify_connectivity import Finding


def mapping_findings(program: Partitioned) -> list[Finding]:
    """Ids, slices, axon groups, places and routes name what exists and stay inside it."""
    projections = {p.name: p for p in program.network.projections}
    findings: list[Finding] = []
    counts = Counter(c.id for c in program.clusters)
    findings.extend((f"{n} clusters have the id {i}", None) for i, n in counts.items() if n > 1)
    for cluster in program.clusters:
        origin = cluster.origins[0] if cluster.origins else None
        problems = [*_slice_problems(program, cluster), *_axon_problems(program, cluster, projections)]
        findings.extend((f"cluster {cluster.id}: {p}", origin) for p in problems)
    if not findings:
        findings.extend((message, origin) for message, origin in _coverage_problems(program))
    for name, rate in program.rates.items():
        if name not in program.network.by_name or not (np.isfinite(rate) and rate >= 0):
            findings.append((f"rate {rate} of '{name}' is no rate of a population", None))
    if isinstance(program, Placed):
        findings.extend((message, None) for message in _place_problems(program))
    if isinstance(program, Routed):
        for number, route in enumerate(program.routes):
            problems = list(_route_problems(program, route))
            findings.extend((f"route {number} ({route.source} to {route.destination}): {p}", None) for p in problems)
    return findings


def _box_fits(box: Box, shape: Shape) -> bool:
    return len(box) == len(shape) and all(
        len(axis) == 3 and 0 <= axis[0] < axis[1] <= n and axis[2] >= 1 for axis, n in zip(box, shape, strict=True)
    )


def _region_problems(region: Region, name: str, shape: Shape) -> Iterator[str]:
    if not region:
        yield f"its region of '{name}' is empty"
    for box in region:
        if not _box_fits(box, shape):
            yield f"box {box} leaves '{name}' of shape {shape}"


def _slice_problems(program: Partitioned, cluster: Cluster) -> Iterator[str]:
    if cluster.id < HOST:
        yield "ids count from 0; -1 is the host"
    if not cluster.slices:
        yield "holds no neurons"
    for item in cluster.slices:
        population = program.network.by_name.get(item.population)
        if population is None:
            yield f"slice of '{item.population}', which is no population"
        elif not _box_fits(item.box, population.shape):
            yield f"slice {item.box} leaves '{item.population}' of shape {population.shape}"


def _axon_problems(program: Partitioned, cluster: Cluster, projections: dict[str, Projection]) -> Iterator[str]:
    for axon in cluster.axons:
        projection = projections.get(axon.projection)
        if projection is None:
            yield f"axons of '{axon.projection}', which is no projection"
            continue
        if axon.delay < 1:
            yield f"axons of '{axon.projection}' with delay {axon.delay}, at least 1 is needed"
        source = program.network.by_name.get(projection.source)
        if source is not None:
            yield from _region_problems(axon.region, source.name, source.shape)
        if not 0 <= axon.slice < len(cluster.slices):
            yield f"axons of '{axon.projection}' drive slice {axon.slice} of {len(cluster.slices)}"
        elif cluster.slices[axon.slice].population != projection.target:
            found = cluster.slices[axon.slice].population
            yield f"axons of '{axon.projection}' drive '{found}' instead of '{projection.target}'"


def _coverage_problems(program: Partitioned) -> Iterator[tuple[str, Origin]]:
    """Every neuron lies in exactly one slice."""
    held = {p.name: np.zeros(p.shape, dtype=np.int32) for p in program.network.populations}
    for cluster in program.clusters:
        for item in cluster.slices:
            held[item.population][tuple(slice(*axis) for axis in item.box)] += 1
    for population in program.network.populations:
        count = held[population.name]
        absent, twice = int((count == 0).sum()), int((count > 1).sum())
        if absent or twice:
            yield (
                f"of the {population.neurons} neurons of '{population.name}' {absent} lie on no core "
                f"and {twice} on several",
                population.origin,
            )


def _place_problems(program: Placed) -> Iterator[str]:
    for cluster in program.clusters:
        if cluster.id not in program.places and cluster.id != HOST:
            yield f"cluster {cluster.id} has no place"
    taken: dict[tuple[int, int, int, int], int] = {}
    for number, place in program.places.items():
        if number not in program.by_id:
            yield f"a place is given for cluster {number}, which does not exist"
        if min(place.chip, place.x, place.y, place.core) < 0:
            yield f"cluster {number} lies at {place}"
        key = (place.chip, place.x, place.y, place.core)
        if number != HOST and key in taken:
            where = f"chip {place.chip} tile ({place.x}, {place.y}) core {place.core}"
            yield f"clusters {taken[key]} and {number} share {where}"
        if number != HOST:
            taken[key] = number


def _route_problems(program: Routed, route: Route) -> Iterator[str]:
    source = program.by_id.get(route.source)
    if source is None or route.destination not in program.by_id:
        yield "names a cluster that does not exist"
        return
    if not 0 <= route.slice < len(source.slices):
        yield f"names slice {route.slice} of {len(source.slices)}"
        return
    population = program.network.by_name.get(source.slices[route.slice].population)
    if population is not None:
        yield from _region_problems(route.region, population.name, population.shape)
    links = route.links
    for id, end, word in ((route.source, links[:1], "starts"), (route.destination, links[-1:], "ends")):
        place = program.places.get(id)
        if place is not None and id != HOST and end != ((place.x, place.y),):
            yield f"{word} at {end[0] if end else 'no tile'}, but cluster {id} lies at ({place.x}, {place.y})"
    for (ax, ay), (bx, by) in pairwise(links):
        if abs(ax - bx) + abs(ay - by) != 1:
            yield f"jumps from ({ax}, {ay}) to ({bx}, {by})"
