"""Moves between any two cores, neuron by neuron: for graphs whose nets have many pins.

Every net keeps the list of cores that hear it, so the packets that a move saves, to whichever
core, come out of one look at the nets of a node.
"""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.kernels.compiled import compiled
from nmc.kernels.partition_graph import Graph, Int32s
from nmc.kernels.partition_moves import MIN_GAIN
from nmc.kernels.partition_search import usage


@compiled()
def _heard(g: Graph, part: Int32s) -> tuple[Int32s, Int32s, Int32s]:
    """Cores that hear each net, how many of its pins they hold, and how many cores those are."""
    cores = np.empty(len(g.pins), dtype=np.int32)
    counts = np.empty(len(g.pins), dtype=np.int32)
    lengths = np.zeros(len(g.source), dtype=np.int32)
    for e in range(len(g.source)):
        begin = g.starts[e]
        for q in range(begin, g.starts[e + 1]):
            core = part[g.pins[q]]
            at = begin
            while at < begin + lengths[e] and cores[at] != core:
                at += 1
            if at == begin + lengths[e]:
                cores[at] = core
                counts[at] = 0
                lengths[e] += 1
            counts[at] += 1
    return cores, counts, lengths


@compiled()
def move_neurons(g: Graph, part: Int32s, order: IndexArray, limits: IndexArray, rounds: int, room: int) -> float:
    """Move nodes to the core that saves most packets, within all limits.

    Args:
        g: graph.
        part: (nodes,) core of each node; changed in place.
        order: (nodes,) in which nodes are looked at.
        limits: (resources,) of a core.
        rounds: over all nodes; the last ones end early where nothing moves.
        room: number of cores.

    Returns:
        packets saved.
    """
    # Arrays are taken out of the graph once: in a loop that would count references.
    sizes, source, weight, anchored, own = g.sizes, g.source, g.weight, g.anchored, g.own
    resource, amount, starts = g.resource, g.amount, g.starts
    hears_starts, hears, sends_starts, sends = g.hears_starts, g.hears, g.sends_starts, g.sends
    resources = sizes.shape[1]
    use = usage(g, part, room)
    cores, counts, lengths = _heard(g, part)
    gains = np.zeros(room)
    held = np.zeros((room, resources), dtype=np.int64)
    touched = np.empty(room, dtype=np.int32)
    asked = np.zeros(resources, dtype=np.int64)
    least = MIN_GAIN * (1.0 + weight.sum())
    saved = 0.0
    for _ in range(rounds):
        moved = 0
        for v in order:
            home = part[v]
            asked[:] = sizes[v]
            found, kept = 0, 0.0
            for k in range(hears_starts[v], hears_starts[v + 1]):
                e = hears[k]
                sender = part[source[e]] if source[e] >= 0 else -1
                # A core that sends the net hears it for nothing; one that hears itself has the axon, too.
                free = sender if anchored[e] else -1
                w, r, a = weight[e], resource[e], amount[e]
                asked[r] += a
                kept += w
                for at in range(starts[e], starts[e] + lengths[e]):
                    core = cores[at]
                    if core == home:
                        if counts[at] == 1 and free != home:
                            kept -= w
                        continue
                    if gains[core] == 0.0:
                        touched[found] = core
                        found += 1
                        gains[core] = 1e-300
                    gains[core] += w if core != free else 0.0
                    held[core, r] += a if not (own[e] and core == sender) else 0
                if free >= 0 and free != home:
                    if gains[free] == 0.0:
                        touched[found] = free
                        found += 1
                        gains[free] = 1e-300
                    gains[free] += w
                if own[e] and sender >= 0 and sender != home:
                    held[sender, r] += a
            for k in range(sends_starts[v], sends_starts[v + 1]):
                e = sends[k]
                if not anchored[e]:
                    continue
                for at in range(starts[e], starts[e] + lengths[e]):
                    core = cores[at]
                    if core == home:
                        kept += weight[e]
                        continue
                    if gains[core] == 0.0:
                        touched[found] = core
                        found += 1
                        gains[core] = 1e-300
                    gains[core] += weight[e]
                    if own[e]:
                        held[core, resource[e]] += amount[e]
                if own[e]:
                    asked[resource[e]] += amount[e]
            best = -1
            most = kept + least
            for i in range(found):
                core = touched[i]
                if gains[core] > most:
                    fits = True
                    for r in range(resources):
                        if use[core, r] + asked[r] - held[core, r] > limits[r]:
                            fits = False
                    if fits:
                        best, most = core, gains[core]
            if best >= 0:
                saved += most - kept
                moved += 1
                for r in range(resources):
                    use[best, r] += asked[r] - held[best, r]
            for i in range(found):
                gains[touched[i]] = 0.0
                held[touched[i]] = 0
            if best < 0:
                continue
            part[v] = best
            use[home] -= sizes[v]
            for k in range(hears_starts[v], hears_starts[v + 1]):
                e = hears[k]
                begin = starts[e]
                end = begin + lengths[e]
                there = -1
                for at in range(begin, end):
                    if cores[at] == home:
                        counts[at] -= 1
                        here = at
                    elif cores[at] == best:
                        there = at
                if counts[here] == 0 and not (own[e] and part[source[e]] == home):
                    use[home, resource[e]] -= amount[e]
                if there >= 0:
                    counts[there] += 1
                    if counts[here] == 0:
                        cores[here], counts[here] = cores[end - 1], counts[end - 1]
                        lengths[e] -= 1
                elif counts[here] == 0:
                    cores[here], counts[here] = best, 1
                else:
                    cores[end], counts[end] = best, 1
                    lengths[e] += 1
            for k in range(sends_starts[v], sends_starts[v + 1]):
                e = sends[k]
                if not own[e]:
                    continue
                heard_at_home = False
                for at in range(starts[e], starts[e] + lengths[e]):
                    if cores[at] == home:
                        heard_at_home = True
                if not heard_at_home:
                    use[home, resource[e]] -= amount[e]
        if moved * 500 < len(order):
            break
    return saved
