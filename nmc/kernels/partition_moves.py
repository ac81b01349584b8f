"""Moves between two cores: exact gains, kept up to date while nodes move.

Fiduccia and Mattheyses, DAC 1982, on the packets of docs/formats.md: a net costs its weight once
for every core that hears it, the sender's own left out where the net is anchored. All limits of a
core are counted at once. A core may exceed a limit for one move; then it gives before it takes,
which is a swap. Only a prefix of moves that exceeds no more than before is kept.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray
from nmc.kernels.partition_graph import Graph, Int32s

MIN_GAIN = 1e-9
"""A sequence of moves must save more than this fraction of all spikes: ends cycles of rounding."""


@njit(cache=True)
def sift(heap: Int32s, where: Int32s, key: Array, count: int, at: int) -> None:
    """Restore the order of a max-heap of nodes around one place."""
    node = heap[at]
    while at > 0:
        above = (at - 1) >> 1
        if key[heap[above]] >= key[node]:
            break
        heap[at] = heap[above]
        where[heap[at]] = at
        at = above
    while True:
        below = 2 * at + 1
        if below >= count:
            break
        if below + 1 < count and key[heap[below + 1]] > key[heap[below]]:
            below += 1
        if key[heap[below]] <= key[node]:
            break
        heap[at] = heap[below]
        where[heap[at]] = at
        at = below
    heap[at] = node
    where[node] = at


@njit(cache=True)
def pop(heap: Int32s, where: Int32s, key: Array, count: int) -> None:
    """Take the first node out of a heap of ``count``."""
    where[heap[0]] = -1
    if count > 1:
        heap[0] = heap[count - 1]
        where[heap[0]] = 0
        sift(heap, where, key, count - 1, 0)


@njit(cache=True)
def overload(use: IndexArray, limits: IndexArray, side: int) -> float:
    """By what fraction the limits of a side are exceeded, summed."""
    total = 0.0
    for r in range(use.shape[1]):
        if use[side, r] > limits[side, r]:
            total += (use[side, r] - limits[side, r]) / max(limits[side, r], 1)
    return total


@njit(cache=True)
def gain_of(g: Graph, v: int, part: Int32s, here: int, there: int, count: Int32s, side: int) -> float:
    """Packets saved if ``v`` goes from core ``here``, counted on ``side``, to ``there``."""
    gain = 0.0
    for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
        e = g.hears[k]
        sender = part[g.source[e]] if g.anchored[e] else -1
        if count[side, e] == 1 and sender != here:
            gain += g.weight[e]
        if count[1 - side, e] == 0 and sender != there:
            gain -= g.weight[e]
    for k in range(g.sends_starts[v], g.sends_starts[v + 1]):
        e = g.sends[k]
        if g.anchored[e]:
            if count[1 - side, e] > 0:
                gain += g.weight[e]
            if count[side, e] > 0:
                gain -= g.weight[e]
    return gain


@njit(cache=True)
def shift(g: Graph, v: int, part: Int32s, here: int, there: int, count: Int32s, use: IndexArray, side: int) -> None:
    """Move ``v`` from ``here``, counted on ``side``, to ``there``."""
    for r in range(g.sizes.shape[1]):
        use[side, r] -= g.sizes[v, r]
        use[1 - side, r] += g.sizes[v, r]
    for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
        e = g.hears[k]
        sender = part[g.source[e]] if g.own[e] else -1
        count[side, e] -= 1
        if count[side, e] == 0 and sender != here:
            use[side, g.resource[e]] -= g.amount[e]
        if count[1 - side, e] == 0 and sender != there:
            use[1 - side, g.resource[e]] += g.amount[e]
        count[1 - side, e] += 1
    for k in range(g.sends_starts[v], g.sends_starts[v + 1]):
        e = g.sends[k]
        if g.own[e]:
            if count[side, e] == 0:
                use[side, g.resource[e]] -= g.amount[e]
            if count[1 - side, e] == 0:
                use[1 - side, g.resource[e]] += g.amount[e]
    part[v] = there


@njit(cache=True)
def _touch(u: int, change: float, key: Array, touched: NDArray[np.bool_], fresh: Int32s, found: int) -> int:
    key[u] += change
    if not touched[u]:
        touched[u] = True
        fresh[found] = u
        found += 1
    return found


@njit(cache=True)
def update(
    g: Graph,
    v: int,
    part: Int32s,
    here: int,
    there: int,
    count: Int32s,
    side: int,
    key: Array,
    touched: NDArray[np.bool_],
    fresh: Int32s,
) -> int:
    """Change the gains of others for the move of ``v`` that comes next; returns how many changed.

    To be called before `_shift`.
    """
    found = 0
    for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
        e = g.hears[k]
        w = g.weight[e]
        if w == 0.0:
            continue
        a, b = count[side, e], count[1 - side, e]
        if a > 2 and b > 1:
            continue
        s = g.source[e] if g.anchored[e] else -1
        at = part[s] if s >= 0 else -1
        if a == 1 and s >= 0:
            if at == here:
                found = _touch(s, w, key, touched, fresh, found)
            elif at == there:
                found = _touch(s, -w, key, touched, fresh, found)
        if b == 0 and s >= 0:
            if at == here:
                found = _touch(s, w, key, touched, fresh, found)
            elif at == there:
                found = _touch(s, -w, key, touched, fresh, found)
        for q in range(g.starts[e], g.starts[e + 1]):
            u = g.pins[q]
            if u == v:
                continue
            p = part[u]
            if p == here:
                change = 0.0
                if a == 2 and at != here:
                    change += w
                if b == 0 and at != there:
                    change += w
            elif p == there:
                change = 0.0
                if a == 1 and at != here:
                    change -= w
                if b == 1 and at != there:
                    change -= w
            else:
                continue
            if change != 0.0:
                found = _touch(u, change, key, touched, fresh, found)
    for k in range(g.sends_starts[v], g.sends_starts[v + 1]):
        e = g.sends[k]
        w = g.weight[e]
        if w == 0.0 or not g.anchored[e]:
            continue
        a, b = count[side, e], count[1 - side, e]
        if a != 1 and b != 1 and a != 0 and b != 0:
            continue
        for q in range(g.starts[e], g.starts[e + 1]):
            u = g.pins[q]
            p = part[u]
            change = 0.0
            if p == here:
                change = (w if a == 1 else 0.0) + (w if b == 0 else 0.0)
            elif p == there:
                change = -(w if b == 1 else 0.0) - (w if a == 0 else 0.0)
            if change != 0.0:
                found = _touch(u, change, key, touched, fresh, found)
    return found


@njit(cache=True)
def _boundary(g: Graph, v: int, part: Int32s, there: int, count: Int32s, side: int) -> bool:
    """Whether a net of ``v`` reaches the other core."""
    for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
        e = g.hears[k]
        if g.weight[e] > 0.0 and (count[1 - side, e] > 0 or (g.anchored[e] and part[g.source[e]] == there)):
            return True
    for k in range(g.sends_starts[v], g.sends_starts[v + 1]):
        if g.anchored[g.sends[k]] and count[1 - side, g.sends[k]] > 0:
            return True
    return False


@njit(cache=True)
def tally(g: Graph, part: Int32s, members: Int32s, first: int, count: Int32s, use: IndexArray) -> None:
    """Count the hearers of each net and the use of both cores; ``count`` and ``use`` are zero before."""
    for v in members:
        side = 0 if part[v] == first else 1
        for r in range(g.sizes.shape[1]):
            use[side, r] += g.sizes[v, r]
        for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
            e = g.hears[k]
            if count[side, e] == 0:
                use[side, g.resource[e]] += g.amount[e]
            count[side, e] += 1
    for v in members:
        side = 0 if part[v] == first else 1
        for k in range(g.sends_starts[v], g.sends_starts[v + 1]):
            e = g.sends[k]
            if g.own[e] and count[side, e] == 0:
                use[side, g.resource[e]] += g.amount[e]


@njit(cache=True)
def untally(g: Graph, members: Int32s, count: Int32s) -> None:
    """Set to zero what `tally` counted of the nets."""
    for v in members:
        for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
            count[0, g.hears[k]] = 0
            count[1, g.hears[k]] = 0


@njit(cache=True)
def refine_pair(
    g: Graph,
    part: Int32s,
    first: int,
    second: int,
    members: Int32s,
    limits: IndexArray,
    patience: int,
    passes: int,
    threshold: float,
    count: Int32s,
    key: Array,
    where: Int32s,
    touched: NDArray[np.bool_],
    heap: Int32s,
    fresh: Int32s,
    moved: Int32s,
) -> tuple[float, float]:
    """Move nodes between two cores as long as packets, or exceeded limits, become fewer.

    Args:
        g: graph.
        part: (nodes,) core of each node; changed in place.
        first: a core.
        second: another.
        members: nodes of both.
        limits: (2, resources) of the two.
        patience: moves without a new best after which a pass ends.
        passes: at most so many.
        threshold: packets that a pass must save at least.
        count: (2, nets) int32 zeros, and zeros again at the end.
        key: room for one number per node, as all that follow.
        where: -1 everywhere.
        touched: False everywhere.
        heap: two rows.
        fresh: room.
        moved: room.

    Returns:
        packets saved, and by what fraction limits are exceeded at the end.
    """
    use = np.zeros((2, g.sizes.shape[1]), dtype=np.int64)
    tally(g, part, members, first, count, use)
    allowed = overload(use, limits, 0) + overload(use, limits, 1)
    saved = 0.0
    held = np.zeros(2, dtype=np.int64)
    for _ in range(passes):
        held[:] = 0
        for v in members:
            side = 0 if part[v] == first else 1
            there = second if side == 0 else first
            here = first if side == 0 else second
            where[v] = -2
            if allowed > 0.0 or _boundary(g, v, part, there, count, side):
                key[v] = gain_of(g, v, part, here, there, count, side)
                heap[side, held[side]] = v
                where[v] = held[side]
                held[side] += 1
        for side in range(2):
            for at in range(held[side] // 2 - 1, -1, -1):
                sift(heap[side], where, key, held[side], at)
        total, best, best_length, length = 0.0, 0.0, 0, 0
        best_over = allowed
        while length < len(members) and length - best_length <= patience:
            over0, over1 = overload(use, limits, 0), overload(use, limits, 1)
            if over0 > over1:
                side = 0
            elif over1 > over0 or held[0] == 0:
                side = 1
            elif held[1] == 0 or key[heap[0, 0]] >= key[heap[1, 0]]:
                side = 0
            else:
                side = 1
            if held[side] == 0:
                break
            v = heap[side, 0]
            here = first if side == 0 else second
            there = second if side == 0 else first
            pop(heap[side], where, key, held[side])
            held[side] -= 1
            where[v] = -3
            total += key[v]
            found = update(g, v, part, here, there, count, side, key, touched, fresh)
            shift(g, v, part, here, there, count, use, side)
            for i in range(found):
                u = fresh[i]
                touched[u] = False
                at_side = 0 if part[u] == first else 1
                if where[u] >= 0:
                    sift(heap[at_side], where, key, held[at_side], where[u])
                elif where[u] == -2:
                    u_here = first if at_side == 0 else second
                    u_there = second if at_side == 0 else first
                    key[u] = gain_of(g, u, part, u_here, u_there, count, at_side)
                    where[u] = held[at_side]
                    heap[at_side, held[at_side]] = u
                    held[at_side] += 1
                    sift(heap[at_side], where, key, held[at_side], where[u])
            moved[length] = v
            length += 1
            over = overload(use, limits, 0) + overload(use, limits, 1)
            if over < best_over - 1e-12 or (over <= best_over and total > best + threshold):
                best, best_length, best_over = total, length, over
        for step in range(length - 1, best_length - 1, -1):
            v = moved[step]
            side = 0 if part[v] == first else 1
            here = first if side == 0 else second
            there = second if side == 0 else first
            shift(g, v, part, here, there, count, use, side)
        saved += best
        improved = best_over < allowed or best_length > 0
        allowed = best_over
        if not improved:
            break
    for v in members:
        where[v] = -1
    untally(g, members, count)
    return saved, allowed
