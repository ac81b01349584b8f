"""Large graphs of neurons: coarsened, cut by METIS at once, then moved neuron by neuron.

Bisection would visit millions of synapses once for every doubling of the cores. Here the neurons
are joined once with those that they talk to most, the small graph is cut into all cores, and
packets are lowered on the graph of neurons, where they are counted exactly.
"""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.kernels.partition_graph import Graph, Int32s, cluster
from nmc.kernels.partition_kway import move_neurons
from nmc.passes.partition.bisect import UNLIMITED, legal_parts
from nmc.passes.partition.metis import cut_edges

JOINED = 16
"""Neurons that are joined at most; a core holds many such groups."""

GROUPS_PER_CORE = 12
"""Groups of a core at least."""

IMBALANCE = 30
"""Thousandths by which METIS may exceed the mean: as much as there are spare cores."""

TURNS = 4
"""Neurons are looked at in so many turns, each core by core: quick, and no core fills before others give."""

ROUNDS = 2
"""Rounds over all neurons."""


def moved_parts(graph: Graph, limits: IndexArray, cores: int, generator: np.random.Generator) -> Int32s:
    """(nodes,) int32 core of each node.

    Args:
        graph: of neurons.
        limits: (resources,) of a core.
        cores: that are aimed at; parts that exceed a limit are cut further.
        generator: seeded.
    """
    nodes = len(graph.sizes)
    caps = np.full(len(limits), UNLIMITED)
    caps[0] = JOINED
    label, groups = cluster(
        graph,
        generator.permutation(nodes),
        caps,
        np.zeros(nodes, dtype=np.int32),
        nodes,
        cores * GROUPS_PER_CORE,
        True,
    )
    pins = np.diff(graph.starts)
    inside = np.repeat(graph.source >= 0, pins)
    coarse = cut_edges(
        np.repeat(label[graph.source], pins)[inside].astype(np.int64),
        label[graph.pins][inside].astype(np.int64),
        np.repeat(graph.weight, pins)[inside],
        np.bincount(label, weights=graph.sizes[:, 0], minlength=groups),
        cores,
        int(generator.integers(1 << 30)),
        IMBALANCE,
    )
    part = legal_parts(graph, coarse[label].astype(np.int32), limits, generator)
    for _ in range(ROUNDS):
        order = np.lexsort((part, generator.integers(0, TURNS, nodes)))
        move_neurons(graph, part, order, limits, 1, int(part.max()) + 1)
    return part
