"""The overlap partitioner: neurons that hear the same spikes share a core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network
from nmc.passes.base import Context, Program
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.rates import measured_rates


@dataclass(frozen=True)
class PartitionOverlap:
    """Lower the packets of the whole network by multilevel bisection and moves between cores.

    Layered networks are cut at pixels and chunks of channels, so that packets are counted exactly;
    others at tiles with the nets of their neurons.

    Attributes:
        optimise: ``energy`` counts a packet for every core that hears a spike; ``traffic`` leaves the
            sender's own core out; ``cores`` takes the fewest cores first; ``latency`` levels the
            synaptic operations of the cores, with a fifth more cores than would do.
        tries: bisections of the whole network, of which the best is kept.
        effort: ``high`` tries Mt-KaHyPar, too, where the extra ``hypergraph`` is installed.
    """

    name: ClassVar[str] = "partition-overlap"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Program]] = Network
    produces: ClassVar[type[Program]] = Partitioned

    optimise: str = "energy"
    tries: int = 1
    effort: str = "normal"

    def run(self, program: Program, context: Context) -> Program:
        """Partition the network.

        Raises:
            NmcError: a layer fits no core, however small its tiles (exit 4), with all such layers;
                Mt-KaHyPar is asked for and not installed (exit 6).
        """
        if not isinstance(program, Network):
            raise TypeError(f"{self.name} needs a Network")
        # Imported here: the compiled kernels take a while to load, and listing passes needs none.
        from nmc.passes.partition.mt_kahypar import require_installed
        from nmc.passes.partition.overlap_cores import overlap_partition

        if self.effort == "high":
            require_installed()
        model = DemandModel.of(program, context.target, measured_rates(program, context))
        return overlap_partition(model, context.generator(self.name), self.optimise, self.tries, self.effort)
