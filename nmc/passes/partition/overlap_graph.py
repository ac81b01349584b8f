"""The search of the overlap partitioner: a graph of macro-nodes or neurons is cut into cores."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.kernels.partition_dissolve import dissolve
from nmc.kernels.partition_graph import Graph, Int32s
from nmc.kernels.partition_growth import grown
from nmc.kernels.partition_search import cut_weight, refine_all
from nmc.passes.partition.bisect import UNLIMITED, Effort, bisected, legal_parts
from nmc.passes.partition.kway import moved_parts
from nmc.passes.partition.macro import MacroGraph
from nmc.passes.partition.mt_kahypar import mt_kahypar_parts
from nmc.passes.partition.units import OPERATIONS

SLACK = 0.03
"""Cores beyond the fewest: room to move nodes."""

MORE_CORES = 0.2
"""Cores beyond the fewest where time counts: work is spread."""

UNEVEN_WORK = 1.1
"""Synaptic operations of a core over the mean, at most, where time counts."""

PASSES = 3
"""Passes over two cores."""

ROUNDS = 6
"""Rounds over all pairs of cores."""

PARTNERS = 40
"""Cores with which each is refined."""

FEW = 20_000_000
"""Up to so many cores times nets it is tried to do with fewer cores."""

WORTH = 0.5
"""A core less may cost so much of a core's packets."""

PROBES = 3
"""Cores that are grown to see which limit fills them."""

SCARCE_AXONS = 0.7
"""Where cores are filled with fewer neurons than this share, growing them is tried too, ..."""

HOPELESS = 0.5
"""... and large graphs in which they are filled with fewer are not bisected."""

FREE = 100_000
"""Pins of a graph that is cut for the fewest cores, too, where packets to the own core count."""

QUICK = 300_000
"""Pins of a graph that is not large: larger ones of neurons are not bisected, but moved neuron by neuron."""

PATIENCE = 60
"""Moves between two cores without a new best."""

MANY_CORES = 500
"""Beyond so many cores one cut, and one pair of cores, matters little; then ..."""

FEW_TRIES, FEW_ROUNDS, FEW_PARTNERS = 4, 3, 20
"""... first cuts are grown from so many nodes, and so many rounds over pairs of so many partners are gone."""

LARGE = 5_000_000
"""Pins up to which Mt-KaHyPar is asked: a minute or two."""

MORE_TRIED = 2
"""Numbers of cores that Mt-KaHyPar is asked for, from the one aimed at on."""


def graph_parts(
    macro: MacroGraph, generator: np.random.Generator, optimise: str = "energy", effort: str = "normal"
) -> IndexArray:
    """(nodes,) int64 core of each node, 0 ... cores - 1.

    Args:
        macro: graph and limits.
        generator: seeded.
        optimise: see `PartitionOverlap`.
        effort: ``high`` tries Mt-KaHyPar, too.
    """
    graph = macro.graph
    if not len(graph.sizes):
        return np.zeros(0, dtype=np.int64)
    limits = np.minimum(macro.limits, UNLIMITED)
    use = graph.sizes.sum(axis=0)
    slack = {"cores": 0.0, "latency": MORE_CORES}.get(optimise, SLACK)
    filling = float((use / limits).max())
    cores, fewest = max(int(np.ceil(filling * (1 + slack))), 1), max(int(np.ceil(filling)), 1)
    if optimise == "latency" and len(limits) > OPERATIONS:
        limits[OPERATIONS] = max(int(use[OPERATIONS] / cores * UNEVEN_WORK), int(graph.sizes[:, OPERATIONS].max()))
    # Pixels of layers are bisected well; neurons that hear anybody leave cores half empty.
    filled = 1.0 if macro.units else _filled_share(graph, limits, generator)
    found = []
    if filled >= SCARCE_AXONS and not macro.units and len(graph.pins) > QUICK:
        found.append(moved_parts(graph, limits, cores, generator))
    elif filled > HOPELESS or len(graph.pins) <= QUICK:
        # One seed for every number of cores: an aim that tries another's number finds what that one finds.
        seed = int(generator.integers(1 << 62))
        for count in sorted({cores, fewest}) if optimise == "energy" and len(graph.pins) <= FREE else [cores]:
            own = np.random.default_rng([seed, count])
            tried = Effort(tries=FEW_TRIES) if count > MANY_CORES and effort != "high" else Effort()
            found.append(
                _refined(graph, bisected(graph, limits, count, own, tried), limits, own, quick=effort != "high")
            )
    if filled < SCARCE_AXONS:
        found.append(grown(graph, np.arange(len(graph.sizes)), limits, len(graph.sizes)))
    if effort == "high" and optimise != "latency" and filled >= SCARCE_AXONS and len(graph.pins) <= LARGE:
        found += [_from_mt_kahypar(graph, limits, cores + more, generator) for more in range(MORE_TRIED)]
    best = min(found, key=lambda part: _rank(graph, part, optimise))
    dense: IndexArray = np.unique(best, return_inverse=True)[1].astype(np.int64)
    return dense


def _rank(graph: Graph, part: Int32s, optimise: str) -> tuple[float, float]:
    packets, cores = cut_weight(graph, part, int(part.max()) + 1), float(len(np.unique(part)))
    return (cores, packets) if optimise == "cores" else (packets, cores)


def _from_mt_kahypar(graph: Graph, limits: IndexArray, cores: int, generator: np.random.Generator) -> Int32s:
    part = mt_kahypar_parts(graph, cores, int(limits[0]), int(generator.integers(1 << 30)))
    return _refined(graph, legal_parts(graph, part, limits, generator), limits, generator)


def _filled_share(graph: Graph, limits: IndexArray, generator: np.random.Generator) -> float:
    """How full of neurons cores become before another limit is reached: a few are grown."""
    part = grown(graph, generator.permutation(len(graph.sizes)), limits, PROBES)
    inside = part >= 0
    if inside.all():
        return 1.0
    share: float = graph.sizes[inside, 0].sum() / (part.max() + 1) / limits[0]
    return share


def _refined(
    graph: Graph, part: Int32s, limits: IndexArray, generator: np.random.Generator, *, quick: bool = False
) -> Int32s:
    count = int(part.max()) + 1
    rounds, partners = (FEW_ROUNDS, FEW_PARTNERS) if quick and count > MANY_CORES else (ROUNDS, PARTNERS)
    refine_all(graph, part, generator.permutation(count), limits, PATIENCE, PASSES, rounds, partners)
    if count * len(graph.source) <= FEW and dissolve(graph, part, count, limits, WORTH):
        refine_all(graph, part, generator.permutation(count), limits, PATIENCE, PASSES, rounds, partners)
    return part
