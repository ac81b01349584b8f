"""What a reading process answers, as bytes: a JSON head, then the arrays and the model.

The head's length (8 bytes, little endian) comes first. Nothing in it selects code, and the
side that reads it checks every field: the process that wrote it has held a hostile file.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from nmc.compiler.frontends.onnx.limits import FOLD_LIMIT
from nmc.compiler.frontends.onnx.source import ModelCheck, OperatorUse, SourceModel
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.npy import npy_array, npy_parts
from nmc.ir.origin import Origin
from nmc.ir.serial import from_document, to_document
from nmc.ir.uniform import is_uniform
from nmc.ir.verify import verify_program

HEAD_LIMIT = 1 << 28
"""Bytes of the head: 100,000 nodes with their names and problems take a tenth."""


@dataclass(frozen=True)
class Request:
    """What the parent asks for.

    Attributes:
        verb: ``read`` or ``check``.
        path: of the model.
        strict: of ``check``.
        memory: bytes of address space that the process may take.
        seconds: of processor time.
        parent: process id; the process ends with it.
    """

    verb: str
    path: str
    strict: bool
    memory: int
    seconds: int
    parent: int

    def to_bytes(self) -> bytes:
        """ASCII, whatever the path holds."""
        return json.dumps(vars(self)).encode()


@dataclass(frozen=True, eq=False)
class Reply:
    """What the process answers: one of the four.

    Attributes:
        model: what was read.
        check: what was checked.
        error: why the file cannot be read.
        defect: the traceback of an error of nmc itself.
    """

    model: SourceModel | None = None
    check: ModelCheck | None = None
    error: NmcError | None = None
    defect: str = ""


def write_reply(reply: Reply, file: IO[bytes]) -> None:
    """Write an answer, array by array."""
    head: dict[str, Any] = {"defect": reply.defect, "members": []}
    members: list[Array | bytes] = []
    if reply.error is not None:
        head["error"] = {"code": int(reply.error.exit_code), "diagnostics": _diagnostics(reply.error.diagnostics)}
    if reply.check is not None:
        made = reply.check
        head["check"] = {
            "supported": made.supported,
            "operators": _operators(made.operators),
            "diagnostics": _diagnostics(made.diagnostics),
        }
    if reply.model is not None:
        source = reply.model
        graph, tensors = to_document(source.graph)
        head["model"] = {
            "name": source.name,
            "graph": graph,
            "operators": _operators(source.operators),
            "sha256": source.sha256,
            "integers": source.integers,
            "warnings": _diagnostics(source.warnings),
        }
        head["members"] = ["onnx", *tensors]
        # Of what is one value, the value goes over.
        head["uniform"] = {name: list(array.shape) for name, array in tensors.items() if is_uniform(array)}
        values = (array.reshape(-1)[:1] if is_uniform(array) else array for array in tensors.values())
        members = [source.onnx, *values]
    text = json.dumps(head).encode()
    file.write(len(text).to_bytes(8, "little") + text)
    for member in members:
        _write_member(member, file)
    file.flush()


def _write_member(member: Array | bytes, file: IO[bytes]) -> None:
    """Length and content; the length of an array is known once it is written."""
    start = file.tell()
    file.write(bytes(8))
    for part in (member,) if isinstance(member, bytes) else npy_parts(member):
        file.write(part)
    end = file.tell()
    file.seek(start)
    file.write((end - start - 8).to_bytes(8, "little"))
    file.seek(end)


def _diagnostics(items: tuple[Diagnostic, ...]) -> list[dict[str, object]]:
    return [item.to_dict() for item in items]


def _operators(uses: tuple[OperatorUse, ...]) -> list[dict[str, object]]:
    fields = ("op", "count", "status", "nodes", "note")
    return [{name: getattr(use, name) for name in fields} for use in uses]


@dataclass
class _Stream:
    """A file that is read no further than it goes."""

    file: IO[bytes]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.file.seek(0, 2)
        self.file.seek(0)

    def block(self, limit: int | None = None) -> bytes:
        size = int.from_bytes(self.file.read(8), "little")
        self.left -= 8 + size
        if self.left < 0 or (limit is not None and size > limit):
            raise ValueError("it is cut off")
        return self.file.read(size)


def read_reply(file: IO[bytes]) -> Reply:
    """The answer in a file.

    Raises:
        ValueError: it is cut off, or is no answer.
    """
    stream = _Stream(file)
    try:
        head = json.loads(stream.block(HEAD_LIMIT))
        if head["defect"]:
            return Reply(defect=_text(head["defect"]))
        if "error" in head:
            return Reply(
                error=NmcError(_read_diagnostics(head["error"]["diagnostics"]), ExitCode(head["error"]["code"]))
            )
        if "check" in head:
            return Reply(check=_read_check(head["check"]))
        members = {_text(name): stream.block() for name in head["members"]}
        return Reply(model=_read_model(head["model"], members, head["uniform"]))
    except (KeyError, TypeError, AttributeError, RecursionError, NmcError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _read_check(tree: Any) -> ModelCheck:
    supported = tree["supported"]
    if not isinstance(supported, bool):
        raise ValueError("no truth value")
    return ModelCheck(supported, _read_operators(tree["operators"]), _read_diagnostics(tree["diagnostics"]))


def _read_model(tree: Any, members: dict[str, bytes], uniform: Any) -> SourceModel:
    onnx = members.pop("onnx")
    arrays = {name: npy_array(content) for name, content in members.items()}
    for name, shape in uniform.items():
        arrays[name] = np.broadcast_to(arrays[name].reshape(()), _shape(shape))
    graph = from_document(tree["graph"], arrays)
    if not isinstance(graph, LayerGraph):
        raise ValueError("no layers")
    verify_program(graph)
    limits = tuple(None if ends is None else _limits(*ends) for ends in tree["integers"])
    if len(limits) != len(graph.inputs):
        raise ValueError("limits of other inputs")
    warnings = _read_diagnostics(tree["warnings"])
    # The name becomes the artifact's: no path, whatever the file was called.
    name = Path(_text(tree["name"])).name
    return SourceModel(name, onnx, graph, _read_operators(tree["operators"]), _text(tree["sha256"]), limits, warnings)


def _limits(low: Any, high: Any) -> tuple[int, int]:
    return _number(low), _number(high)


def _read_operators(trees: Any) -> tuple[OperatorUse, ...]:
    return tuple(
        OperatorUse(
            _text(t["op"]), _number(t["count"]), _text(t["status"]), tuple(map(_text, t["nodes"])), _text(t["note"])
        )
        for t in trees
    )


def _read_diagnostics(trees: Any) -> tuple[Diagnostic, ...]:
    found = []
    for tree in trees:
        where = tree["origin"]
        origin = None if where is None else Origin(*(_text(where[key]) for key in ("node", "op", "output")))
        slug, message, severity, help = (_text(tree[key]) for key in ("slug", "message", "severity", "help"))
        if severity not in ("error", "warning", "note"):
            raise ValueError(f"severity {severity[:20]!r}")
        found.append(Diagnostic(slug, message, severity, origin, help))
    return tuple(found)


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(_number(n) for n in value)
    if min(shape, default=0) < 0 or math.prod(shape) > FOLD_LIMIT:
        raise ValueError("no shape")
    return shape


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("no whole number")
    return value
