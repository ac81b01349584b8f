"""Refuse what would be approximated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.layers import Activation, LayerGraph, MaxPool
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph


@dataclass(frozen=True)
class RefuseApproximation:
    """An error for each layer that other passes would only come near to (``--strict``).

    Attributes:
        maxpool: ``exact``, or ``average``: a maximum pooling would become an average.
    """

    maxpool: str = "exact"

    name: ClassVar[str] = "refuse-approximation"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same program; an error for each layer."""
        refuse_approximations(as_graph(program), context.diagnostics, average=self.maxpool == "average")
        return program


def refuse_approximations(graph: LayerGraph, sink: DiagnosticSink, *, average: bool = False) -> None:
    """An error for each layer that would be approximated.

    Args:
        graph: as read.
        sink: takes the errors.
        average: a maximum pooling would become an average.
    """
    for layer in graph.layers:
        if isinstance(layer.op, Activation):
            sink.error(
                "approximation-refused",
                f"{layer.op.function} in a hidden layer becomes ReLUs with an error, and --strict allows none",
                origin=layer.origin,
                help="train with Relu instead, or leave out --strict",
            )
        elif average and isinstance(layer.op, MaxPool):
            sink.error(
                "approximation-refused",
                "--maxpool average gives other values than the maximum, and --strict allows none",
                origin=layer.origin,
                help="leave out --strict or --maxpool average",
            )
