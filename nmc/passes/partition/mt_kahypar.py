"""Mt-KaHyPar, where the extra ``hypergraph`` is installed: packets as connectivity of a hypergraph.

Its deterministic preset answers the same for one seed and any number of threads. It knows one
weight per node and no input axons: what it returns has to be made legal.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.kernels.parallel import available_threads
from nmc.kernels.partition_graph import Graph, Int32s

HEAVIEST = 100_000
"""Mt-KaHyPar takes integers: the heaviest net becomes this number."""


def is_installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec("mtkahypar") is not None


def require_installed() -> None:
    """Say how to get the package where it is not there.

    Raises:
        NmcError: it is not installed (exit 6).
    """
    if not is_installed():
        raise NmcError.single(
            "package-missing",
            "--effort high searches with Mt-KaHyPar, which is not installed",
            ExitCode.MISSING,
            help="pip install 'nmc[hypergraph]', or leave out --effort high",
        )


def mt_kahypar_parts(graph: Graph, cores: int, neurons: int, seed: int) -> Int32s:
    """(nodes,) int32 core of each node.

    Args:
        graph: nets without spikes are left out.
        cores: number of parts.
        neurons: of a core at most.
        seed: of the search.
    """
    import mtkahypar

    nodes = len(graph.sizes)
    if cores <= 1 or nodes <= cores:
        return np.minimum(np.arange(nodes), max(cores, 1) - 1).astype(np.int32)
    nets, weights = _nets(graph)
    scale = HEAVIEST / max(max(weights, default=0.0), 1e-300)
    mtkahypar.set_seed(seed)
    start = mtkahypar.initialize(available_threads(), False)
    context = start.context_from_preset(mtkahypar.PresetType.DETERMINISTIC)
    context.set_partitioning_parameters(cores, 0.03, mtkahypar.Objective.KM1)
    context.set_individual_target_block_weights([neurons] * cores)
    context.logging = False
    sizes = graph.sizes[:, 0].tolist()
    whole = [max(round(weight * scale), 1) for weight in weights]
    hypergraph = start.create_hypergraph(context, nodes, len(nets), nets, sizes, whole)
    return np.asarray(hypergraph.partition(context).get_partition(), dtype=np.int32)


def _nets(graph: Graph) -> tuple[list[list[int]], list[float]]:
    """Nets with at least two ends, the sender one of them where its own core is free."""
    nets: list[list[int]] = []
    weights: list[float] = []
    for e in np.flatnonzero(graph.weight > 0.0).tolist():
        ends = graph.pins[graph.starts[e] : graph.starts[e + 1]].tolist()
        if graph.anchored[e]:
            ends.append(int(graph.source[e]))
        if len(ends) > 1:
            nets.append(ends)
            weights.append(float(graph.weight[e]))
    return nets, weights
