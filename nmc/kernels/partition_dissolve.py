"""Fewer cores: the emptiest give their nodes to others, where there is room and few packets are added."""

from __future__ import annotations

import numpy as np
from numba import njit

from nmc.ir.connectivity import IndexArray
from nmc.kernels.partition_graph import Graph, Int32s
from nmc.kernels.partition_search import cut_weight, usage


@njit(cache=True)
def _carry(g: Graph, v: int, part: Int32s, held: Int32s, core: int) -> None:
    """Move a node to a core."""
    for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
        held[g.hears[k], part[v]] -= 1
        held[g.hears[k], core] += 1
    for k in range(g.sends_starts[v], g.sends_starts[v + 1]):
        if g.own[g.sends[k]]:
            held[g.sends[k], part[v]] -= 1
            held[g.sends[k], core] += 1
    part[v] = core


@njit(cache=True)
def dissolve(g: Graph, part: Int32s, cores: int, limits: IndexArray, share: float) -> int:
    """Empty cores one after the other, the least filled first.

    Args:
        g: graph.
        part: (nodes,) core of each node; changed in place.
        cores: number of cores.
        limits: (resources,) of a core.
        share: a core may cost at most this part of the mean packets of a core.

    Returns:
        cores that are empty now and had nodes before.
    """
    resources = g.sizes.shape[1]
    use = usage(g, part, cores)
    load = np.zeros(cores, dtype=np.float64)
    for c in range(cores):
        for r in range(resources):
            load[c] = max(load[c], use[c, r] / max(limits[r], 1))
    packets = cut_weight(g, part, cores)
    allowed = share * packets / cores
    shared = np.zeros((cores, resources), dtype=np.int64)
    # Nodes of each core that hear a net, the sender among them where it hears itself.
    held = np.zeros((len(g.source), cores), dtype=np.int32)
    for e in range(len(g.source)):
        if g.own[e]:
            held[e, part[g.source[e]]] += 1
        for q in range(g.starts[e], g.starts[e + 1]):
            held[e, part[g.pins[q]]] += 1
    total = np.zeros(resources, dtype=np.int64)
    saved = np.zeros(cores, dtype=np.float64)
    emptied = 0
    for c in np.argsort(load, kind="mergesort"):
        members = np.flatnonzero(part == c)
        if len(members) == 0:
            continue
        use_before = use.copy()
        done = True
        for v in members:
            shared[:] = 0
            saved[:] = 0.0
            total[:] = g.sizes[v]
            for mode in range(2):
                begin = g.hears_starts[v] if mode == 0 else g.sends_starts[v]
                end = g.hears_starts[v + 1] if mode == 0 else g.sends_starts[v + 1]
                for k in range(begin, end):
                    e = g.hears[k] if mode == 0 else g.sends[k]
                    if mode == 1 and not g.own[e]:
                        continue
                    total[g.resource[e]] += g.amount[e]
                    for b in range(cores):
                        if held[e, b] > 0:
                            shared[b, g.resource[e]] += g.amount[e]
                            saved[b] += g.weight[e]
            best = -1
            for b in range(cores):
                if b == c or use[b, 0] == 0 or (best >= 0 and saved[b] <= saved[best]):
                    continue
                fits = True
                for r in range(resources):
                    if use[b, r] + total[r] - shared[b, r] > limits[r]:
                        fits = False
                if fits:
                    best = b
            if best < 0:
                done = False
                break
            _carry(g, int(v), part, held, best)
            for r in range(resources):
                use[best, r] += total[r] - shared[best, r]
        now = cut_weight(g, part, cores) if done else np.inf
        if now - packets <= allowed:
            packets = now
            use[c] = 0
            emptied += 1
        else:
            for v in members:
                if part[v] != c:
                    _carry(g, int(v), part, held, int(c))
            use[:] = use_before
    return emptied
