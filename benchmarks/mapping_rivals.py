"""What the own partitioner is compared with: packing in order, and METIS and Mt-KaHyPar where installed."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import Conv2d, Dense, Pool, size
from nmc.ir.network import Network
from nmc.kernels.partition_graph import Graph


def packed(graph: Graph, limits: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(nodes,) core of each node: nodes in an order, a new core wherever the next one does not fit."""
    part = np.zeros(len(order), dtype=np.int32)
    held = np.full(len(graph.source), -1, dtype=np.int64)
    core, use = 0, np.zeros_like(limits)
    for node in order.tolist():
        nets = np.concatenate(
            [
                graph.hears[graph.hears_starts[node] : graph.hears_starts[node + 1]],
                [e for e in graph.sends[graph.sends_starts[node] : graph.sends_starts[node + 1]] if graph.own[e]],
            ]
        ).astype(np.int64)
        grown = use + graph.sizes[node]
        fresh = nets[held[nets] != core]
        np.add.at(grown, graph.resource[fresh], graph.amount[fresh])
        if (grown > limits).any() and use.any():
            core += 1
            grown = graph.sizes[node].copy()
            np.add.at(grown, graph.resource[nets], graph.amount[nets])
            fresh = nets
        held[fresh] = core
        use = grown
        part[node] = core
    return part


def tile_order(units: tuple, nodes: int, tile: int) -> np.ndarray:
    """(nodes,) the nodes layer by layer, square tiles of places with all their channels side by side."""
    keys = np.zeros((4, nodes), dtype=np.int64)
    for unit in units:
        if unit.first >= nodes:
            continue
        at = slice(unit.first, unit.first + unit.nodes)
        shape = unit.population.shape
        width = shape[2] if len(shape) == 3 else 1
        place = np.tile(np.arange(unit.grid[1]), unit.grid[0])
        keys[0, at] = unit.first
        keys[1, at] = place // width // tile
        keys[2, at] = place % width // tile
        keys[3, at] = place
    return np.lexsort(keys[::-1])


def synapses(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """(source, target) neurons of every synapse, numbered through the populations in their order."""
    names = [p.name for p in network.populations]
    offsets = dict(zip(names, np.cumsum([0, *(p.neurons for p in network.populations)]).tolist(), strict=False))
    pairs = []
    for projection in network.projections:
        operator = projection.connectivity
        if isinstance(operator, Dense):
            rows, columns = operator.weight.shape
            target, source = np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows)
        elif isinstance(operator, Conv2d | Pool):
            target, source, _ = operator.synapses()
        else:
            source = target = np.arange(size(operator.in_shape))
        pairs.append((source + offsets[projection.source], target + offsets[projection.target]))
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def neuron_packets(source: np.ndarray, target: np.ndarray, part: np.ndarray, rates: np.ndarray) -> float:
    """Spikes times distinct other cores, from the list of synapses."""
    away = part[source] != part[target]
    cores = int(part.max()) + 1
    pairs = np.unique(source[away] * cores + part[target[away]])
    return float(rates[pairs // cores].sum())


def violations(source: np.ndarray, target: np.ndarray, part: np.ndarray, neurons_max: int, axons_max: int) -> int:
    """Cores that exceed neurons or distinct input axons."""
    cores = int(part.max()) + 1
    pairs = np.unique(part[target].astype(np.int64) * len(part) + source)
    axons = np.bincount(pairs // len(part), minlength=cores)
    return int(((np.bincount(part, minlength=cores) > neurons_max) | (axons > axons_max)).sum())


def metis(
    source: np.ndarray, target: np.ndarray, rates: np.ndarray, cores: int, *, volume: bool = False
) -> np.ndarray | None:
    """METIS on the graph of neurons, spikes as weights (edge cut: SNEAP's way); None: not installed."""
    try:
        import pymetis
        import scipy.sparse
    except ImportError:
        return None
    weight = np.maximum(np.rint(rates[source]), 1)
    one_way = scipy.sparse.csr_matrix((weight, (source, target)), shape=(len(rates),) * 2)
    both = (one_way + one_way.T).tocsr()
    both.setdiag(0)
    both.eliminate_zeros()
    kind = pymetis.zero_copy_dtype()
    options = pymetis.Options(seed=1, ufactor=30, **({"objtype": 1} if volume else {}))
    adjacency = pymetis.CSRAdjacency(both.indptr.astype(kind), both.indices.astype(kind))
    _, part = pymetis.part_graph(cores, adjacency, eweights=both.data.astype(kind), recursive=False, options=options)
    return np.asarray(part, dtype=np.int32)


def mt_kahypar(graph: Graph, cores: int, limit: int) -> np.ndarray | None:
    """Mt-KaHyPar's deterministic preset on packets, under the limit of neurons; None: not installed."""
    from nmc.passes.partition.mt_kahypar import is_installed, mt_kahypar_parts

    return mt_kahypar_parts(graph, cores, limit, seed=1) if is_installed() else None
