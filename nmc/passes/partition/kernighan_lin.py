"""Kernighan-Lin: macro-nodes are swapped between cores as long as fewer spikes cross."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network
from nmc.passes.base import Context, Program
from nmc.passes.partition.assemble import assemble
from nmc.passes.partition.demand import Core, DemandModel
from nmc.passes.partition.greedy import join_small
from nmc.passes.partition.hypergraph import Hypergraph, hypergraph_of, sequential
from nmc.passes.partition.rates import measured_rates
from nmc.passes.partition.repair import legal_cores


@dataclass(frozen=True)
class PartitionKernighanLin:
    """Fill cores in the order of the network, then swap macro-nodes until no fewer spikes cross.

    Kernighan-Lin between every two cores that talk, with nets as edges: a spike that crosses to
    a core counts once. Cores never exceed neurons, input axons, synapse memory or thresholds on
    the way; where output axons are exceeded at the end, the core is split.

    Attributes:
        rounds: at most so many rounds over all pairs of cores.
        passes: at most so many passes over one pair.
    """

    name: ClassVar[str] = "partition-kernighan-lin"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Program]] = Network
    produces: ClassVar[type[Program]] = Partitioned

    rounds: int = 6
    passes: int = 4

    def run(self, program: Program, context: Context) -> Program:
        """Partition the network.

        Raises:
            NmcError: a layer fits no core, however small its tiles (exit 4), with all such layers.
        """
        if not isinstance(program, Network):
            raise TypeError(f"{self.name} needs a Network")
        model = DemandModel.of(program, context.target, measured_rates(program, context))
        return assemble(model, swapped_cores(model, context.generator(self.name), self.rounds, self.passes))


def swapped_cores(model: DemandModel, generator: np.random.Generator, rounds: int, passes: int) -> list[Core]:
    """Legal cores after Kernighan-Lin.

    Raises:
        NmcError: see `PartitionKernighanLin.run`.
    """
    graph = hypergraph_of(model)
    parts = refined(graph, sequential(graph), generator, rounds, passes)
    return join_small(model, legal_cores(model, graph.nodes, parts))


def refined(
    graph: Hypergraph, parts: IndexArray, generator: np.random.Generator, rounds: int, passes: int
) -> IndexArray:
    """The parts after Kernighan-Lin; which pair of cores comes first depends on the generator."""
    # Imported here: the compiled kernel takes a while to load, and listing passes needs none.
    from nmc.kernels.partition import kernighan_lin

    better = parts.copy()
    if len(better):
        kernighan_lin(
            better,
            generator.permutation(int(parts.max()) + 1).astype(np.int64),
            graph.sizes,
            graph.limits,
            graph.sources,
            graph.weights,
            graph.resources,
            graph.amounts,
            graph.pins.starts,
            graph.pins.items,
            graph.hears.starts,
            graph.hears.items,
            graph.sends.starts,
            graph.sends.items,
            rounds,
            passes,
        )
    return better
