"""Runs the partitioners and keeps the better result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network
from nmc.passes.base import Context, Program
from nmc.passes.partition.assemble import assemble
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.greedy import greedy_cores
from nmc.passes.partition.kernighan_lin import PartitionKernighanLin, swapped_cores
from nmc.passes.partition.rates import measured_rates
from nmc.passes.partition.tiles import tile_cores
from nmc.passes.partition.traffic import packets_per_step


@dataclass(frozen=True)
class PartitionAuto:
    """Partition by overlap, by tiles, by greedy growth and by Kernighan-Lin.

    The result that fits the chips is kept, then the one that sends fewer packets.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        tries: see `PartitionOverlap`.
    """

    name: ClassVar[str] = "partition-auto"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Program]] = Network
    produces: ClassVar[type[Program]] = Partitioned

    chips: int | None = None
    tries: int = 3

    def run(self, program: Program, context: Context) -> Program:
        """Partition the network.

        Raises:
            NmcError: a layer fits no core, however small its tiles (exit 4), with all such layers.
        """
        if not isinstance(program, Network):
            raise TypeError(f"{self.name} needs a Network")
        model = DemandModel.of(program, context.target, measured_rates(program, context))
        available = (self.chips or context.target.grid.chips) * context.target.grid.cores_per_chip
        # Imported here: the compiled kernels take a while to load, and listing passes needs none.
        from nmc.passes.partition.overlap_cores import overlap_partition

        overlap = overlap_partition(model, context.generator("partition-overlap"), tries=self.tries)
        swapper = PartitionKernighanLin()
        swapped = swapped_cores(model, context.generator(swapper.name), swapper.rounds, swapper.passes)
        others = [assemble(model, cores) for cores in (tile_cores(model), greedy_cores(model), swapped)]

        results = [overlap, *others]

        def rank(partitioned: Partitioned) -> tuple[int, float, int]:
            over = max(partitioned.cores_used - available, 0)
            return over, packets_per_step(partitioned), partitioned.cores_used

        return min(results, key=rank)
