"""Recursive bisection: the graph is cut in two until every block fits a core.

Each cut is multilevel: nodes that share most spikes are joined until few are left, the small
graph is cut, and the cut is refined at every level on the way back (Karypis et al., DAC 1997).
A net that is cut goes on as one net in either half, so the packets of all cuts add up to those of
the whole partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.kernels.partition_graph import Graph, Int32s, block_of, cluster, contract
from nmc.kernels.partition_search import cut_weight, first_cut, refine_cut, usage

COARSEST = 160
"""Nodes at which joining ends."""

UNLIMITED = 1 << 40
"""Stands for no limit: so many times as many cores as there may be still fit 64 bits."""

UNEVEN = 0.6
"""The larger half of a block that is cut because of what its nodes share, at most."""

SCARCE = 1.5
"""Where nodes by themselves need less than the limits by this factor, sides need not be even."""

LARGEST_NET = 400
"""Nets with more pins do not say which nodes belong together."""


@dataclass(frozen=True)
class Effort:
    """How hard a bisection searches; more of anything is slower and rarely worse.

    Attributes:
        tries: first cuts of the smallest graph.
        patience: moves without a new best before a pass ends.
        passes: passes of the refinement at each level.
        cycles: times that a finished cut is coarsened along itself and refined again.
    """

    tries: int = 12
    patience: int = 120
    passes: int = 4
    cycles: int = 0


def bisected(graph: Graph, limits: IndexArray, cores: int, generator: np.random.Generator, effort: Effort) -> Int32s:
    """(nodes,) int32 the core of each node.

    Args:
        graph: of the network.
        limits: (resources,) of a core.
        cores: that are aimed at; blocks that exceed a limit are cut further.
        generator: seeded.
        effort: of each cut.
    """
    limits = np.minimum(limits, UNLIMITED)
    part = np.zeros(len(graph.sizes), dtype=np.int32)
    for number, block in enumerate(_blocks(graph, limits, cores, generator, effort)):
        part[block] = number
    return part


def legal_parts(graph: Graph, part: Int32s, limits: IndexArray, generator: np.random.Generator) -> Int32s:
    """The same parts, those that exceed a limit cut further.

    Args:
        graph: of the network.
        part: (nodes,) int32 part of each node.
        limits: (resources,) of a core.
        generator: seeded.
    """
    count = int(part.max(initial=-1)) + 1
    over = np.flatnonzero((usage(graph, part, count) > limits).any(axis=1))
    legal = part.copy()
    for number in over.tolist():
        inside = np.flatnonzero(part == number)
        pieces = bisected(block_of(graph, inside), limits, 1, generator, Effort())
        legal[inside[pieces > 0]] = count - 1 + pieces[pieces > 0]
        count += int(pieces.max())
    return legal


def _blocks(
    graph: Graph, limits: IndexArray, cores: int, generator: np.random.Generator, effort: Effort
) -> Iterator[IndexArray]:
    """The nodes of each core, neighbouring cores one after the other."""
    stack = [(np.arange(len(graph.sizes)), graph, cores)]
    while stack:
        nodes, block, count = stack.pop()
        if len(nodes) <= 1:
            yield nodes
            continue
        use = block.sizes.sum(axis=0)
        count = max(count, int((-(-use // limits)).max()))
        forced = count == 1
        if forced:
            if (usage(block, np.zeros(len(nodes), dtype=np.int32), 1)[0] <= limits).all():
                yield nodes
                continue
            count = 2
        side = cut(block, limits, count, generator, effort, forced=forced)
        if side.min() == side.max():
            side[: len(nodes) // 2] = 1 - side[0]  # No cut was found that lowers the overload.
        halves = ((count + 1) // 2, count // 2)
        for number in (1, 0):
            inside = np.flatnonzero(side == number)
            label = np.full(len(nodes), -1, dtype=np.int32)
            label[inside] = np.arange(len(inside))
            if len(inside):
                stack.append((nodes[inside], contract(block, label, len(inside)), halves[number]))


def cut(
    graph: Graph,
    limits: IndexArray,
    cores: int,
    generator: np.random.Generator,
    effort: Effort,
    *,
    forced: bool = False,
) -> Int32s:
    """(nodes,) side 0 or 1 of each node, for ``cores`` cores in all.

    Args:
        graph: block.
        limits: (resources,) of a core.
        cores: at least 2.
        generator: seeded.
        effort: of the search.
        forced: what nodes share exceeds a core: halves must be near even, or nothing is gained.
    """
    halves = np.array([(cores + 1) // 2, cores // 2])
    share = float(halves[0] / cores)
    sides = _side_limits(graph, limits, halves)
    if forced:
        sides[:, 0] = np.minimum(sides[:, 0], int(graph.sizes[:, 0].sum() * UNEVEN) + 1)
    part = _multilevel(graph, sides, share, generator, effort, None)
    if forced:
        part = _better(graph, sides, part, _in_order(graph, sides, share, effort))
    for _ in range(effort.cycles):
        part = _multilevel(graph, sides, share, generator, effort, part)
    return part


def _in_order(graph: Graph, sides: IndexArray, share: float, effort: Effort) -> Int32s:
    """The nodes cut where they stand: layers stay whole, and so does what their nodes hold together."""
    filled = np.cumsum(graph.sizes[:, 0])
    part: Int32s = (filled > share * filled[-1]).astype(np.int32)
    refine_cut(graph, part, sides, effort.patience, effort.passes)
    return part


def _better(graph: Graph, sides: IndexArray, one: Int32s, other: Int32s) -> Int32s:
    """The cut that exceeds less, then the one with fewer packets."""

    def rank(part: Int32s) -> tuple[float, float]:
        over = np.maximum(usage(graph, part, 2) - sides, 0) / np.maximum(sides, 1)
        return round(float(over.sum()), 9), cut_weight(graph, part, 2)

    return min(one, other, key=rank)


def _side_limits(graph: Graph, limits: IndexArray, halves: IndexArray) -> IndexArray:
    """(2, resources) of a side: its cores' limits, nearer to an even share the more cuts follow."""
    cores = int(halves.sum())
    use = np.maximum(graph.sizes.sum(axis=0), 1)
    room = cores * limits / use
    depth = int(np.ceil(np.log2(cores)))
    even = np.where(room < SCARCE, use / cores * np.maximum(room, 1.0) ** (1.0 / depth), limits)
    sides: IndexArray = np.minimum(halves[:, None] * limits, np.ceil(halves[:, None] * even)).astype(np.int64)
    return sides


def _multilevel(
    graph: Graph, sides: IndexArray, share: float, generator: np.random.Generator, effort: Effort, part: Int32s | None
) -> Int32s:
    levels: list[tuple[Graph, Int32s]] = []
    caps = np.maximum(sides.sum(axis=0) // COARSEST * 2, graph.sizes.max(axis=0))
    while len(graph.sizes) > COARSEST:
        same = np.zeros(len(graph.sizes), dtype=np.int32) if part is None else part
        least = max(COARSEST // 2, len(graph.sizes) * 2 // 5)
        label, count = cluster(graph, generator.permutation(len(graph.sizes)), caps, same, LARGEST_NET, least, False)
        if count > 0.95 * len(graph.sizes):
            break
        levels.append((graph, label))
        if part is not None:
            coarse = np.zeros(count, dtype=np.int32)
            coarse[label] = part
            part = coarse
        graph = contract(graph, label, count)
    if part is None:
        seeds = generator.integers(0, len(graph.sizes), effort.tries)
        part, _, _ = first_cut(graph, share, sides, seeds, effort.patience, effort.passes)
    else:
        refine_cut(graph, part, sides, effort.patience, effort.passes)
    for finer, label in reversed(levels):
        part = part[label]
        refine_cut(finer, part, sides, effort.patience, effort.passes)
    return part
