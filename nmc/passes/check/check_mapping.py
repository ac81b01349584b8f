"""The checker of mappings: recounts everything and trusts nothing of the passes before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.hardware.target import Target
from nmc.ir.diagnostic import Diagnostic, DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import HOST, Route, Routed
from nmc.passes.base import Context, Program
from nmc.passes.check.coverage import check_synapses
from nmc.passes.check.pins import pin_diagnostics
from nmc.passes.check.reach import Recount
from nmc.passes.check.recount import check_limits, core_counts, packets_sent
from nmc.passes.check.routes import check_links, check_routes, heard
from nmc.passes.check.structure import Parts, check_neurons, check_places
from nmc.passes.pins import NO_PINS, Pins


def mapping_diagnostics(routed: Routed, target: Target) -> tuple[Diagnostic, ...]:
    """Everything that is wrong with a mapping; nothing if it carries its network exactly.

    Goes core by core, and counts in windows of populations: the time grows with the axons, and the
    memory with the largest population.
    """
    sink = DiagnosticSink()
    parts = Parts(routed, sink)
    recount = Recount(parts.network)
    check_neurons(parts, sink)
    sent = packets_sent(parts)
    arriving: dict[int, list[Route]] = {}
    for route in parts.routes:
        arriving.setdefault(route.destination, []).append(route)
    for cluster in parts.clusters.values():
        synapses = check_synapses(parts, recount, cluster, sink)
        wanted = heard(parts, cluster)
        if cluster.id != HOST:
            counts = core_counts(parts, recount, target, cluster, synapses, wanted, sent.get(cluster.id, 0))
            check_limits(cluster, counts, target, sink)
        check_routes(parts, cluster, wanted, arriving.get(cluster.id, []), sink)
    check_places(parts, target.grid, sink)
    check_links(parts, sink)
    return tuple(sink.items)


@dataclass(frozen=True)
class CheckMapping:
    """Recount neurons, synapses, delays, limits, routes and places from the mapping.

    Shares no code with the passes that made it.

    Attributes:
        pins: layers that have to lie somewhere.
    """

    name: ClassVar[str] = "check-mapping"
    stage: ClassVar[str] = "check"
    consumes: ClassVar[type[Program]] = Routed
    produces: ClassVar[type[Program]] = Routed

    pins: Pins = NO_PINS

    def run(self, program: Program, context: Context) -> Program:
        """Check the mapping.

        Raises:
            NmcError: the mapping is wrong (exit 5), with all findings.
        """
        if not isinstance(program, Routed):
            raise TypeError(f"{self.name} needs a Routed")
        pinned = pin_diagnostics(program, self.pins, context.target.grid)
        findings = (*mapping_diagnostics(program, context.target), *pinned)
        if findings:
            raise NmcError(findings, ExitCode.GATE)
        return program
