"""Hill climbing of a placement by swaps, with the change of cost worked out incrementally."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmc.ir.connectivity import Array, IndexArray

MIN_GAIN = 1e-9
"""A swap must save more than this fraction of the flows that it moves: ends cycles of rounding."""


@njit(cache=True)
def _cost_at(
    cluster: int,
    site: int,
    other: int,
    other_site: int,
    starts: IndexArray,
    partners: IndexArray,
    weights: Array,
    pinned: Array,
    site_of: IndexArray,
    x: IndexArray,
    y: IndexArray,
    port: tuple[int, int],
) -> float:
    """Hop-weighted packets of one cluster if it sat on ``site`` and ``other`` on ``other_site``."""
    total: float = pinned[cluster] * (abs(x[site] - port[0]) + abs(y[site] - port[1]))
    for k in range(starts[cluster], starts[cluster + 1]):
        partner = partners[k]
        there = other_site if partner == other else site_of[partner]
        total += weights[k] * (abs(x[site] - x[there]) + abs(y[site] - y[there]))
    return total


@njit(cache=True)
def swap_climb(
    site_of: IndexArray,
    starts: IndexArray,
    partners: IndexArray,
    weights: Array,
    pinned: Array,
    x: IndexArray,
    y: IndexArray,
    port: tuple[int, int],
    order: IndexArray,
    max_sweeps: int,
) -> int:
    """Swap clusters between sites (occupied or empty) as long as that lowers the cost.

    One sweep visits the clusters in ``order`` and moves each to the site that saves most,
    swapping with the cluster that sits there. Stops after a sweep without a swap.

    Args:
        site_of: (clusters,) int64 site of each cluster; changed in place.
        starts: (clusters + 1,) int64 where the partners of each cluster begin.
        partners: the clusters that it exchanges packets with, itself left out; each pair stands
            in the rows of both.
        weights: packets per step with that partner, both directions added, float64.
        pinned: (clusters,) float64 packets per step to and from the host's port.
        x: (sites,) int64 tile column.
        y: (sites,) int64 tile row.
        port: tile of the host's port.
        order: (clusters,) int64 permutation.
        max_sweeps: budget.

    Returns:
        number of swaps made.
    """
    sites = len(x)
    holds = np.full(sites, -1, dtype=np.int64)
    for cluster in range(len(site_of)):
        holds[site_of[cluster]] = cluster
    swaps = 0
    for _ in range(max_sweeps):
        moved = False
        for cluster in order:
            here = site_of[cluster]
            now = _cost_at(cluster, here, -1, -1, starts, partners, weights, pinned, site_of, x, y, port)
            best_gain = 0.0
            best_site = -1
            for site in range(sites):
                if x[site] == x[here] and y[site] == y[here]:
                    continue
                other = holds[site]
                then = _cost_at(cluster, site, other, here, starts, partners, weights, pinned, site_of, x, y, port)
                gain = now - then
                moves = now + then
                if other >= 0:
                    # The flow between the two is in both sums and does not change.
                    other_now = _cost_at(other, site, -1, -1, starts, partners, weights, pinned, site_of, x, y, port)
                    other_then = _cost_at(
                        other, here, cluster, site, starts, partners, weights, pinned, site_of, x, y, port
                    )
                    gain += other_now - other_then
                    moves += other_now + other_then
                if gain > MIN_GAIN * moves and gain > best_gain:
                    best_gain = gain
                    best_site = site
            if best_site >= 0:
                other = holds[best_site]
                holds[here] = other
                if other >= 0:
                    site_of[other] = here
                holds[best_site] = cluster
                site_of[cluster] = best_site
                swaps += 1
                moved = True
        if not moved:
            break
    return swaps


def placement_cost(
    site_of: IndexArray,
    starts: IndexArray,
    partners: IndexArray,
    weights: Array,
    pinned: Array,
    x: IndexArray,
    y: IndexArray,
    port: tuple[int, int],
) -> float:
    """Hop-weighted packets per step of a placement; arguments as for `swap_climb`."""
    own_x, own_y = x[site_of], y[site_of]
    clusters = np.repeat(np.arange(len(site_of)), np.diff(starts))
    distance = np.abs(own_x[clusters] - own_x[partners]) + np.abs(own_y[clusters] - own_y[partners])
    to_port = np.abs(own_x - port[0]) + np.abs(own_y - port[1])
    # Every flow between two clusters stands in the rows of both.
    return float((weights * distance).sum() / 2 + (pinned * to_port).sum())
