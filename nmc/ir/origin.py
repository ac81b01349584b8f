"""Where a piece of a program came from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """The ONNX node behind a layer, population, projection or core.

    Attributes:
        node: name of the ONNX node (or of the graph input).
        op: ONNX operator type, e.g. ``Conv``.
        output: name of the ONNX tensor that the value stands for.
    """

    node: str
    op: str
    output: str

    def __str__(self) -> str:
        return f"{self.op} '{self.node}'"
