"""Bugs in the partition, place and route stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.mapping import HOST, AxonGroup, Cluster, Partitioned, Placed
from nmc.ir.network import Network
from nmc.passes.partition.auto import PartitionAuto
from nmc.passes.partition.demand import DemandModel
from nmc.passes.place.auto import PlaceAuto
from nmc.passes.place.row_major import PlaceRowMajor
from nmc.passes.route.xy import RouteXY
from tests.planted.planting import Bug, Patches


def _clusters(changed: Callable[[Cluster], Cluster]) -> Callable[[Patches], None]:
    """The first core whose cluster changes is the one with the bug."""

    def made(partitioned: Partitioned) -> Partitioned:
        clusters, done = [], False
        for cluster in partitioned.clusters:
            other = cluster if done or cluster.id == HOST else changed(cluster)
            done = done or other is not cluster
            clusters.append(other)
        return replace(partitioned, clusters=tuple(clusters))

    return lambda patches: patches.change(PartitionAuto, "run", made)


def _axons(changed: Callable[[tuple[AxonGroup, ...]], tuple[AxonGroup, ...]]) -> Callable[[Patches], None]:
    return _clusters(lambda c: replace(c, axons=changed(c.axons)) if changed(c.axons) != c.axons else c)


def _smaller(group: AxonGroup) -> AxonGroup:
    """The region without its last row."""
    box = group.region[-1]
    axis = next((a for a, (start, stop, step) in enumerate(box) if stop - start > step), None)
    if axis is None:
        return group
    cut = tuple((s, e - st if a == axis else e, st) for a, (s, e, st) in enumerate(box))
    return replace(group, region=(*group.region[:-1], cut))


def _overfull(patches: Patches) -> None:
    """Twice the neurons that a core holds are taken for allowed."""
    original = DemandModel.of

    def of(network: Network, target: Target, rates: Mapping[str, float]) -> DemandModel:
        assert target.core.neurons is not None
        core = replace(target.core, neurons=2 * target.core.neurons)
        return original(network, replace(target, core=core), rates)

    patches.put(DemandModel, "of", staticmethod(of))


def _placed(changed: Callable[[Placed], Placed]) -> Callable[[Patches], None]:
    def plant(patches: Patches) -> None:
        for step in (PlaceAuto, PlaceRowMajor):
            patches.change(step, "run", changed)

    return plant


def _on_chip(placed: Placed) -> list[int]:
    return sorted(number for number in placed.places if number != HOST)


def _shared_core(placed: Placed) -> Placed:
    first, second = _on_chip(placed)[:2]
    return replace(placed, places={**placed.places, second: placed.places[first]})


def _off_the_mesh(placed: Placed) -> Placed:
    first = _on_chip(placed)[0]
    return replace(placed, places={**placed.places, first: replace(placed.places[first], x=999)})


def _lost_cluster(placed: Placed) -> Placed:
    gone = _on_chip(placed)[-1]
    return replace(
        placed,
        clusters=tuple(c for c in placed.clusters if c.id != gone),
        places={number: place for number, place in placed.places.items() if number != gone},
    )


def _routes(changed: Any) -> Callable[[Patches], None]:
    def plant(patches: Patches) -> None:
        patches.change(RouteXY, "run", lambda routed: replace(routed, routes=tuple(changed(list(routed.routes)))))

    return plant


def _without(routes: list[Any]) -> list[Any]:
    return routes[:-1]


def _twice(routes: list[Any]) -> list[Any]:
    return [*routes, routes[-1]]


def _elsewhere(routes: list[Any]) -> list[Any]:
    last = routes[-1]
    other = next(r.destination for r in routes if r.destination not in (last.destination, last.source))
    links = next(r.links[-1:] for r in routes if r.destination == other)
    return [*routes[:-1], replace(last, destination=other, links=(*last.links[:1], *links))]


def _first_half(routes: list[Any]) -> list[Any]:
    changed, done = [], False
    for route in routes:
        box = route.region[0]
        axis = int(np.argmax([stop - start for start, stop, _ in box]))
        start, stop, step = box[axis]
        if not done and stop - start > 2 * step:
            box = tuple((s, (s + e) // 2 if a == axis else e, st) for a, (s, e, st) in enumerate(box))
            route, done = replace(route, region=(box, *route.region[1:])), True
        changed.append(route)
    return changed


def _straight(routes: list[Any]) -> list[Any]:
    """Along y first."""

    def turned(route: Any) -> Any:
        (ax, ay), (bx, by) = route.links[0], route.links[-1]
        along_y = [(ax, y) for y in range(ay, by, 1 if by > ay else -1)]
        along_x = [(x, by) for x in range(ax, bx, 1 if bx > ax else -1)]
        return replace(route, links=(*along_y, *along_x, (bx, by)))

    return [turned(route) for route in routes]


PARTITION = (
    Bug("axons of one projection missing on a core", "partition", "many-cores", _axons(lambda axons: axons[:-1])),
    Bug(
        "axons of one projection twice on a core", "partition", "many-cores", _axons(lambda axons: (*axons, axons[-1]))
    ),
    Bug(
        "axon region without its last row",
        "partition",
        "many-cores",
        _axons(lambda axons: (_smaller(axons[0]), *axons[1:])),
    ),
    Bug(
        "axon delay one step too long",
        "partition",
        "many-cores",
        _axons(lambda axons: (replace(axons[0], delay=axons[0].delay + 1), *axons[1:])),
    ),
    Bug(
        "last slice of a core lost",
        "partition",
        "many-cores",
        _clusters(
            lambda c: (
                replace(
                    c,
                    slices=c.slices[:-1],
                    origins=c.origins[:-1],
                    axons=tuple(a for a in c.axons if a.slice < len(c.slices) - 1),
                )
                if len(c.slices) > 1
                else c
            )
        ),
    ),
    Bug("cores take twice the neurons that they hold", "partition", "many-cores", _overfull),
)

PLACE = (
    Bug("two clusters on one core", "place", "many-cores", _placed(_shared_core)),
    Bug("a cluster off the mesh", "place", "many-cores", _placed(_off_the_mesh)),
    Bug("a cluster lost while placing", "place", "many-cores", _placed(_lost_cluster)),
)

ROUTE = (
    Bug("a destination missing", "route", "many-cores", _routes(_without)),
    Bug("a route twice", "route", "many-cores", _routes(_twice)),
    Bug("a route to the wrong core", "route", "many-cores", _routes(_elsewhere)),
    Bug("a route for half of its neurons", "route", "many-cores", _routes(_first_half)),
    Bug("links along y before x", "route", "many-cores", _routes(_straight)),
)
