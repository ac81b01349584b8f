"""Hill climbing and annealing of a placement by swaps, with the change of cost worked out incrementally."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray

Mask = NDArray[np.bool_]

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
    to_host: Array,
    site_of: IndexArray,
    x: IndexArray,
    y: IndexArray,
    port: tuple[int, int],
) -> float:
    """Hop-weighted packets of one cluster if it sat on ``site`` and ``other`` on ``other_site``."""
    total: float = to_host[cluster] * (abs(x[site] - port[0]) + abs(y[site] - port[1]))
    for k in range(starts[cluster], starts[cluster + 1]):
        partner = partners[k]
        there = other_site if partner == other else site_of[partner]
        total += weights[k] * (abs(x[site] - x[there]) + abs(y[site] - y[there]))
    return total


@njit(cache=True)
def _saved(
    cluster: int,
    site: int,
    other: int,
    starts: IndexArray,
    partners: IndexArray,
    weights: Array,
    to_host: Array,
    site_of: IndexArray,
    x: IndexArray,
    y: IndexArray,
    port: tuple[int, int],
) -> tuple[float, float]:
    """What is saved if a cluster goes to ``site`` and ``other``, if any (-1), comes back for it.

    The second number is the cost before and after of all that is moved.
    """
    here = site_of[cluster]
    now = _cost_at(cluster, here, -1, -1, starts, partners, weights, to_host, site_of, x, y, port)
    then = _cost_at(cluster, site, other, here, starts, partners, weights, to_host, site_of, x, y, port)
    gain, moves = now - then, now + then
    if other >= 0:
        # The flow between the two is in both sums and does not change.
        other_now = _cost_at(other, site, -1, -1, starts, partners, weights, to_host, site_of, x, y, port)
        other_then = _cost_at(other, here, cluster, site, starts, partners, weights, to_host, site_of, x, y, port)
        gain += other_now - other_then
        moves += other_now + other_then
    return gain, moves


@njit(cache=True)
def _may_swap(cluster: int, here: int, other: int, site: int, region_of: IndexArray, allowed: Mask) -> bool:
    """Whether a cluster may go to ``site`` and ``other``, if any (-1), come back for it."""
    there: bool = allowed[region_of[cluster], site]
    back: bool = other < 0 or allowed[region_of[other], here]
    return there and back


@njit(cache=True)
def swap_climb(
    site_of: IndexArray,
    starts: IndexArray,
    partners: IndexArray,
    weights: Array,
    to_host: Array,
    x: IndexArray,
    y: IndexArray,
    port: tuple[int, int],
    region_of: IndexArray,
    allowed: Mask,
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
        to_host: (clusters,) float64 packets per step to and from the host's port.
        x: (sites,) int64 tile column.
        y: (sites,) int64 tile row.
        port: tile of the host's port.
        region_of: (clusters,) int64 row of ``allowed`` of each cluster.
        allowed: (regions, sites) bool: the sites that a region holds; ``site_of`` keeps to it.
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
            best_gain = 0.0
            best_site = -1
            for site in range(sites):
                if x[site] == x[here] and y[site] == y[here]:
                    continue
                other = holds[site]
                if not _may_swap(cluster, here, other, site, region_of, allowed):
                    continue
                gain, moves = _saved(
                    cluster, site, other, starts, partners, weights, to_host, site_of, x, y, port
                )  # fmt: skip
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


@njit(cache=True)
def _random(state: Array) -> float:
    """The next number in [0, 1) of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014); the same on every machine."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def anneal(
    site_of: IndexArray,
    starts: IndexArray,
    partners: IndexArray,
    weights: Array,
    to_host: Array,
    x: IndexArray,
    y: IndexArray,
    port: tuple[int, int],
    region_of: IndexArray,
    allowed: Mask,
    tiles: IndexArray,
    seed: int,
    moves: int,
    hot: float,
    cold: float,
) -> float:
    """Simulated annealing by swaps; keeps the best placement that it meets.

    The temperature falls geometrically; swaps reach over the whole mesh at first and over a
    tile or two at the end (Betz and Rose, FPL 1997).

    Args:
        site_of: (clusters,) int64 site of each cluster; changed in place.
        starts: as for `swap_climb`.
        partners: as for `swap_climb`.
        weights: as for `swap_climb`.
        to_host: as for `swap_climb`.
        x: (sites,) int64 tile column.
        y: (sites,) int64 tile row.
        port: tile of the host's port.
        region_of: as for `swap_climb`.
        allowed: as for `swap_climb`.
        tiles: (columns, rows, cores) int64 site on each core of the mesh; -1: not to be used.
        seed: of the moves.
        moves: swaps that are tried.
        hot: first temperature, as a fraction of the mean change of cost of a random swap.
        cold: last temperature, as a fraction of the same.

    Returns:
        how much less the best placement costs than the first (hop-weighted packets per step).
    """
    clusters, columns, rows, cores = len(site_of), tiles.shape[0], tiles.shape[1], tiles.shape[2]
    holds = np.full(len(x), -1, dtype=np.int64)
    for cluster in range(clusters):
        holds[site_of[cluster]] = cluster
    state = np.array([np.uint64(seed)])
    mean, samples = 0.0, 200
    for _ in range(samples):
        cluster = int(_random(state) * clusters)
        site = int(_random(state) * len(x))
        if site != site_of[cluster]:
            gain, _ = _saved(cluster, site, holds[site], starts, partners, weights, to_host, site_of, x, y, port)
            mean += abs(gain) / samples
    if mean <= 0.0:
        return 0.0
    best = site_of.copy()
    saved, best_saved = 0.0, 0.0
    for move in range(moves):
        done = move / moves
        temperature = mean * hot * (cold / hot) ** done
        reach_x = 1 + int((columns - 1) * (1.0 - done))
        reach_y = 1 + int((rows - 1) * (1.0 - done))
        cluster = int(_random(state) * clusters)
        here = site_of[cluster]
        column = x[here] + int(_random(state) * (2 * reach_x + 1)) - reach_x
        row = y[here] + int(_random(state) * (2 * reach_y + 1)) - reach_y
        core = int(_random(state) * cores)
        chance = _random(state)
        if column < 0 or column >= columns or row < 0 or row >= rows or (column == x[here] and row == y[here]):
            continue
        site = tiles[column, row, core]
        if site < 0:
            continue
        other = holds[site]
        if not _may_swap(cluster, here, other, site, region_of, allowed):
            continue
        gain, _ = _saved(cluster, site, other, starts, partners, weights, to_host, site_of, x, y, port)
        if gain < 0.0 and chance >= np.exp(gain / temperature):
            continue
        holds[here] = other
        if other >= 0:
            site_of[other] = here
        holds[site] = cluster
        site_of[cluster] = site
        saved += gain
        if saved > best_saved:
            best_saved = saved
            best[:] = site_of
    site_of[:] = best
    return best_saved


@njit(cache=True)
def placement_costs(
    sites_of: IndexArray,
    starts: IndexArray,
    partners: IndexArray,
    weights: Array,
    to_host: Array,
    x: IndexArray,
    y: IndexArray,
    port: tuple[int, int],
) -> Array:
    """(placements,) cost of each row of ``sites_of`` (placements, clusters); see `placement_cost`."""
    costs = np.zeros(len(sites_of))
    for row in range(len(sites_of)):
        site_of = sites_of[row]
        total = 0.0
        for cluster in range(sites_of.shape[1]):
            here = site_of[cluster]
            total += to_host[cluster] * (abs(x[here] - port[0]) + abs(y[here] - port[1]))
            for k in range(starts[cluster], starts[cluster + 1]):
                there = site_of[partners[k]]
                # Every flow between two clusters stands in the rows of both.
                total += 0.5 * weights[k] * (abs(x[here] - x[there]) + abs(y[here] - y[there]))
        costs[row] = total
    return costs


def placement_cost(
    site_of: IndexArray,
    starts: IndexArray,
    partners: IndexArray,
    weights: Array,
    to_host: Array,
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
    return float((weights * distance).sum() / 2 + (to_host * to_port).sum())
