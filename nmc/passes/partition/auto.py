"""Runs the partitioners and keeps the better result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network
from nmc.passes.base import Context, Program
from nmc.passes.partition.assemble import assemble, chip_populations
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.greedy import greedy_cores
from nmc.passes.partition.kernighan_lin import PartitionKernighanLin, swapped_cores
from nmc.passes.partition.rates import measured_rates
from nmc.passes.partition.tiles import tile_cores
from nmc.passes.partition.traffic import traffic

LARGE = 1_000_000
"""Neurons from which on overlap is the only one: the others would take minutes, and send more."""


@dataclass(frozen=True)
class PartitionAuto:
    """Partition by overlap, by tiles, by greedy growth and by Kernighan-Lin.

    The result that fits the chips is kept, then the one that is best at what is optimised: fewer
    packets unless said otherwise.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        optimise: what decides between results that fit, see `PartitionOverlap`. Only overlap can
            level synaptic operations.
        tries: see `PartitionOverlap`; large networks are tried once.
    """

    name: ClassVar[str] = "partition-auto"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Program]] = Network
    produces: ClassVar[type[Program]] = Partitioned

    chips: int | None = None
    optimise: str = "energy"
    tries: int = 3
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
        available = (self.chips or context.target.grid.chips) * context.target.grid.cores_per_chip
        large = sum(p.neurons for p in chip_populations(program)) > LARGE
        tries = 1 if large else self.tries
        overlap = overlap_partition(model, context.generator("partition-overlap"), self.optimise, tries, self.effort)
        if self.optimise == "latency" or large:
            return overlap
        swapper = PartitionKernighanLin()
        swapped = swapped_cores(model, context.generator(swapper.name), swapper.rounds, swapper.passes)
        others = [assemble(model, cores) for cores in (tile_cores(model), greedy_cores(model), swapped)]

        def rank(partitioned: Partitioned) -> tuple[float, ...]:
            over = max(partitioned.cores_used - available, 0)
            flows = traffic(partitioned).items()
            packets = sum(n for (a, b), n in flows if self.optimise != "traffic" or a != b)
            if self.optimise == "cores":
                return over, partitioned.cores_used, packets
            return over, packets, partitioned.cores_used

        return min([overlap, *others], key=rank)
