"""The checker of mappings: recounts everything and trusts nothing of the passes before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.hardware.target import Target
from nmc.ir.diagnostic import Diagnostic, DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import Routed
from nmc.passes.base import Context, Program
from nmc.passes.check.coverage import check_links, check_routes, check_synapses, count_reaches
from nmc.passes.check.pins import pin_diagnostics
from nmc.passes.check.recount import check_limits
from nmc.passes.check.structure import Parts, check_neurons, check_places
from nmc.passes.pins import NO_PINS, Pins


def mapping_diagnostics(routed: Routed, target: Target) -> tuple[Diagnostic, ...]:
    """Everything that is wrong with a mapping; nothing if it carries its network exactly."""
    sink = DiagnosticSink()
    parts = Parts(routed, sink)
    reaches = count_reaches(parts)
    check_neurons(parts, sink)
    check_synapses(parts, reaches, sink)
    check_limits(parts, reaches, target, sink)
    check_routes(parts, sink)
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
