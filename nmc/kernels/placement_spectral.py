"""Coordinates of clusters from their flows alone: those that talk lie near each other."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.kernels.compiled import compiled
from nmc.kernels.placement import Int32s, Mask

GAP_MIN = 1e-4
"""Modes slower than this are not told apart: a mesh of some thousand tiles a side."""


@compiled()
def _orthonormal(vectors: Array, degree: Array) -> None:
    """Make the columns orthonormal, and orthogonal to a constant, in the degree-weighted product."""
    nodes, count = vectors.shape
    whole = degree.sum()
    for c in range(count):
        mean = 0.0
        for v in range(nodes):
            mean += degree[v] * vectors[v, c]
        for v in range(nodes):
            vectors[v, c] -= mean / whole
        for other in range(c):
            product = 0.0
            for v in range(nodes):
                product += degree[v] * vectors[v, c] * vectors[v, other]
            for v in range(nodes):
                vectors[v, c] -= product * vectors[v, other]
        norm = 0.0
        for v in range(nodes):
            norm += degree[v] * vectors[v, c] ** 2
        if norm > 0.0:
            for v in range(nodes):
                vectors[v, c] /= np.sqrt(norm)


@compiled()
def _filter(
    starts: IndexArray, partners: Int32s, weights: Array, degree: Array, x: Array, before: Array, out: Array,
    first: bool, gap: float,
) -> None:  # fmt: skip
    """One step of the Chebyshev recurrence that damps all but the slowest modes of a random walk."""
    # Modes between -1 and 1 - gap are mapped into [-1, 1], where the polynomials stay small.
    half, centre = 1.0 - 0.5 * gap, -0.5 * gap
    for v in range(len(degree)):
        for c in range(x.shape[1]):
            walked = 0.0
            for k in range(starts[v], starts[v + 1]):
                walked += weights[k] * x[partners[k], c]
            stepped = (walked / degree[v] - centre * x[v, c]) / half
            out[v, c] = stepped if first else 2.0 * stepped - before[v, c]


@compiled()
def _gap(starts: IndexArray, partners: Int32s, weights: Array, x: Array) -> float:
    """By how much the last mode is faster than the constant, at most: 1 less its Rayleigh quotient."""
    last = x.shape[1] - 1
    kept = 0.0
    for v in range(len(x)):
        for k in range(starts[v], starts[v + 1]):
            kept += weights[k] * x[v, last] * x[partners[k], last]
    return 1.0 - kept


@compiled()
def slowest_modes(
    starts: IndexArray, partners: Int32s, weights: Array, vectors: Array, rounds: int, degree: int
) -> Array:
    """The slowest modes of a random walk on the flows, the constant left out: the Fiedler vector and the next.

    Subspace iteration with a Chebyshev filter (Zhou, Saad et al., J. Comput. Phys. 2006): each round
    strengthens the modes slower than the fastest of those found. Its length is fixed, so the answer is
    the same on every run.

    Args:
        starts: as `nmc.kernels.placement.Task` has them, as the two that follow.
        partners: see there.
        weights: see there.
        vectors: (clusters, modes) float64 to start from, random.
        rounds: of the iteration.
        degree: of the filter.

    Returns:
        (clusters, modes) float64, the slowest first.
    """
    nodes = len(starts) - 1
    sums = np.empty(nodes)
    for v in range(nodes):
        # A cluster without partners stays where it is.
        sums[v] = max(weights[starts[v] : starts[v + 1]].sum(), 1e-300)
    now = vectors.copy()
    before = np.empty_like(now)
    after = np.empty_like(now)
    gap = 1.0
    for _ in range(rounds):
        _orthonormal(now, sums)
        gap = min(gap, max(_gap(starts, partners, weights, now), GAP_MIN))
        for step in range(degree):
            _filter(starts, partners, weights, sums, now, before, after, step == 0, gap)
            before, now, after = now, after, before
    _orthonormal(now, sums)
    return now


@compiled()
def drawn_together(
    starts: IndexArray, partners: Int32s, weights: Array, x: Array, y: Array, held: Mask, steps: int, keep: float
) -> tuple[Array, Array]:
    """Coordinates after some steps towards the mean of the partners.

    Args:
        starts: as `nmc.kernels.placement.Task` has them, as the two that follow.
        partners: see there.
        weights: see there.
        x: (clusters,) float64.
        y: (clusters,) float64.
        held: (clusters,) those that do not move.
        steps: number of steps.
        keep: part of its own coordinates that a cluster keeps in a step.
    """
    for _ in range(steps):
        fresh_x, fresh_y = x.copy(), y.copy()
        for v in range(len(x)):
            total, sum_x, sum_y = 0.0, 0.0, 0.0
            for k in range(starts[v], starts[v + 1]):
                u = partners[k]
                total += weights[k]
                sum_x += weights[k] * x[u]
                sum_y += weights[k] * y[u]
            if total > 0.0 and not held[v]:
                fresh_x[v] = keep * x[v] + (1.0 - keep) * sum_x / total
                fresh_y[v] = keep * y[v] + (1.0 - keep) * sum_y / total
        x, y = fresh_x, fresh_y
    return x, y
