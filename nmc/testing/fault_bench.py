"""A mapping on the bench: seeded choices of its parts, and copies with one part exchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from nmc.ir.mapping import (
    HOST,
    AxonGroup,
    Box,
    Cluster,
    Place,
    Region,
    Route,
    Routed,
    Slice,
    region_mask,
)

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Bench:
    """A mapping, and seeded choices of its parts."""

    routed: Routed
    generator: np.random.Generator

    def pick(self, items: Sequence[Item]) -> Item | None:
        """One of the items, None if there are none."""
        return items[int(self.generator.integers(len(items)))] if items else None

    @property
    def cores(self) -> list[Cluster]:
        """Clusters on cores."""
        return [c for c in self.routed.clusters if c.id != HOST]

    def with_cluster(self, cluster: Cluster) -> Routed:
        """The mapping with one cluster exchanged for that of the same id."""
        clusters = tuple(cluster if c.id == cluster.id else c for c in self.routed.clusters)
        return replace(self.routed, clusters=clusters)

    def axon(self, suits: Callable[[AxonGroup], bool] = lambda axon: True) -> tuple[Cluster, int] | None:
        """A cluster and the index of one of its axon groups."""
        return self.pick([(c, i) for c in self.cores for i, a in enumerate(c.axons) if suits(a)])

    def with_axon(self, cluster: Cluster, index: int, *axons: AxonGroup) -> Routed:
        """The mapping with one axon group exchanged for others (or for none)."""
        return self.with_cluster(replace(cluster, axons=(*cluster.axons[:index], *axons, *cluster.axons[index + 1 :])))

    def with_slice(self, cluster: Cluster, index: int, piece: Slice) -> Routed:
        """The mapping with one slice exchanged."""
        slices = (*cluster.slices[:index], piece, *cluster.slices[index + 1 :])
        return self.with_cluster(replace(cluster, slices=slices))

    def route(self, suits: Callable[[Route], bool] = lambda route: True) -> int | None:
        """The index of a route."""
        return self.pick([i for i, r in enumerate(self.routed.routes) if suits(r)])

    def with_route(self, index: int, *routes: Route) -> Routed:
        """The mapping with one route exchanged for others (or for none)."""
        old = self.routed.routes
        return replace(self.routed, routes=(*old[:index], *routes, *old[index + 1 :]))

    def places(self, changed: dict[int, Place]) -> Routed:
        """The mapping with some clusters at other places, routes left as they were."""
        return replace(self.routed, places={**self.routed.places, **changed})

    def source_shape(self, axon: AxonGroup) -> tuple[int, ...]:
        """Shape of the population that an axon group hears."""
        projection = next(p for p in self.routed.network.projections if p.name == axon.projection)
        return self.routed.network.by_name[projection.source].shape

    def route_shape(self, route: Route) -> tuple[int, ...]:
        """Shape of the population that a route carries."""
        return self.routed.network.by_name[self.routed.by_id[route.source].slices[route.slice].population].shape


def lone(index: tuple[int, ...]) -> Box:
    """The box of one neuron."""
    return tuple((i, i + 1, 1) for i in index)


def without_first(region: Region, shape: tuple[int, ...]) -> Region:
    """A region less its first neuron."""
    mask = region_mask(region, shape)
    mask[tuple(np.argwhere(mask)[0])] = False
    return tuple(lone(tuple(int(i) for i in where)) for where in np.argwhere(mask))


def with_one_more(region: Region, shape: tuple[int, ...]) -> Region | None:
    """A region with a neuron that it lacks; None if it is everything."""
    outside = np.argwhere(~region_mask(region, shape))
    return (*region, lone(tuple(int(i) for i in outside[0]))) if len(outside) else None


def shifted(region: Region, shape: tuple[int, ...], by: int) -> Region | None:
    """A region moved along one axis; None where it would not move or would leave the shape."""
    for axis in reversed(range(len(shape))):
        moved = tuple(
            (*box[:axis], (box[axis][0] + by, box[axis][1] + by, box[axis][2]), *box[axis + 1 :]) for box in region
        )
        if all(box[axis][0] >= 0 and box[axis][1] <= shape[axis] for box in moved):
            return moved
    return None
