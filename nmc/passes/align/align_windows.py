"""Windows and delays: every layer works on the right steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nmc.ir.network import Network
from nmc.passes.base import Context


@dataclass(frozen=True)
class AlignWindows:
    """Give every population its window and every projection the delay that matches it.

    A population starts one step after its latest source; an edge from an earlier source
    (a residual skip) waits: ``delay = start(target) - start(source)``. Without this,
    biases act before spikes arrive and skips arrive before their branch. Recurrent
    projections keep their delay.
    """

    name: ClassVar[str] = "align-windows"
    stage: ClassVar[str] = "align"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The same network with `start` and `delay` set; delays above the target's are errors."""
        start: dict[str, int] = {}
        for population in program.populations:
            sources = [start[p.source] for p in program.incoming[population.name] if p.name not in program.recurrent]
            start[population.name] = max(sources) + 1 if sources else 0
        projections = tuple(
            p if p.name in program.recurrent else replace(p, delay=start[p.target] - start[p.source])
            for p in program.projections
        )
        limit = context.target.weights.delay_max
        for projection in projections:
            if projection.delay > limit:
                context.diagnostics.error(
                    "delay-too-long",
                    f"the skip {projection.name} must wait {projection.delay} steps; "
                    f"{context.target.name} delays at most {limit}",
                    origin=projection.origin,
                    help="shorten the branch that the skip goes around",
                )
        populations = tuple(replace(p, start=start[p.name]) for p in program.populations)
        return replace(program, populations=populations, projections=projections)
