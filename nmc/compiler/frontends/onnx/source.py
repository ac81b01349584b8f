"""What the reader hands out."""

from __future__ import annotations

from dataclasses import dataclass

from nmc.ir.diagnostic import Diagnostic
from nmc.ir.layers import LayerGraph
from nmc.runtime.tables import Shown, TextTable


@dataclass(frozen=True, slots=True)
class OperatorUse:
    """One operator type of a model.

    Attributes:
        op: ONNX operator type, with its domain where that is not the standard one.
        count: nodes of this type and status.
        status: ``native`` (becomes synapses or neurons), ``rewrite`` (expressed by others or
            folded), ``approximate`` (ReLUs come near to it), ``host`` (computed by the host) or
            ``refused``.
        nodes: names of the nodes.
        note: what becomes of it, or the way out.
    """

    op: str
    count: int
    status: str
    nodes: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class OperatorSupport:
    """One row of the operator table; the fields are those of `OperatorUse`."""

    op: str
    status: str
    note: str


@dataclass(frozen=True)
class ModelCheck(Shown):
    """The answer of `check_model`.

    Attributes:
        supported: whether `read_model` would succeed.
        operators: in order of first use.
        diagnostics: every problem of the model.
    """

    supported: bool
    operators: tuple[OperatorUse, ...]
    diagnostics: tuple[Diagnostic, ...]

    def to_dict(self) -> dict[str, object]:
        """The form of ``check --json``."""
        fields = ("op", "count", "status", "note")
        rows = [{name: getattr(use, name) for name in fields} | {"nodes": list(use.nodes)} for use in self.operators]
        return {"supported": self.supported, "operators": rows}

    def tables(self) -> tuple[TextTable, ...]:
        """A row per operator, and a row per problem where there are any."""
        rows = tuple((use.op, str(use.count), use.status, use.note) for use in self.operators)
        title = "can be compiled" if self.supported else "cannot be compiled"
        operators = TextTable(title, ("operator", "#nodes", "status", "note"), rows)
        if not self.diagnostics:
            return (operators,)
        problems = tuple((d.severity, d.origin.node if d.origin else "", d.message, d.help) for d in self.diagnostics)
        return operators, TextTable("found", ("severity", "node", "what", "what to do"), problems)


@dataclass(frozen=True, eq=False)
class SourceModel:
    """A model that was read.

    Attributes:
        name: file stem.
        onnx: the normalised model, serialised: float32, batch symbolic, opset >= 17, IR
            version <= 10, node names unique, constants folded. ONNX Runtime runs it, and
            the value of each layer equals its tensor ``layer.origin.output``.
        graph: the same network as layers, before simplification.
        operators: in order of first use, of the file as it was.
        sha256: of the file (and of its external data, in order of the tensors), hex.
        integers: of each input, the least and the largest integer that it takes; None where it
            takes real numbers.
        warnings: what the user should know of the file.
    """

    name: str
    onnx: bytes
    graph: LayerGraph
    operators: tuple[OperatorUse, ...]
    sha256: str
    integers: tuple[tuple[int, int] | None, ...]
    warnings: tuple[Diagnostic, ...] = ()
