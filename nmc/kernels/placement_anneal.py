"""Simulated annealing of a placement by swaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import IndexArray
from nmc.kernels.compiled import compiled
from nmc.kernels.placement import Int32s, Task, may_swap, saved, seats, swap

Words = NDArray[np.uint64]

STRETCH = 1024
"""Moves at one temperature."""

SAMPLES = 500
"""Swaps whose changes of cost give the unit of temperature."""

NEVER = 12.0
"""A swap that costs more than so many temperatures is not made (exp(-12) = 6e-6)."""


@compiled(inline="always")
def _draw(state: Words) -> np.uint64:
    """The next 64 bits of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014); the same on every machine."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word: np.uint64 = z ^ (z >> np.uint64(31))
    return word


@compiled(inline="always")
def _below(bits: np.uint64, low: int, count: int) -> np.int64:
    """A number below ``count`` (at most 2^32) from 32 of the bits, those from bit ``low`` on."""
    word = (bits >> np.uint64(low)) & np.uint64(0xFFFFFFFF)
    return np.int64((word * np.uint64(count)) >> np.uint64(32))


@compiled(inline="always")
def _proposed(
    starts: IndexArray, partners: Int32s, columns: IndexArray, rows: IndexArray, tiles: IndexArray,
    site_of: IndexArray, cluster: int, reach: int, state: Words,
) -> int:  # fmt: skip
    """A site to try: within ``reach`` tiles, or beside a partner; -1: none."""
    bits, more = _draw(state), _draw(state)
    here = site_of[cluster]
    around = here
    begin, degree = starts[cluster], starts[cluster + 1] - starts[cluster]
    if degree > 0 and bits & np.uint64(1):
        around = site_of[partners[begin + _below(_draw(state), 0, degree)]]
        reach = 1
    column = columns[around] + _below(bits, 32, 2 * reach + 1) - reach
    row = rows[around] + _below(more, 0, 2 * reach + 1) - reach
    outside = column < 0 or column >= tiles.shape[0] or row < 0 or row >= tiles.shape[1]
    if outside or (column == columns[here] and row == rows[here]):
        return -1
    site: int = tiles[column, row, _below(more, 32, tiles.shape[2])]
    return site


@compiled()
def anneal(
    t: Task, site_of: IndexArray, seed: int, moves: int, hot: float, cold: float, reach: int
) -> tuple[float, int]:
    """Swap clusters at a temperature that falls geometrically (Kirkpatrick et al., Science 1983).

    Half of the swaps lead next to a partner, the others into a window that shrinks to one tile
    (Betz and Rose, FPL 1997). What is left at the end may cost more than the start.

    Args:
        t: task.
        site_of: (clusters,) int64 site of each cluster, in its region; changed in place.
        seed: of the moves.
        moves: swaps that are tried.
        hot: first temperature, as a fraction of the mean change of cost of a tried swap.
        cold: last temperature, as a fraction of the same.
        reach: first half width of the window, tiles.

    Returns:
        how much less the placement costs now (hop-weighted packets per step), and the swaps made.
    """
    # Arrays are taken out of the task once: in a loop that would count references.
    starts, partners, weights, to_host, port = t.starts, t.partners, t.weights, t.to_host, t.port
    columns, rows, tiles, x, y = t.column, t.row, t.tiles, t.x, t.y
    region_of, allowed = t.region_of, t.allowed
    clusters = len(site_of)
    holds, px, py = seats(t, site_of)
    state = np.array([np.uint64(seed)])
    unit, counted = 0.0, 0
    for _ in range(SAMPLES):
        cluster = _below(_draw(state), 0, clusters)
        site = _proposed(starts, partners, columns, rows, tiles, site_of, cluster, reach, state)
        if site >= 0:
            gain, _ = saved(starts, partners, weights, to_host, port, px, py, cluster, holds[site], x[site], y[site])
            unit += abs(gain)
            counted += 1
    total, made = 0.0, 0
    if unit <= 0.0:
        return total, made
    temperature = unit / counted * hot
    fall = (cold / hot) ** (1.0 / (moves // STRETCH + 1))
    window = reach
    for move in range(moves):
        if move % STRETCH == STRETCH - 1:
            temperature *= fall
            window = max(1, int(reach * (1.0 - move / moves) + 0.5))
        cluster = _below(_draw(state), 0, clusters)
        site = _proposed(starts, partners, columns, rows, tiles, site_of, cluster, window, state)
        if site < 0 or not may_swap(region_of, allowed, cluster, site_of[cluster], holds[site], site):
            continue
        gain, _ = saved(starts, partners, weights, to_host, port, px, py, cluster, holds[site], x[site], y[site])
        if gain < 0.0:
            if gain < -NEVER * temperature:
                continue
            chance = float(_draw(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
            if chance >= np.exp(gain / temperature):
                continue
        swap(site_of, holds, px, py, cluster, site, x[site], y[site])
        total += gain
        made += 1
    return total, made
