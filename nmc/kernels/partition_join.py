"""Cores joined whole: small ones move in with the cores that they share most with, where every limit holds."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.kernels.compiled import compiled
from nmc.kernels.partition_graph import Graph, Int32s
from nmc.kernels.partition_search import usage


@compiled()
def join_parts(g: Graph, part: Int32s, cores: int, limits: IndexArray) -> int:
    """Join whole cores, those with the fewest neurons first, each with the one that it shares most spikes with.

    Where no core that shares something has room, the fullest of the others that has takes it in.

    Args:
        g: graph.
        part: (nodes,) core of each node; changed in place, numbers of joined cores stay empty.
        cores: number of cores.
        limits: (resources,) of a core.

    Returns:
        cores that are empty now and had nodes before.
    """
    resources = g.sizes.shape[1]
    use = usage(g, part, cores)
    head = np.full(cores, -1, dtype=np.int32)
    tail = np.full(cores, -1, dtype=np.int32)
    follow = np.full(len(part), -1, dtype=np.int32)
    for v in range(len(part)):
        if tail[part[v]] < 0:
            head[part[v]] = v
        else:
            follow[tail[part[v]]] = v
        tail[part[v]] = v
    alias = np.arange(cores)
    begins, hearers = _hearing_cores(g, part, cores)
    shared = np.zeros((cores, resources), dtype=np.int64)
    nothing = np.zeros(resources, dtype=np.int64)
    weight = np.zeros(cores, dtype=np.float64)
    near = np.full(cores, -1, dtype=np.int64)
    found = np.empty(cores, dtype=np.int64)
    counted = np.full(len(g.source), -1, dtype=np.int64)
    holds = np.full(cores, -1, dtype=np.int64)
    stamp = 0
    joined = 0
    for c in np.argsort(use[:, 0], kind="mergesort"):
        if head[c] < 0:
            continue
        others = 0
        v = head[c]
        while v >= 0:
            for mode in range(2):
                begin = g.hears_starts[v] if mode == 0 else g.sends_starts[v]
                end = g.hears_starts[v + 1] if mode == 0 else g.sends_starts[v + 1]
                for k in range(begin, end):
                    e = g.hears[k] if mode == 0 else g.sends[k]
                    if counted[e] == c or (mode == 1 and not g.own[e]):
                        continue
                    counted[e] = c
                    stamp += 1
                    holds[c] = stamp
                    for q in range(begins[e], begins[e + 1]):
                        b = hearers[q]
                        while alias[b] != b:
                            b = alias[b]
                        hearers[q] = b
                        if holds[b] == stamp:
                            continue
                        holds[b] = stamp
                        if near[b] != c:
                            near[b] = c
                            shared[b] = 0
                            weight[b] = 0.0
                            found[others] = b
                            others += 1
                        shared[b, g.resource[e]] += g.amount[e]
                        weight[b] += g.weight[e]
            v = follow[v]
        best = -1
        for i in range(others):
            b = found[i]
            if best >= 0 and (weight[b] < weight[best] or (weight[b] == weight[best] and b > best)):
                continue
            if _fits(use, c, b, shared[b], limits):
                best = b
        if best < 0:
            # Nobody near has room: any core has, as long as what both take fits.
            for b in range(cores):
                if b == c or head[b] < 0 or near[b] == c or (best >= 0 and use[b, 0] <= use[best, 0]):
                    continue
                if _fits(use, c, b, nothing, limits):
                    best = b
        if best < 0:
            continue
        for r in range(resources):
            use[best, r] += use[c, r] - (shared[best, r] if near[best] == c else 0)
            use[c, r] = 0
        v = head[c]
        while v >= 0:
            part[v] = best
            v = follow[v]
        alias[c] = best
        follow[tail[best]] = head[c]
        tail[best] = tail[c]
        head[c] = -1
        joined += 1
    return joined


@compiled()
def _hearing_cores(g: Graph, part: Int32s, cores: int) -> tuple[IndexArray, Int32s]:
    """The cores that hear each net, each once, the sender's own where it hears itself: starts and items."""
    begins = np.zeros(len(g.source) + 1, dtype=np.int64)
    hearers = np.empty(len(g.pins) + len(g.source), dtype=np.int32)
    seen = np.full(cores, -1, dtype=np.int64)
    end = 0
    for e in range(len(g.source)):
        if g.own[e]:
            seen[part[g.source[e]]] = e
            hearers[end] = part[g.source[e]]
            end += 1
        for q in range(g.starts[e], g.starts[e + 1]):
            core = part[g.pins[q]]
            if seen[core] != e:
                seen[core] = e
                hearers[end] = core
                end += 1
        begins[e + 1] = end
    return begins, hearers


@compiled()
def _fits(use: IndexArray, one: int, other: int, shared: IndexArray, limits: IndexArray) -> bool:
    """Whether two cores hold every limit together."""
    over = 0
    for r in range(len(limits)):
        over += use[one, r] + use[other, r] - shared[r] > limits[r]
    return over == 0


@compiled()
def messages_sent(g: Graph, part: Int32s, cores: int) -> IndexArray:
    """(cores,) by core, the destination cores of its neurons, summed, its own included; the host is left out."""
    sent = np.zeros(cores, dtype=np.int64)
    seen = np.full(cores, -1, dtype=np.int64)
    for e in range(len(g.source)):
        if g.source[e] < 0:
            continue
        if g.own[e]:
            seen[part[g.source[e]]] = e
            sent[part[g.source[e]]] += g.amount[e]
        for q in range(g.starts[e], g.starts[e + 1]):
            core = part[g.pins[q]]
            if seen[core] != e:
                seen[core] = e
                sent[part[g.source[e]]] += g.amount[e]
    return sent
