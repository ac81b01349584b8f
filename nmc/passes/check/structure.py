"""Whether a mapping names only what exists, inside its bounds, and where everything sits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from nmc.hardware.target import Grid
from nmc.ir.connectivity import Shape
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import HOST, AxonGroup, Box, Cluster, Region, Route, Routed
from nmc.ir.network import Population, Projection
from nmc.ir.neurons import Source


def is_box(box: Box, shape: Shape) -> bool:
    """Whether a box is not empty and inside the shape."""
    return len(box) == len(shape) and all(
        0 <= start < stop <= n and step >= 1 for (start, stop, step), n in zip(box, shape, strict=True)
    )


def is_region(region: Region, shape: Shape) -> bool:
    """Whether a region has boxes, each inside the shape."""
    return bool(region) and all(is_box(box, shape) for box in region)


def belongs_on_host(population: Population) -> bool:
    """Whether the host sends or computes the population's messages."""
    return population.on_host or isinstance(population.neuron, Source)


class Parts:
    """The parts of a mapping that can be followed; what cannot is reported once, here."""

    def __init__(self, routed: Routed, sink: DiagnosticSink) -> None:
        self.routed, self.sink = routed, sink
        self.network = routed.network
        self.projections: dict[str, Projection] = {p.name: p for p in self.network.projections}
        for number, count in Counter(c.id for c in routed.clusters).items():
            if count > 1 or number < HOST:
                what = f"{count} clusters have the id {number}" if count > 1 else f"a cluster has the id {number}"
                sink.error("mapping-structure", what)
        self.clusters = {c.id: c for c in routed.clusters}
        self._bad_slices = {
            (c.id, index)
            for c in routed.clusters
            for index, piece in enumerate(c.slices)
            if piece.population not in self.network.by_name
            or not is_box(piece.box, self.network.by_name[piece.population].shape)
        }
        for number, index in sorted(self._bad_slices):
            piece = self.clusters[number].slices[index] if index < len(self.clusters[number].slices) else None
            sink.error("mapping-structure", f"core {number}: slice {index} {piece} is no part of a population")
        for cluster in routed.clusters:
            if len(cluster.origins) != len(cluster.slices):
                counts = f"{len(cluster.origins)} origins for {len(cluster.slices)} slices"
                sink.error("mapping-structure", f"core {cluster.id} has {counts}")
        self.axons = {c.id: [a for a in c.axons if self._axon_stands(c, a)] for c in routed.clusters}
        self.routes = [r for r in routed.routes if self._route_stands(r)]

    def slices(self, cluster: Cluster) -> Iterator[tuple[int, Population, Box]]:
        """Slice number, population and box of the slices that can be followed."""
        for index, piece in enumerate(cluster.slices):
            if (cluster.id, index) not in self._bad_slices:
                yield index, self.network.by_name[piece.population], piece.box

    def _slice_stands(self, cluster: Cluster, index: int) -> bool:
        return 0 <= index < len(cluster.slices) and (cluster.id, index) not in self._bad_slices

    def _axon_stands(self, cluster: Cluster, axon: AxonGroup) -> bool:
        projection = self.projections.get(axon.projection)
        problem = ""
        if projection is None:
            problem = "which does not exist"
        elif not self._slice_stands(cluster, axon.slice):
            problem = f"into slice {axon.slice}, which it does not have"
        elif cluster.slices[axon.slice].population != projection.target:
            problem = f"into slice {axon.slice}, which is of '{cluster.slices[axon.slice].population}'"
        elif not is_region(axon.region, self.network.by_name[projection.source].shape):
            problem = "whose region is empty or leaves the source"
        if problem:
            text = f"core {cluster.id} has axons of projection '{axon.projection}' {problem}"
            self.sink.error("mapping-structure", text, origin=projection.origin if projection else None)
        return not problem

    def _route_stands(self, route: Route) -> bool:
        source = self.clusters.get(route.source)
        problem = ""
        if source is None or route.destination not in self.clusters:
            problem = "has an end that does not exist"
        elif not self._slice_stands(source, route.slice):
            problem = f"is of slice {route.slice}, which core {route.source} does not have"
        elif not is_region(route.region, self.network.by_name[source.slices[route.slice].population].shape):
            problem = "has a region that is empty or leaves the source"
        if problem:
            ends = f"{route.source} to {route.destination}"
            self.sink.error("mapping-structure", f"the route from core {ends} {problem}")
        return not problem


def check_neurons(parts: Parts, sink: DiagnosticSink) -> None:
    """Every neuron lies on exactly one core; what the host computes lies there and nothing else does."""
    held = {p.name: np.zeros(p.shape, dtype=np.int32) for p in parts.network.populations}
    for cluster in parts.routed.clusters:
        for _, population, box in parts.slices(cluster):
            held[population.name][tuple(slice(*axis) for axis in box)] += 1
            if belongs_on_host(population) != (cluster.id == HOST):
                where = "the host" if cluster.id == HOST else f"core {cluster.id}"
                sink.error("mapping-host", f"'{population.name}' lies on {where}", origin=population.origin)
    for population in parts.network.populations:
        count = held[population.name]
        nowhere, twice = int((count == 0).sum()), int((count > 1).sum())
        if nowhere or twice:
            sink.error(
                "mapping-neuron",
                f"of the {population.neurons} neurons of '{population.name}' {nowhere} lie on no core and "
                f"{twice} on several",
                origin=population.origin,
            )


def check_places(parts: Parts, grid: Grid, sink: DiagnosticSink) -> None:
    """Every cluster has a core of its own that exists and may be used; the host sits at its port."""
    taken: dict[tuple[int, int, int], int] = {}
    for number, place in sorted(parts.routed.places.items()):
        where = f"chip {place.chip} tile ({place.x}, {place.y}) core {place.core}"
        if number not in parts.clusters:
            sink.error("mapping-place", f"{where} is given to cluster {number}, which does not exist")
        if number == HOST:
            if (place.x, place.y) != grid.host_port:
                sink.error("mapping-place", f"the host sits at {where}, its port is at {grid.host_port}")
            continue
        column = place.x - place.chip * grid.tiles_x
        inside = (
            0 <= place.chip < grid.chips_max
            and 0 <= column < grid.tiles_x
            and 0 <= place.y < grid.tiles_y
            and 0 <= place.core < grid.cores_per_tile
        )
        if not inside:
            sink.error("mapping-place", f"cluster {number} sits at {where}, which does not exist")
        elif (place.y * grid.tiles_x + column) * grid.cores_per_tile + place.core in grid.unavailable_cores:
            sink.error("mapping-place", f"cluster {number} sits at {where}, which is not available")
        key = (place.x, place.y, place.core)
        if key in taken:
            sink.error("mapping-place", f"clusters {taken[key]} and {number} both sit at {where}")
        taken[key] = number
    for number in parts.clusters.keys() - parts.routed.places.keys():
        sink.error("mapping-place", f"cluster {number} has no place")
