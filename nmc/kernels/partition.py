"""Kernighan-Lin refinement of a k-way partition, pair of cores by pair of cores.

Spikes are nets: a spike that several macro-nodes of one core hear crosses to that core once.
Kernighan and Lin, Bell System Technical Journal 49 (1970), on nets as Schweikert and Kernighan,
DAC 1972: gains are kept up to date while nodes move (Fiduccia and Mattheyses, DAC 1982), and a
swap is a move there followed by the best move back, so that its gain is exact.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from nmc.ir.connectivity import Array, IndexArray

MIN_GAIN = 1e-9
"""A sequence of moves must save more than this fraction of all spikes: ends cycles of rounding."""

PATIENCE = 40
"""Moves without a new best after which a sequence is given up."""


@njit(cache=True)
def _gain(
    node: int,
    here: int,
    there: int,
    part: IndexArray,
    sources: IndexArray,
    weights: Array,
    held: IndexArray,
    hears_starts: IndexArray,
    hears: IndexArray,
    sends_starts: IndexArray,
    sends: IndexArray,
    side: int,
) -> float:
    """Spikes per step that stop crossing if ``node`` goes from core ``here`` to ``there``.

    ``held[side, e]`` counts the hearers of net ``e`` in core ``here``, ``held[1 - side, e]``
    those in ``there``.
    """
    gain = 0.0
    for k in range(hears_starts[node], hears_starts[node + 1]):
        edge = hears[k]
        source = sources[edge]
        at = part[source] if source >= 0 else -1
        if held[side, edge] == 1 and at != here:
            gain += weights[edge]
        if held[1 - side, edge] == 0 and at != there:
            gain -= weights[edge]
    for k in range(sends_starts[node], sends_starts[node + 1]):
        edge = sends[k]
        if held[1 - side, edge] > 0:
            gain += weights[edge]
        if held[side, edge] > 0:
            gain -= weights[edge]
    return gain


@njit(cache=True)
def _move(
    node: int,
    there: int,
    side: int,
    part: IndexArray,
    held: IndexArray,
    use: IndexArray,
    sizes: IndexArray,
    resources: IndexArray,
    amounts: IndexArray,
    hears_starts: IndexArray,
    hears: IndexArray,
) -> None:
    """Move a node from side ``side`` of the pair to core ``there``, the other side."""
    other = 1 - side
    for resource in range(sizes.shape[1]):
        use[side, resource] -= sizes[node, resource]
        use[other, resource] += sizes[node, resource]
    for k in range(hears_starts[node], hears_starts[node + 1]):
        edge = hears[k]
        held[side, edge] -= 1
        if held[side, edge] == 0:
            use[side, resources[edge]] -= amounts[edge]
        if held[other, edge] == 0:
            use[other, resources[edge]] += amounts[edge]
        held[other, edge] += 1
    part[node] = there


@njit(cache=True)
def _overload(use: IndexArray, side: int, limits: IndexArray) -> float:
    """By how much one side exceeds its limits, as a sum of fractions of them."""
    total = 0.0
    for resource in range(len(limits)):
        if use[side, resource] > limits[resource]:
            total += (use[side, resource] - limits[resource]) / limits[resource]
    return total


@njit(cache=True)
def _refine_pair(
    first: int,
    second: int,
    part: IndexArray,
    held: IndexArray,
    sizes: IndexArray,
    limits: IndexArray,
    sources: IndexArray,
    weights: Array,
    resources: IndexArray,
    amounts: IndexArray,
    starts: IndexArray,
    pins: IndexArray,
    hears_starts: IndexArray,
    hears: IndexArray,
    sends_starts: IndexArray,
    sends: IndexArray,
    threshold: float,
    max_passes: int,
) -> float:
    """Kernighan-Lin passes between two cores; returns the spikes saved. ``held`` is left all zero."""
    members = np.flatnonzero((part == first) | (part == second))
    count = len(members)
    cores = (first, second)
    local = np.full(len(part), -1, dtype=np.int64)
    use = np.zeros((2, len(limits)), dtype=np.int64)
    for i in range(count):
        node = members[i]
        local[node] = i
        side = 0 if part[node] == first else 1
        for resource in range(len(limits)):
            use[side, resource] += sizes[node, resource]
        for k in range(hears_starts[node], hears_starts[node + 1]):
            edge = hears[k]
            if held[side, edge] == 0:
                use[side, resources[edge]] += amounts[edge]
            held[side, edge] += 1
    gains = np.zeros(count)
    locked = np.zeros(count, dtype=np.bool_)
    moved = np.zeros(count, dtype=np.int64)
    saved = 0.0
    for _ in range(max_passes):
        for i in range(count):
            side = 0 if part[members[i]] == first else 1
            gains[i] = _gain(
                members[i], cores[side], cores[1 - side], part, sources, weights, held,
                hears_starts, hears, sends_starts, sends, side,
            )  # fmt: skip
            locked[i] = False
        allowed = _overload(use, 0, limits) + _overload(use, 1, limits)
        total, best, best_length, length = 0.0, threshold, 0, 0
        while length < count and length - best_length <= PATIENCE:
            over_first, over_second = _overload(use, 0, limits), _overload(use, 1, limits)
            chosen = -1
            for i in range(count):
                if locked[i]:
                    continue
                side = 0 if part[members[i]] == first else 1
                # An overloaded core gives before it takes: this is the second half of a swap.
                if over_first > over_second and side == 1:
                    continue
                if over_second > over_first and side == 0:
                    continue
                if chosen < 0 or gains[i] > gains[chosen]:
                    chosen = i
            if chosen < 0:
                break
            node = members[chosen]
            side = 0 if part[node] == first else 1
            total += gains[chosen]
            locked[chosen] = True
            _move(node, cores[1 - side], side, part, held, use, sizes, resources, amounts, hears_starts, hears)
            moved[length] = node
            length += 1
            # Gains change for the nodes of a net that is now alone on one side, or was before.
            for mode in range(2):
                begin = hears_starts[node] if mode == 0 else sends_starts[node]
                end = hears_starts[node + 1] if mode == 0 else sends_starts[node + 1]
                for k in range(begin, end):
                    edge = hears[k] if mode == 0 else sends[k]
                    if weights[edge] == 0.0:
                        continue
                    if mode == 0 and held[side, edge] > 1 and held[1 - side, edge] > 2:
                        continue
                    source = sources[edge]
                    stop = starts[edge + 1]
                    for q in range(starts[edge] - 1, stop):
                        other = source if q < starts[edge] else pins[q]
                        if other < 0 or local[other] < 0 or locked[local[other]]:
                            continue
                        gains[local[other]] = np.nan
            for i in range(count):
                if np.isnan(gains[i]):
                    at = 0 if part[members[i]] == first else 1
                    gains[i] = _gain(
                        members[i], cores[at], cores[1 - at], part, sources, weights, held,
                        hears_starts, hears, sends_starts, sends, at,
                    )  # fmt: skip
            over = _overload(use, 0, limits) + _overload(use, 1, limits)
            if total > best and over <= allowed:
                best, best_length = total, length
        for step in range(length - 1, best_length - 1, -1):
            node = moved[step]
            side = 0 if part[node] == first else 1
            _move(node, cores[1 - side], side, part, held, use, sizes, resources, amounts, hears_starts, hears)
        if best_length == 0:
            break
        saved += best
    for i in range(count):
        for k in range(hears_starts[members[i]], hears_starts[members[i] + 1]):
            held[0, hears[k]] = 0
            held[1, hears[k]] = 0
    return saved


@njit(cache=True)
def kernighan_lin(
    part: IndexArray,
    order: IndexArray,
    sizes: IndexArray,
    limits: IndexArray,
    sources: IndexArray,
    weights: Array,
    resources: IndexArray,
    amounts: IndexArray,
    starts: IndexArray,
    pins: IndexArray,
    hears_starts: IndexArray,
    hears: IndexArray,
    sends_starts: IndexArray,
    sends: IndexArray,
    max_rounds: int,
    max_passes: int,
) -> float:
    """Lower the spikes that cross cores, by Kernighan-Lin between every two cores that talk.

    A round visits the pairs in ``order`` by ``order``; a pair is visited again only if one of
    its cores has changed. Ends after a round without a change.

    Args:
        part: (nodes,) int64 core of each macro-node; changed in place.
        order: (cores,) int64 permutation.
        sizes: (nodes, resources) int64 what each node takes of a core by itself.
        limits: (resources,) int64 what a core has.
        sources: (nets,) int64 the node that sends the net's spikes; -1: the host, or no node.
        weights: (nets,) float64 spikes per step.
        resources: (nets,) int64 the resource that a net takes in every core that hears it, ...
        amounts: (nets,) int64 ... and how much of it.
        starts: (nets + 1,) int64 where the pins of each net begin in ``pins``.
        pins: the nodes that hear each net, int64.
        hears_starts: (nodes + 1,) int64 where the nets that a node hears begin in ``hears``.
        hears: nets, int64.
        sends_starts: (nodes + 1,) int64 where the nets that a node sends begin in ``sends``.
        sends: nets, int64.
        max_rounds: rounds over all pairs.
        max_passes: passes over one pair.

    Returns:
        spikes per step that no longer cross.
    """
    cores = len(order)
    held = np.zeros((2, len(sources)), dtype=np.int64)
    threshold = MIN_GAIN * (1.0 + weights.sum())
    changed = np.zeros(cores, dtype=np.int64)
    visited = np.full((cores, cores), -1, dtype=np.int64)
    clock = 0
    saved = 0.0
    for _ in range(max_rounds):
        before = saved
        talks = _talking(part, cores, sources, weights, starts, pins)
        for i in range(cores):
            for j in range(i + 1, cores):
                first, second = min(order[i], order[j]), max(order[i], order[j])
                if not talks[first, second] or visited[first, second] >= max(changed[first], changed[second]):
                    continue
                gain = _refine_pair(
                    first, second, part, held, sizes, limits, sources, weights, resources, amounts,
                    starts, pins, hears_starts, hears, sends_starts, sends, threshold, max_passes,
                )  # fmt: skip
                clock += 1
                if gain > 0.0:
                    saved += gain
                    changed[first] = clock
                    changed[second] = clock
                visited[first, second] = clock
        if saved == before:
            break
    return saved


@njit(cache=True)
def _talking(
    part: IndexArray, cores: int, sources: IndexArray, weights: Array, starts: IndexArray, pins: IndexArray
) -> Array:
    """(cores, cores) whether two cores share a net: they hear it both, or one sends it to the other."""
    talks = np.zeros((cores, cores), dtype=np.bool_)
    seen = np.zeros(cores, dtype=np.bool_)
    found = np.zeros(cores, dtype=np.int64)
    for edge in range(len(sources)):
        if weights[edge] == 0.0:
            continue
        count = 0
        for q in range(starts[edge] - 1, starts[edge + 1]):
            node = sources[edge] if q < starts[edge] else pins[q]
            if node >= 0 and not seen[part[node]]:
                seen[part[node]] = True
                found[count] = part[node]
                count += 1
        for a in range(count):
            seen[found[a]] = False
            for b in range(count):
                talks[found[a], found[b]] = True
    return talks


@njit(cache=True)
def crossing_spikes(
    part: IndexArray, cores: int, sources: IndexArray, weights: Array, starts: IndexArray, pins: IndexArray
) -> float:
    """Spikes per step times the distinct cores that hear them, the sender's own left out."""
    total = 0.0
    seen = np.full(cores, -1, dtype=np.int64)
    for edge in range(len(sources)):
        if sources[edge] >= 0:
            seen[part[sources[edge]]] = edge
        for q in range(starts[edge], starts[edge + 1]):
            core = part[pins[q]]
            if seen[core] != edge:
                seen[core] = edge
                total += weights[edge]
    return total
