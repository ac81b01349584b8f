"""What routes carry: packets by core and by link, sent one by one or along trees, and entries of routing tables.

All paths go along x and then along y, so that the paths of one sender never part and meet again:
together they are a tree. A chip that copies messages at its routers sends one packet over each link
of the tree; one that does not (Loihi) sends one packet to each destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TypeVar

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.mapping import HOST, Box, Region, Route, Routed

Key = TypeVar("Key")
Tile = tuple[int, int]
Link = tuple[Tile, Tile]


@dataclass(frozen=True)
class Loads:
    """Packets of one inference, or whatever the spikes are counted over.

    Attributes:
        sent, received: by cluster id, the host's under -1; the own core's included.
        links: by link (from, to) between neighbouring tiles, a packet to each destination.
        trees: by link, a packet over each link of a message's tree.
        entries: by tile, slices of which some message passes it, starts or ends there: what a router
            would have to know to copy messages.
    """

    sent: Mapping[int, float]
    received: Mapping[int, float]
    links: Mapping[Link, float]
    trees: Mapping[Link, float]
    entries: Mapping[Tile, int]

    @property
    def packets(self) -> float:
        """All packets, one for each destination."""
        return float(sum(self.sent.values()))

    @property
    def hops_ew(self) -> float:
        """Links along x that packets cross."""
        return float(sum(load for ((ax, _), (bx, _)), load in self.links.items() if ax != bx))

    @property
    def hops_ns(self) -> float:
        """Links along y that packets cross."""
        return float(sum(load for ((_, ay), (_, by)), load in self.links.items() if ay != by))


def loads(routed: Routed, spikes: Mapping[str, Array]) -> Loads:
    """The loads of a mapping.

    Args:
        routed: with routes of which none says a neuron twice for one destination.
        spikes: by population, (*shape) messages of each neuron. Those of the host to itself are no packets.
    """
    sent: dict[int, float] = {}
    received: dict[int, float] = {}
    links: dict[Link, float] = {}
    trees: dict[Link, float] = {}
    entries: dict[Tile, int] = {}
    ordered = sorted(routed.routes, key=lambda route: (route.source, route.slice))
    for (source, index), several in groupby(ordered, key=lambda route: (route.source, route.slice)):
        routes = [route for route in several if not route.source == route.destination == HOST]
        piece = routed.by_id[source].slices[index]
        values = spikes[piece.population][_cut(piece.box)]
        for route in routes:
            packets = _within(values, piece.box, [route.region])
            _add(sent, source, packets)
            _add(received, route.destination, packets)
            for link in pairwise(route.links):
                _add(links, link, packets)
        for link, regions in _by_link(routes):
            _add(trees, link, _within(values, piece.box, regions))
        for tile in {tile for route in routes for tile in route.links}:
            entries[tile] = entries.get(tile, 0) + 1
    return Loads(sent, received, links, trees, entries)


def _add(sums: dict[Key, float], key: Key, amount: float) -> None:
    sums[key] = sums.get(key, 0.0) + amount


def _cut(box: Box) -> tuple[slice, ...]:
    return tuple(slice(*axis) for axis in box)


def _within(values: Array, piece: Box, regions: Iterable[Region]) -> float:
    """The sum of a slice's values over a union of regions, which are parts of the slice."""
    boxes = [box for region in regions for box in region]
    if len(boxes) == 1:
        return float(values[_inside(boxes[0], piece)].sum())
    mask = np.zeros(values.shape, dtype=np.bool_)
    for box in boxes:
        mask[_inside(box, piece)] = True
    return float(values[mask].sum())


def _inside(box: Box, piece: Box) -> tuple[slice, ...]:
    """A box of the population as an index of the slice's values."""
    return tuple(
        slice((start - first) // every, (range(start, stop, step)[-1] - first) // every + 1, max(step // every, 1))
        for (start, stop, step), (first, _, every) in zip(box, piece, strict=True)
    )


def _by_link(routes: list[Route]) -> Iterator[tuple[Link, list[Region]]]:
    """For every link of a slice's tree, the regions of the routes over it."""
    found: dict[Link, list[Region]] = {}
    for route in routes:
        for link in pairwise(route.links):
            found.setdefault(link, []).append(route.region)
    yield from found.items()
