"""Searches over whole partitions: a first cut in two, and rounds over pairs of cores."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmc.ir.connectivity import IndexArray
from nmc.kernels.partition_graph import Graph, Int32s
from nmc.kernels.partition_moves import MIN_GAIN, gain_of, overload, pop, refine_pair, shift, sift, tally, update


@njit(cache=True)
def cut_weight(g: Graph, part: Int32s, cores: int) -> float:
    """Packets: the weight of each net for each core that hears it, as `Graph.anchored` says."""
    total = 0.0
    seen = np.full(cores, -1, dtype=np.int64)
    for e in range(len(g.source)):
        if g.anchored[e]:
            seen[part[g.source[e]]] = e
        for q in range(g.starts[e], g.starts[e + 1]):
            core = part[g.pins[q]]
            if seen[core] != e:
                seen[core] = e
                total += g.weight[e]
    return total


@njit(cache=True)
def usage(g: Graph, part: Int32s, cores: int) -> IndexArray:
    """(cores, resources) what each core holds."""
    use = np.zeros((cores, g.sizes.shape[1]), dtype=np.int64)
    for v in range(len(part)):
        for r in range(g.sizes.shape[1]):
            use[part[v], r] += g.sizes[v, r]
    seen = np.full(cores, -1, dtype=np.int64)
    for e in range(len(g.source)):
        if g.own[e]:
            core = part[g.source[e]]
            seen[core] = e
            use[core, g.resource[e]] += g.amount[e]
        for q in range(g.starts[e], g.starts[e + 1]):
            core = part[g.pins[q]]
            if seen[core] != e:
                seen[core] = e
                use[core, g.resource[e]] += g.amount[e]
    return use


@njit(cache=True)
def _grow(
    g: Graph, part: Int32s, seed: int, share: float, limits: IndexArray, count: Int32s, key: np.ndarray,
    where: Int32s, touched: np.ndarray, heap: Int32s, fresh: Int32s, everyone: Int32s, totals: np.ndarray,
) -> None:  # fmt: skip
    """Fill side 0 from a seed with the node that saves most packets, until it has its share of all."""
    nodes = len(part)
    part[:] = 1
    count[:] = 0
    use = np.zeros((2, g.sizes.shape[1]), dtype=np.int64)
    tally(g, part, everyone, 0, count, use)
    for v in range(nodes):
        where[v] = -2
    held, following = 0, seed
    v = seed
    while True:
        fits = True
        for r in range(g.sizes.shape[1]):
            if use[0, r] + g.sizes[v, r] > limits[0, r]:
                fits = False
        where[v] = -3
        if fits:
            found = update(g, v, part, 1, 0, count, 1, key, touched, fresh)
            shift(g, v, part, 1, 0, count, use, 1)
            for i in range(found):
                u = fresh[i]
                touched[u] = False
                if where[u] == -2:
                    key[u] = gain_of(g, u, part, 1, 0, count, 1)
                    heap[0, held] = u
                    where[u] = held
                    held += 1
                if where[u] >= 0:
                    sift(heap[0], where, key, held, where[u])
            full = True
            for r in range(g.sizes.shape[1]):
                if use[0, r] < share * totals[r]:
                    full = False
            if full or (overload(use, limits, 1) == 0.0 and use[0, 0] >= share * totals[0]):
                break
        if held > 0:
            v = heap[0, 0]
            pop(heap[0], where, key, held)
            held -= 1
            continue
        # Nothing left that touches side 0: go on with the next node in line.
        steps = 0
        while steps < nodes and where[following] != -2:
            following = (following + 1) % nodes
            steps += 1
        if steps == nodes:
            break
        v = following
    for v in range(nodes):
        where[v] = -1


@njit(cache=True)
def first_cut(
    g: Graph, share: float, limits: IndexArray, seeds: IndexArray, patience: int, passes: int
) -> tuple[Int32s, float, float]:
    """Cut a small graph in two: grown from several seeds, refined, the best kept.

    Args:
        g: graph.
        share: of everything that side 0 is to get.
        limits: (2, resources) of the sides.
        seeds: nodes to start from.
        patience: of the refinement.
        passes: of the refinement.

    Returns:
        (nodes,) side of each node, its packets, and by what fraction limits are exceeded.
    """
    nodes, nets = len(g.sizes), len(g.source)
    part = np.empty(nodes, dtype=np.int32)
    best_part = np.empty(nodes, dtype=np.int32)
    count = np.zeros((2, nets), dtype=np.int32)
    key = np.zeros(nodes, dtype=np.float64)
    where = np.full(nodes, -1, dtype=np.int32)
    touched = np.zeros(nodes, dtype=np.bool_)
    heap = np.empty((2, nodes), dtype=np.int32)
    fresh = np.empty(nodes, dtype=np.int32)
    moved = np.empty(nodes, dtype=np.int32)
    everyone = np.arange(nodes).astype(np.int32)
    totals = np.zeros(g.sizes.shape[1], dtype=np.float64)
    for v in range(nodes):
        for r in range(g.sizes.shape[1]):
            totals[r] += g.sizes[v, r]
    threshold = MIN_GAIN * (1.0 + g.weight.sum())
    best, best_over = np.inf, np.inf
    for seed in seeds:
        _grow(g, part, seed, share, limits, count, key, where, touched, heap, fresh, everyone, totals)
        count[:] = 0
        _, over = refine_pair(
            g, part, 0, 1, everyone, limits, patience, passes, threshold,
            count, key, where, touched, heap, fresh, moved,
        )  # fmt: skip
        cost = cut_weight(g, part, 2)
        if over < best_over - 1e-12 or (over <= best_over and cost < best):
            best, best_over = cost, over
            best_part[:] = part
    return best_part, best, best_over


@njit(cache=True)
def refine_cut(g: Graph, part: Int32s, limits: IndexArray, patience: int, passes: int) -> float:
    """Refine a cut in two; returns by what fraction limits are exceeded at the end."""
    nodes = len(part)
    everyone = np.arange(nodes).astype(np.int32)
    threshold = MIN_GAIN * (1.0 + g.weight.sum())
    _, over = refine_pair(
        g, part, 0, 1, everyone, limits, patience, passes, threshold,
        np.zeros((2, len(g.source)), dtype=np.int32), np.zeros(nodes, dtype=np.float64),
        np.full(nodes, -1, dtype=np.int32), np.zeros(nodes, dtype=np.bool_), np.empty((2, nodes), dtype=np.int32),
        np.empty(nodes, dtype=np.int32), np.empty(nodes, dtype=np.int32),
    )  # fmt: skip
    return over


@njit(cache=True)
def refine_all(
    g: Graph,
    part: Int32s,
    order: IndexArray,
    limits: IndexArray,
    patience: int,
    passes: int,
    rounds: int,
    partners: int,
) -> float:
    """Refine every pair of cores that talk, round by round, until nothing changes.

    Args:
        g: graph.
        part: (nodes,) core of each node; changed in place.
        order: (cores,) permutation: whose pairs come first.
        limits: (resources,) of a core.
        patience: of one pair.
        passes: of one pair.
        rounds: at most so many.
        partners: cores with which each is refined: those that it shares most spikes with.

    Returns:
        packets saved.
    """
    nodes, nets, cores = len(part), len(g.source), len(order)
    both = np.empty((2, g.sizes.shape[1]), dtype=np.int64)
    both[0] = limits
    both[1] = limits
    count = np.zeros((2, nets), dtype=np.int32)
    key = np.zeros(nodes, dtype=np.float64)
    where = np.full(nodes, -1, dtype=np.int32)
    touched = np.zeros(nodes, dtype=np.bool_)
    heap = np.empty((2, nodes), dtype=np.int32)
    fresh = np.empty(nodes, dtype=np.int32)
    moved = np.empty(nodes, dtype=np.int32)
    members = np.empty(nodes, dtype=np.int32)
    # Nodes of each core as chains.
    head = np.full(cores, -1, dtype=np.int32)
    follow = np.full(nodes, -1, dtype=np.int32)
    for v in range(nodes):
        follow[v] = head[part[v]]
        head[part[v]] = v
    rank = np.empty(cores, dtype=np.int64)
    for i in range(cores):
        rank[order[i]] = i
    changed = np.zeros(cores, dtype=np.int64)
    talks = np.zeros(cores, dtype=np.float64)
    others = np.empty(cores, dtype=np.int64)
    threshold = MIN_GAIN * (1.0 + g.weight.sum())
    saved = 0.0
    for turn in range(1, rounds + 1):
        before = saved
        for i in range(cores):
            a = order[i]
            found = 0
            v = head[a]
            while v >= 0:
                for mode in range(2):
                    begin = g.hears_starts[v] if mode == 0 else g.sends_starts[v]
                    end = g.hears_starts[v + 1] if mode == 0 else g.sends_starts[v + 1]
                    for k in range(begin, end):
                        e = g.hears[k] if mode == 0 else g.sends[k]
                        sender = g.source[e] if g.anchored[e] else -1
                        if g.weight[e] == 0.0 or (mode == 1 and sender < 0):
                            continue
                        for q in range(g.starts[e] - 1, g.starts[e + 1]):
                            u = sender if q < g.starts[e] else g.pins[q]
                            if u < 0:
                                continue
                            b = part[u]
                            if rank[b] <= i:
                                continue
                            if talks[b] == 0.0:
                                others[found] = b
                                found += 1
                            talks[b] += g.weight[e]
                v = follow[v]
            weights = np.empty(found, dtype=np.float64)
            for j in range(found):
                weights[j] = -talks[others[j]]
                talks[others[j]] = 0.0
            line = np.argsort(weights, kind="mergesort")
            for j in line[:partners]:
                b = others[j]
                # Neither has changed since this pair was refined in the round before.
                if turn > 1 and changed[a] < turn - 1 and changed[b] < turn - 1:
                    continue
                size = 0
                for c in (a, b):
                    v = head[c]
                    while v >= 0:
                        members[size] = v
                        size += 1
                        v = follow[v]
                gain, _ = refine_pair(
                    g, part, a, b, members[:size], both, patience, passes, threshold,
                    count, key, where, touched, heap, fresh, moved,
                )  # fmt: skip
                if gain > 0.0:
                    saved += gain
                    changed[a] = turn
                    changed[b] = turn
                    head[a] = -1
                    head[b] = -1
                    for m in range(size):
                        v = members[m]
                        follow[v] = head[part[v]]
                        head[part[v]] = v
        if saved == before:
            break
    return saved
