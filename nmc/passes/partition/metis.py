"""METIS, as the field uses it: edge cut with spikes as weights, then repaired to hold the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network
from nmc.passes.base import Context, Program
from nmc.passes.partition.assemble import assemble
from nmc.passes.partition.demand import Core, DemandModel
from nmc.passes.partition.greedy import join_small
from nmc.passes.partition.hypergraph import Csr, Hypergraph, hypergraph_of
from nmc.passes.partition.rates import measured_rates
from nmc.passes.partition.repair import legal_cores

HEAVIEST = 1_000_000
"""METIS takes integers: the heaviest edge and a whole core become this number."""

TOTAL = 1_000_000_000
"""All edges of a plain graph together, at most."""

ATTEMPTS = 3
"""METIS is asked again for as many parts as the repair of its last answer made."""


@dataclass(frozen=True)
class PartitionMetis:
    """Cut the graph of macro-nodes by METIS (k-way, edge cut, spikes as edge weights).

    METIS knows one weight per node and no hard limit: a part that exceeds any limit of a core
    is split. Where that makes more cores, METIS is asked for that many parts at once, and the
    answer with the fewest cores, then the fewest packets is kept.

    Attributes:
        imbalance: how much heavier than the mean a part may be, in thousandths (METIS' ufactor).
    """

    name: ClassVar[str] = "partition-metis"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Program]] = Network
    produces: ClassVar[type[Program]] = Partitioned

    imbalance: int = 30

    def run(self, program: Program, context: Context) -> Program:
        """Partition the network.

        Raises:
            NmcError: a layer fits no core, however small its tiles (exit 4), with all such layers.
        """
        if not isinstance(program, Network):
            raise TypeError(f"{self.name} needs a Network")
        model = DemandModel.of(program, context.target, measured_rates(program, context))
        graph = hypergraph_of(model)
        seed = int(context.generator(self.name).integers(1 << 30))
        shares = core_shares(graph)
        wanted = int(np.ceil(shares.sum()))
        results: list[list[Core]] = []
        for _ in range(ATTEMPTS):
            parts = metis_parts(graph, shares, wanted, seed, self.imbalance)
            cores = legal_cores(model, graph.nodes, parts)
            results.append(join_small(model, cores))
            if len(cores) <= wanted:
                break
            wanted = len(cores)
        return assemble(model, min(results, key=lambda cores: (len(cores), _packets(model, cores))))


def _packets(model: DemandModel, cores: Sequence[Core]) -> float:
    """Packets per step to the cores."""
    return sum(model.rate(name) * int(np.count_nonzero(seen)) for core in cores for name, seen in core.seen.items())


def core_shares(graph: Hypergraph) -> Array:
    """(nodes,) the part of a core that each macro-node takes of the limit that it presses most."""
    if not len(graph.nodes):
        return np.zeros(0)
    shares: Array = (graph.sizes / graph.limits).max(axis=1)
    return shares


def spike_graph(graph: Hypergraph) -> tuple[Csr, IndexArray]:
    """Neighbours of each macro-node in both directions, and the spikes between them as integers.

    A net becomes one edge from its sender to each hearer (a star); what the host sends has no
    sender on the chip and no edge.
    """
    count = len(graph.nodes)
    nets = np.repeat(np.arange(len(graph.sources)), np.diff(graph.pins.starts))
    edges = np.flatnonzero((graph.sources[nets] >= 0) & (graph.weights[nets] > 0.0))
    a, b, spikes = graph.sources[nets[edges]], graph.pins.items[edges], graph.weights[nets[edges]]
    both = np.concatenate([a * count + b, b * count + a])
    pairs, at = np.unique(both, return_inverse=True)
    weights = np.bincount(at.reshape(-1), weights=np.concatenate([spikes, spikes]), minlength=len(pairs))
    scaled = np.maximum(np.rint(weights * (HEAVIEST / max(weights.max(initial=0.0), 1e-300))), 1.0)
    return Csr.of(pairs // count, pairs % count, count), scaled.astype(np.int64)


def metis_parts(
    graph: Hypergraph,
    shares: Array,
    wanted: int,
    seed: int,
    imbalance: int,
) -> IndexArray:
    """(nodes,) int64 part of each macro-node; one seed gives one answer.

    Args:
        graph: of the network.
        shares: of `core_shares`.
        wanted: number of parts.
        seed: of METIS' own generator.
        imbalance: METIS' ufactor.
    """
    count = len(graph.nodes)
    if wanted <= 1 or count <= 1:
        return np.zeros(count, dtype=np.int64)
    if wanted >= count:
        return np.arange(count, dtype=np.int64)
    # Imported here: listing passes needs no METIS.
    import pymetis

    neighbours, weights = spike_graph(graph)
    kind = pymetis.zero_copy_dtype()
    _, parts = pymetis.part_graph(
        wanted,
        pymetis.CSRAdjacency(neighbours.starts.astype(kind), neighbours.items.astype(kind)),
        vweights=np.maximum(np.rint(shares * HEAVIEST), 1.0).astype(kind),
        eweights=weights.astype(kind),
        recursive=False,
        options=pymetis.Options(seed=seed, ufactor=imbalance),
    )
    return np.asarray(parts, dtype=np.int64)


def cut_edges(
    source: IndexArray, target: IndexArray, spikes: Array, sizes: Array, parts: int, seed: int, imbalance: int
) -> IndexArray:
    """(nodes,) int64 part of each node of a plain graph, k-way, by the weight of cut edges.

    Args:
        source: (edges,) node that sends; an edge may stand there several times.
        target: (edges,) node that hears.
        spikes: (edges,) weight.
        sizes: (nodes,) what is balanced.
        parts: number of parts.
        seed: of METIS' own generator.
        imbalance: METIS' ufactor.
    """
    import pymetis

    one_way = sparse.coo_matrix((spikes, (source, target)), shape=(len(sizes),) * 2).tocsr()
    both = (one_way + one_way.T).tocsr()
    both.setdiag(0)
    both.eliminate_zeros()
    kind = pymetis.zero_copy_dtype()
    # METIS adds weights up in 32 bits.
    scale = min(HEAVIEST / max(both.data.max(initial=0.0), 1e-300), TOTAL / max(both.data.sum(), 1e-300))
    _, found = pymetis.part_graph(
        parts,
        pymetis.CSRAdjacency(both.indptr.astype(kind), both.indices.astype(kind)),
        vweights=np.maximum(np.rint(sizes), 1.0).astype(kind),
        eweights=np.maximum(np.rint(both.data * scale), 1.0).astype(kind),
        recursive=False,
        options=pymetis.Options(seed=seed, ufactor=imbalance),
    )
    return np.asarray(found, dtype=np.int64)
