"""The graph that the overlap partitioner works on: clustered, contracted and cut into blocks.

Nodes are pieces of populations, nets are spikes (or memory) that several nodes share. One
structure serves macro-nodes and single neurons, the whole network and every block of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray

Int32s = NDArray[np.int32]
Flags = NDArray[np.bool_]


class Graph(NamedTuple):
    """Nodes, and the nets between them.

    Attributes:
        sizes: (nodes, resources) int64 what each node takes of a core by itself.
        source: (nets,) the node that sends; -1: none that can be moved.
        weight: (nets,) spikes; 0 where the net is memory that hearers share.
        anchored: (nets,) whether the sender's own core costs no packet.
        own: (nets,) whether the sender hears itself.
        resource: (nets,) int64 what the net takes once in every core that hears it, ...
        amount: (nets,) int64 ... and how much.
        starts: (nets + 1,) int64 where the pins of a net begin.
        pins: nodes that hear each net, the sender left out, each once.
        hears_starts, hears: nets that a node hears (its own left out), as starts and items.
        sends_starts, sends: nets that a node sends.
    """

    sizes: IndexArray
    source: Int32s
    weight: Array
    anchored: Flags
    own: Flags
    resource: IndexArray
    amount: IndexArray
    starts: IndexArray
    pins: Int32s
    hears_starts: IndexArray
    hears: Int32s
    sends_starts: IndexArray
    sends: Int32s


@njit(cache=True)
def _by_item(rows: Int32s, starts: IndexArray, items: Int32s, count: int) -> tuple[IndexArray, Int32s]:
    """For each item, the rows that name it: ``items[starts[r] : starts[r + 1]]`` belong to ``rows[r]``."""
    begin = np.zeros(count + 1, dtype=np.int64)
    for item in items:
        begin[item + 1] += 1
    for i in range(count):
        begin[i + 1] += begin[i]
    at = begin[:-1].copy()
    out = np.empty(len(items), dtype=np.int32)
    for r in range(len(rows)):
        for q in range(starts[r], starts[r + 1]):
            out[at[items[q]]] = rows[r]
            at[items[q]] += 1
    return begin, out


@njit(cache=True)
def graph_of(
    sizes: IndexArray,
    source: Int32s,
    weight: Array,
    anchored: Flags,
    own: Flags,
    resource: IndexArray,
    amount: IndexArray,
    starts: IndexArray,
    pins: Int32s,
) -> Graph:
    """A `Graph` from its nets: the lists by node are made here."""
    nodes, nets = len(sizes), len(source)
    hears_starts, hears = _by_item(np.arange(nets).astype(np.int32), starts, pins, nodes)
    sent = np.flatnonzero(source >= 0).astype(np.int32)
    steps = np.arange(len(sent) + 1).astype(np.int64)
    sends_starts, sends = _by_item(sent, steps, source[sent], nodes)
    return Graph(
        sizes, source, weight, anchored, own, resource, amount, starts, pins,
        hears_starts, hears, sends_starts, sends,
    )  # fmt: skip


@njit(cache=True)
def _mixed(value: int) -> np.uint64:
    """A 64-bit number that looks random (splitmix64)."""
    z = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def contract(g: Graph, label: Int32s, count: int) -> Graph:
    """The graph with nodes joined or left out.

    Nets with the same sender and the same hearers become one. A net that no partition can cut
    goes; what it takes of a core becomes a part of its only node.

    Args:
        g: graph.
        label: (nodes,) the new node of each, 0 ... count - 1; -1: left out.
        count: of new nodes.
    """
    sizes = np.zeros((count, g.sizes.shape[1]), dtype=np.int64)
    for v in range(len(label)):
        if label[v] >= 0:
            for r in range(g.sizes.shape[1]):
                sizes[label[v], r] += g.sizes[v, r]
    nets = len(g.source)
    slots = 16
    while slots < 2 * nets:
        slots *= 2
    table = np.full(slots, -1, dtype=np.int64)
    keys = np.empty(nets, dtype=np.uint64)
    source = np.empty(nets, dtype=np.int32)
    weight = np.empty(nets, dtype=np.float64)
    anchored = np.empty(nets, dtype=np.bool_)
    own = np.empty(nets, dtype=np.bool_)
    resource = np.empty(nets, dtype=np.int64)
    amount = np.empty(nets, dtype=np.int64)
    starts = np.zeros(nets + 1, dtype=np.int64)
    pins = np.empty(len(g.pins), dtype=np.int32)
    stamp = np.full(count, -1, dtype=np.int64)
    made = 0
    for e in range(nets):
        sender = label[g.source[e]] if g.source[e] >= 0 else -1
        hears_itself = g.own[e] and sender >= 0
        free = g.anchored[e] and sender >= 0
        begin = end = starts[made]
        key = np.uint64(0)
        for q in range(g.starts[e], g.starts[e + 1]):
            u = label[g.pins[q]]
            if u < 0 or stamp[u] == e:
                continue
            stamp[u] = e
            if u == sender:
                hears_itself = True
            else:
                pins[end] = u
                end += 1
                key += _mixed(u)
        if hears_itself:
            free = True  # The sender's core hears it wherever it is: that packet is a constant.
        if end == begin or (end == begin + 1 and not free):
            holder = pins[begin] if end > begin else (sender if hears_itself else -1)
            if holder >= 0:
                sizes[holder, g.resource[e]] += g.amount[e]
            continue
        flags = ((sender + 1) * 64 + g.resource[e]) * 4 + (2 if free else 0) + (1 if hears_itself else 0)
        key = key * np.uint64(0x9E3779B97F4A7C15) + _mixed(flags)
        slot = np.int64(key & np.uint64(slots - 1))
        while table[slot] >= 0 and keys[table[slot]] != key:
            slot = (slot + 1) & (slots - 1)
        same = table[slot]
        if same >= 0:
            weight[same] += g.weight[e]
            amount[same] += g.amount[e]
            continue
        table[slot] = made
        keys[made] = key
        source[made] = sender
        weight[made] = g.weight[e]
        anchored[made] = free
        own[made] = hears_itself
        resource[made] = g.resource[e]
        amount[made] = g.amount[e]
        made += 1
        starts[made] = end
    return graph_of(
        sizes, source[:made].copy(), weight[:made].copy(), anchored[:made].copy(), own[:made].copy(),
        resource[:made].copy(), amount[:made].copy(), starts[: made + 1].copy(), pins[: starts[made]].copy(),
    )  # fmt: skip


@njit(cache=True)
def block_of(g: Graph, nodes: IndexArray) -> Graph:
    """The graph of some nodes, numbered as they are given: what `contract` makes of it, without a look at the others.

    Args:
        g: graph.
        nodes: each once.
    """
    place = np.full(len(g.sizes), -1, dtype=np.int32)
    for i in range(len(nodes)):
        place[nodes[i]] = i
    touched = np.zeros(len(g.source), dtype=np.bool_)
    for v in nodes:
        for k in range(g.hears_starts[v], g.hears_starts[v + 1]):
            touched[g.hears[k]] = True
        for k in range(g.sends_starts[v], g.sends_starts[v + 1]):
            touched[g.sends[k]] = True
    nets = np.flatnonzero(touched)
    starts = np.zeros(len(nets) + 1, dtype=np.int64)
    for i in range(len(nets)):
        starts[i + 1] = starts[i]
        for q in range(g.starts[nets[i]], g.starts[nets[i] + 1]):
            if place[g.pins[q]] >= 0:
                starts[i + 1] += 1
    pins = np.empty(starts[-1], dtype=np.int32)
    source = np.full(len(nets), -1, dtype=np.int32)
    end = 0
    for i in range(len(nets)):
        if g.source[nets[i]] >= 0:
            source[i] = place[g.source[nets[i]]]
        for q in range(g.starts[nets[i]], g.starts[nets[i] + 1]):
            if place[g.pins[q]] >= 0:
                pins[end] = place[g.pins[q]]
                end += 1
    block = graph_of(
        g.sizes[nodes], source, g.weight[nets], g.anchored[nets] & (source >= 0), g.own[nets] & (source >= 0),
        g.resource[nets], g.amount[nets], starts, pins,
    )  # fmt: skip
    return contract(block, np.arange(len(nodes)).astype(np.int32), len(nodes))


@njit(cache=True)
def cluster(
    g: Graph, order: IndexArray, caps: IndexArray, part: Int32s, largest: int, least: int, direct: bool
) -> tuple[Int32s, int]:
    """Join each node with the neighbour that it shares most spikes with, within a size.

    The rating of a neighbour is the weight of the nets shared with it, each divided by its pins
    (heavy edges), divided by the neighbour's size, so that no cluster swallows all others.

    Args:
        g: graph.
        order: (nodes,) in which nodes may join.
        caps: (resources,) what a cluster may take at most by itself.
        part: (nodes,) nodes of different parts are not joined.
        largest: nets with more pins say little and are passed over.
        least: clusters that must remain.
        direct: only senders and hearers attract each other, not two hearers: much quicker where
            nets are large.

    Returns:
        (nodes,) the cluster of each node, 0 ... clusters - 1, and the number of clusters.
    """
    nodes, resources = g.sizes.shape
    label = np.arange(nodes).astype(np.int32)
    size = g.sizes.copy()
    single = np.ones(nodes, dtype=np.bool_)
    rating = np.zeros(nodes, dtype=np.float64)
    touched = np.empty(nodes, dtype=np.int32)
    left = nodes
    for v in order:
        if left <= least:
            break
        if not single[v]:
            continue
        found = 0
        for mode in range(2):
            begin = g.hears_starts[v] if mode == 0 else g.sends_starts[v]
            end = g.hears_starts[v + 1] if mode == 0 else g.sends_starts[v + 1]
            for k in range(begin, end):
                e = g.hears[k] if mode == 0 else g.sends[k]
                sender = g.source[e] if g.anchored[e] else -1
                degree = g.starts[e + 1] - g.starts[e] + (1 if sender >= 0 else 0)
                if g.weight[e] == 0.0 or degree < 2 or degree > largest or (mode == 1 and sender < 0):
                    continue
                share = g.weight[e] / (degree - 1)
                stop = g.starts[e] if direct and mode == 0 else g.starts[e + 1]
                for q in range(g.starts[e] - 1, stop):
                    u = sender if q < g.starts[e] else g.pins[q]
                    if u < 0:
                        continue
                    c = label[u]
                    if c == v:
                        continue
                    if rating[c] == 0.0:
                        touched[found] = c
                        found += 1
                    rating[c] += share
        best, best_score = -1, 0.0
        for i in range(found):
            c = touched[i]
            score = rating[c] / size[c, 0]
            rating[c] = 0.0
            if score <= best_score or part[c] != part[v]:
                continue
            fits = True
            for r in range(resources):
                if size[c, r] + size[v, r] > caps[r]:
                    fits = False
            if fits:
                best, best_score = c, score
        if best >= 0:
            label[v] = best
            single[v] = False
            single[best] = False
            left -= 1
            for r in range(resources):
                size[best, r] += size[v, r]
    names = np.full(nodes, -1, dtype=np.int32)
    count = 0
    for v in range(nodes):
        if label[v] == v:
            names[v] = count
            count += 1
    for v in range(nodes):
        label[v] = names[label[v]]
    return label, count
