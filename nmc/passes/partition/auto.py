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
from nmc.passes.partition.rates import measured_rates
from nmc.passes.partition.tiles import tile_cores
from nmc.passes.partition.traffic import packets_per_step


@dataclass(frozen=True)
class PartitionAuto:
    """Partition by tiles and by greedy growth; keep the one that fits the chips, then sends fewer packets.

    Attributes:
        chips: chips that may be used; None: the target's own number.
    """

    name: ClassVar[str] = "partition-auto"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Program]] = Network
    produces: ClassVar[type[Program]] = Partitioned

    chips: int | None = None

    def run(self, program: Program, context: Context) -> Program:
        """Partition the network.

        Raises:
            NmcError: a layer fits no core, however small its tiles (exit 4), with all such layers.
        """
        if not isinstance(program, Network):
            raise TypeError(f"{self.name} needs a Network")
        model = DemandModel.of(program, context.target, measured_rates(program, context))
        available = (self.chips or context.target.grid.chips) * context.target.grid.cores_per_chip
        results = [assemble(model, tile_cores(model)), assemble(model, greedy_cores(model))]

        def rank(partitioned: Partitioned) -> tuple[int, float, int]:
            over = max(partitioned.cores_used - available, 0)
            return over, packets_per_step(partitioned), partitioned.cores_used

        return min(results, key=rank)
