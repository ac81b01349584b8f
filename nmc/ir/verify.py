"""Structural invariants of programs: run after every pass, on every artifact that is read.

It proves that a program is well formed, not that it is right: what a mapping computes
is judged by the checker of the check stage and by running it.
"""

from __future__ import annotations

from nmc.ir.diagnostic import DiagnosticSink, ExitCode
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network
from nmc.ir.verify_graph import graph_findings
from nmc.ir.verify_mapping import mapping_findings
from nmc.ir.verify_network import network_findings


def verify_program(program: LayerGraph | Network | Partitioned) -> None:
    """Check the invariants of a program's level; a mapping's network is checked too.

    Raises:
        NmcError: ``ir-invalid`` with every finding and where it is; exit 3.
    """
    sink = DiagnosticSink()
    if isinstance(program, LayerGraph):
        findings = graph_findings(program)
    elif isinstance(program, Network):
        findings = network_findings(program)
    else:
        findings = [*network_findings(program.network), *mapping_findings(program)]
    for message, origin in findings:
        sink.error("ir-invalid", message, origin=origin)
    sink.raise_errors(ExitCode.MODEL)
