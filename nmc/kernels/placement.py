"""Costs and swaps of a placement: hop-weighted packets, worked out incrementally."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray
from nmc.kernels.compiled import compiled

Mask = NDArray[np.bool_]
Int32s = NDArray[np.int32]

MIN_GAIN = 1e-9
"""A swap must save more than this fraction of the flows that it moves: ends cycles of rounding."""


class Task(NamedTuple):
    """What is placed, and where there is room.

    Attributes:
        starts: (clusters + 1,) int64 where the partners of each cluster begin.
        partners: int32, the clusters that it exchanges packets with, itself left out; each pair
            stands in the rows of both.
        weights: packets per step with that partner, both directions added, float64.
        to_host: (clusters,) float64 packets per step to and from the host's port.
        x, y: (sites,) int64 coordinates in which the distance of two sites is counted: tiles, where
            a chip crossing costs as much as a link, else further apart.
        port: coordinates of the host's port.
        column, row: (sites,) int64 tile of each site.
        tiles: (columns, rows, cores) int64 the site on each core of the mesh; -1: not to be used.
        region_of: (clusters,) int64 row of ``allowed`` of each cluster.
        allowed: (regions, sites) bool: the sites that a region holds.
    """

    starts: IndexArray
    partners: Int32s
    weights: Array
    to_host: Array
    x: IndexArray
    y: IndexArray
    port: tuple[int, int]
    column: IndexArray
    row: IndexArray
    tiles: IndexArray
    region_of: IndexArray
    allowed: Mask


@compiled(inline="always")
def _moved(
    starts: IndexArray, partners: Int32s, weights: Array, to_host: Array, port: tuple[int, int], px: Int32s, py: Int32s,
    cluster: int, stays: int, x: int, y: int,
) -> tuple[float, float]:  # fmt: skip
    """What a cluster's flows cost where it is, and at other coordinates; the flow with ``stays`` is left out."""
    ax, ay = px[cluster], py[cluster]
    now = to_host[cluster] * (abs(ax - port[0]) + abs(ay - port[1]))
    then = to_host[cluster] * (abs(x - port[0]) + abs(y - port[1]))
    for k in range(starts[cluster], starts[cluster + 1]):
        partner = partners[k]
        if partner != stays:
            now += weights[k] * (abs(ax - px[partner]) + abs(ay - py[partner]))
            then += weights[k] * (abs(x - px[partner]) + abs(y - py[partner]))
    return now, then


@compiled(inline="always")
def saved(
    starts: IndexArray, partners: Int32s, weights: Array, to_host: Array, port: tuple[int, int], px: Int32s, py: Int32s,
    cluster: int, other: int, x: int, y: int,
) -> tuple[float, float]:  # fmt: skip
    """What is saved if a cluster goes to other coordinates and ``other``, if any (-1), comes back for it.

    Args:
        starts: as `Task` has it, as the four that follow.
        partners: see there.
        weights: see there.
        to_host: see there.
        port: see there.
        px: (clusters,) coordinate of each cluster.
        py: (clusters,) coordinate of each cluster.
        cluster: that moves.
        other: who sits there.
        x: coordinate of the site.
        y: coordinate of the site.

    Returns:
        what is saved, and the cost before and after of all that is moved.
    """
    # The flow between the two does not change.
    now, then = _moved(starts, partners, weights, to_host, port, px, py, cluster, other, x, y)
    if other >= 0:
        back_now, back_then = _moved(
            starts, partners, weights, to_host, port, px, py, other, cluster, px[cluster], py[cluster]
        )
        now += back_now
        then += back_then
    return now - then, now + then


@compiled(inline="always")
def may_swap(region_of: IndexArray, allowed: Mask, cluster: int, here: int, other: int, site: int) -> bool:
    """Whether a cluster may go to ``site`` and ``other``, if any (-1), come back for it."""
    there: bool = allowed[region_of[cluster], site]
    back: bool = other < 0 or allowed[region_of[other], here]
    return there and back


@compiled()
def seats(t: Task, site_of: IndexArray) -> tuple[Int32s, Int32s, Int32s]:
    """(sites,) the cluster on each site, -1: none; (clusters,) both coordinates of each cluster."""
    holds = np.full(len(t.x), -1, dtype=np.int32)
    for cluster in range(len(site_of)):
        holds[site_of[cluster]] = cluster
    return holds, t.x[site_of].astype(np.int32), t.y[site_of].astype(np.int32)


@compiled(inline="always")
def swap(site_of: IndexArray, holds: Int32s, px: Int32s, py: Int32s, cluster: int, site: int, x: int, y: int) -> None:
    """Put a cluster on ``site``, which has the coordinates; who sits there comes back for it."""
    here, other = site_of[cluster], holds[site]
    holds[here] = other
    if other >= 0:
        site_of[other] = here
        px[other], py[other] = px[cluster], py[cluster]
    holds[site] = cluster
    site_of[cluster] = site
    px[cluster], py[cluster] = x, y


@compiled()
def _middle(t: Task, site_of: IndexArray, cluster: int) -> tuple[int, int]:
    """The tile at the mean of a cluster's partners, weighted by packets; its own if it has none."""
    column, row, total = 0.0, 0.0, 0.0
    for k in range(t.starts[cluster], t.starts[cluster + 1]):
        there = site_of[t.partners[k]]
        column += t.weights[k] * t.column[there]
        row += t.weights[k] * t.row[there]
        total += t.weights[k]
    if total <= 0.0:
        here = site_of[cluster]
        return t.column[here], t.row[here]
    return int(column / total + 0.5), int(row / total + 0.5)


@compiled()
def _best_near(
    t: Task, site_of: IndexArray, holds: Int32s, px: Int32s, py: Int32s,
    cluster: int, column: int, row: int, reach: int, least: float,
) -> tuple[int, float]:  # fmt: skip
    """The site within ``reach`` tiles of a tile that saves most, more than ``least``; -1: none."""
    starts, partners, weights, to_host, port = t.starts, t.partners, t.weights, t.to_host, t.port
    tiles, x, y, region_of, allowed = t.tiles, t.x, t.y, t.region_of, t.allowed
    here = site_of[cluster]
    own_column, own_row = t.column[here], t.row[here]
    best, gain = -1, least
    columns, rows, cores = tiles.shape
    for c in range(max(column - reach, 0), min(column + reach + 1, columns)):
        for r in range(max(row - reach, 0), min(row + reach + 1, rows)):
            if c == own_column and r == own_row:
                continue
            for core in range(cores):
                site = tiles[c, r, core]
                if site < 0 or not may_swap(region_of, allowed, cluster, here, holds[site], site):
                    continue
                found, moves = saved(
                    starts, partners, weights, to_host, port, px, py, cluster, holds[site], x[site], y[site]
                )
                if found > MIN_GAIN * moves and found > gain:
                    best, gain = site, found
    return best, gain


@compiled()
def swap_climb(t: Task, site_of: IndexArray, order: IndexArray, sweeps: int, reach: int) -> int:
    """Swap clusters between sites (occupied or empty) as long as that lowers the cost.

    One sweep visits the clusters in ``order`` and moves each to the site that saves most,
    swapping with the cluster that sits there. Stops after a sweep without a swap.

    Args:
        t: task.
        site_of: (clusters,) int64 site of each cluster, in its region; changed in place.
        order: (clusters,) int64 permutation.
        sweeps: at most so many.
        reach: sites are tried so many tiles around the cluster, and around the middle of its partners.

    Returns:
        number of swaps made.
    """
    holds, px, py = seats(t, site_of)
    columns, rows, _ = t.tiles.shape
    everywhere = reach >= columns and reach >= rows
    swaps = 0
    for _ in range(sweeps):
        before = swaps
        for cluster in order:
            column, row = t.column[site_of[cluster]], t.row[site_of[cluster]]
            site, gain = _best_near(t, site_of, holds, px, py, cluster, column, row, reach, 0.0)
            if not everywhere:
                column, row = _middle(t, site_of, cluster)
                other, _ = _best_near(t, site_of, holds, px, py, cluster, column, row, reach, gain)
                site = site if other < 0 else other
            if site >= 0:
                swap(site_of, holds, px, py, cluster, site, t.x[site], t.y[site])
                swaps += 1
        if swaps == before:
            break
    return swaps


@compiled()
def placement_costs(t: Task, sites_of: IndexArray) -> Array:
    """(placements,) hop-weighted packets per step of each row of ``sites_of`` (placements, clusters)."""
    costs = np.zeros(len(sites_of))
    for number in range(len(sites_of)):
        site_of = sites_of[number]
        total = 0.0
        for cluster in range(sites_of.shape[1]):
            here = site_of[cluster]
            total += t.to_host[cluster] * (abs(t.x[here] - t.port[0]) + abs(t.y[here] - t.port[1]))
            for k in range(t.starts[cluster], t.starts[cluster + 1]):
                there = site_of[t.partners[k]]
                # Every flow between two clusters stands in the rows of both.
                total += 0.5 * t.weights[k] * (abs(t.x[here] - t.x[there]) + abs(t.y[here] - t.y[there]))
        costs[number] = total
    return costs
