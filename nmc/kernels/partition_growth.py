"""Cores grown one after the other: where input axons fill cores, not neurons."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmc.ir.connectivity import IndexArray
from nmc.kernels.partition_graph import Graph, Int32s


@njit(cache=True)
def grown(g: Graph, order: IndexArray, limits: IndexArray, most: int) -> Int32s:
    """Fill cores with the nodes that add least to what the core hears already.

    Args:
        g: graph.
        order: (nodes,) in which cores are begun.
        limits: (resources,) of a core.
        most: cores that are filled at most.

    Returns:
        (nodes,) int32 core of each node; -1: left over.
    """
    nodes, resources = g.sizes.shape
    part = np.full(nodes, -1, dtype=np.int32)
    held = np.full(len(g.source), -1, dtype=np.int64)
    shared = np.zeros(nodes, dtype=np.int64)
    demand = np.zeros(nodes, dtype=np.int64)
    for v in range(nodes):
        for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
            demand[v] += g.amount[g.hears[k]]
        for k in range(g.sends_starts[v], g.sends_starts[v + 1]):
            if g.own[g.sends[k]]:
                demand[v] += g.amount[g.sends[k]]
    touched = np.empty(nodes, dtype=np.int32)
    known = np.full(nodes, -1, dtype=np.int64)
    use = np.zeros(resources, dtype=np.int64)
    grow = np.zeros(resources, dtype=np.int64)
    core = -1
    for start in order:
        if part[start] >= 0:
            continue
        if core + 1 == most:
            break
        core += 1
        use[:] = 0
        count = 0
        v = start
        while v >= 0:
            part[v] = core
            use += g.sizes[v]
            for mode in range(2):
                begin = g.hears_starts[v] if mode == 0 else g.sends_starts[v]
                end = g.hears_starts[v + 1] if mode == 0 else g.sends_starts[v + 1]
                for k in range(begin, end):
                    e = g.hears[k] if mode == 0 else g.sends[k]
                    if held[e] == core or (mode == 1 and not g.own[e]):
                        continue
                    held[e] = core
                    use[g.resource[e]] += g.amount[e]
                    for q in range(g.starts[e] - 1, g.starts[e + 1]):
                        u = g.pins[q] if q >= g.starts[e] else (g.source[e] if g.own[e] else -1)
                        if u < 0 or part[u] >= 0:
                            continue
                        if known[u] != core:
                            known[u] = core
                            shared[u] = 0
                            touched[count] = u
                            count += 1
                        shared[u] += g.amount[e]
            v = -1
            least = np.int64(1) << 60
            kept = 0
            for i in range(count):
                u = touched[i]
                if part[u] >= 0:
                    continue
                touched[kept] = u
                kept += 1
                fresh = demand[u] - shared[u]
                if fresh < least:
                    fits = True
                    grow[:] = use + g.sizes[u]
                    for k in range(g.hears_starts[u], g.hears_starts[u + 1]):
                        e = g.hears[k]
                        if held[e] != core:
                            grow[g.resource[e]] += g.amount[e]
                    for k in range(g.sends_starts[u], g.sends_starts[u + 1]):
                        e = g.sends[k]
                        if g.own[e] and held[e] != core:
                            grow[g.resource[e]] += g.amount[e]
                    for r in range(resources):
                        if grow[r] > limits[r]:
                            fits = False
                    if fits:
                        v, least = u, fresh
            count = kept
    return part
