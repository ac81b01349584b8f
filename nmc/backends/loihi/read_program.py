"""Reads an emitted Lava program back: as data, from its text and its arrays, without running it.

Only the forms that the emitter's templates call are known. Whatever else stands in ``build``
is refused, so that nothing in a program goes unread.
"""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nmc.backends.api import Payload
from nmc.ir.connectivity import Array

CONSTANTS = ("STEPS", "GAP", "NEURONS", "STARTS", "POTENTIALS", "LOADED", "INPUT", "OUTPUTS", "STOP", "SCALES")
"""Of the module; the last two only where samples stop early."""

_OPERATORS = ("dense", "convolution", "pool", "skip", "sparse")


@dataclass(frozen=True, eq=False)
class Operator:
    """A call that makes a weight matrix: its name and its arguments."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Pick:
    """``pick(columns, first, rows)``: ones that put constant i on neuron first + i."""

    columns: int
    first: int
    rows: int


@dataclass(frozen=True)
class Inputs:
    """What the host gives: all samples, or the first one.

    Attributes:
        columns: first and the first that is not its own; None: all.
        constants: values of constant neurons behind it.
    """

    columns: tuple[int, int] | None = None
    first: bool = False
    constants: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Process:
    """A population: the call that makes it, keyword arguments by name, positions as ``0``, ``1``, ..."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Synapses:
    """A call of ``connect``.

    Attributes:
        operator: what ``weights`` was then.
        gated: whether its source is behind a gate.
        rows: the targets that take part; None: all.
        bias: (targets, constants) or None.
    """

    source: int
    target: int
    operator: Operator
    delay: int
    exponent: int
    bits: int
    gated: bool
    rows: Array | None = None
    bias: Array | None = None


@dataclass
class Emitted:
    """All that a program says.

    Attributes:
        constants: of the module.
        processes, synapses: in order.
        offsets: (target, matrix, values) of constant messages.
        loads: (population, variable, value, start) of restored states.
        drives: (population, inputs).
    """

    constants: dict[str, Any] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    synapses: list[Synapses] = field(default_factory=list)
    offsets: list[tuple[int, Any, tuple[int, ...]]] = field(default_factory=list)
    loads: list[tuple[int, str, Any, int]] = field(default_factory=list)
    drives: list[tuple[int, Any]] = field(default_factory=list)


class UnknownFormError(ValueError):
    """A statement or expression that no template writes."""


def read_program(payload: Payload, program: str, arrays: str) -> Emitted:
    """Read the members of a payload.

    Args:
        payload: as emitted.
        program: the member that is the program.
        arrays: the member that holds its arrays.

    Raises:
        UnknownFormError: the text has a form that no template writes.
    """
    with np.load(io.BytesIO(payload[arrays]), allow_pickle=False) as archive:
        stored = {name: archive[name] for name in archive.files}
    tree = ast.parse(payload[program].decode())
    emitted = Emitted()
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in CONSTANTS:
                emitted.constants[name] = ast.literal_eval(value)
            case ast.FunctionDef(name="build", body=body):
                _Reader(stored, emitted).run(body)
            case _:
                pass
    return emitted


class _Reader:
    """Goes through the statements of ``build``."""

    def __init__(self, arrays: Mapping[str, Array], emitted: Emitted) -> None:
        self._arrays, self._emitted = arrays, emitted
        self._known: dict[str, Any] = {"inputs": Inputs(), "period": "period", "a": arrays}

    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="net")]) | ast.Return() | ast.Expr(value=ast.Constant()):
                    continue
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._known[name] = self.value(value)
                case ast.Expr(value=ast.Call() as call):
                    self._statement(call)
                case _:
                    raise UnknownFormError(ast.unparse(statement))

    def _statement(self, call: ast.Call) -> None:
        text = ast.unparse(call.func)
        if text == "net.append" and isinstance(call.args[0], ast.Call):
            made = call.args[0]
            self._emitted.processes.append(Process(ast.unparse(made.func), dict(self._arguments(made))))
            return
        given = dict(self._arguments(call))
        match text:
            case "connect":
                self._connect(given)
            case "constants":
                self._emitted.offsets.append((given["0"][1], given["1"], given["2"]))
            case "load":
                _, number, variable = given["0"]
                self._emitted.loads.append((number, variable, given["1"][0], given["3"]))
            case "drive":
                self._emitted.drives.append((given["0"][1], given["1"]))
            case _:
                raise UnknownFormError(text)

    def _connect(self, given: Mapping[str, Any]) -> None:
        kind, source = given["0"][:2]
        self._emitted.synapses.append(
            Synapses(
                source,
                given["1"][1],
                given["2"],
                given.get("delay", 1),
                given.get("exponent", 0),
                given.get("bits", 1),
                kind == "gate",
                given.get("rows"),
                given.get("bias"),
            )
        )

    def _arguments(self, call: ast.Call) -> Iterator[tuple[str, Any]]:
        for number, value in enumerate(call.args):
            yield str(number), self.value(value)
        for keyword in call.keywords:
            yield str(keyword.arg), self.value(keyword.value)

    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                return self.value(left) == self.value(right)
            case ast.Name(id=name) if name in self._known:
                return self._known[name]
            case ast.Attribute(value=ast.Subscript() as inner, attr=name):
                return (*self.value(inner), name)
            case ast.Subscript(value=ast.Name(id="net"), slice=ast.Constant(value=number)):
                return ("net", number)
            case ast.Subscript(value=inner, slice=index):
                return self._element(self.value(inner), index)
            case ast.Call():
                return self._made(node)
            case _:
                raise UnknownFormError(ast.unparse(node))

    def _element(self, held: Any, index: ast.expr) -> Any:
        if not isinstance(held, Inputs):
            return held[ast.literal_eval(index)]
        match index:
            case ast.Constant(value=0):
                return Inputs(held.columns, True)
            case ast.Tuple(
                elts=[ast.Slice(), ast.Slice(lower=ast.Constant(value=low), upper=ast.Constant(value=high))]
            ):
                return Inputs((int(str(low)), int(str(high))), held.first)
            case _:
                raise UnknownFormError(ast.unparse(index))

    def _made(self, call: ast.Call) -> Any:
        """The value of a call."""
        if isinstance(call.func, ast.Attribute) and call.func.attr == "astype":
            return self.value(call.func.value)
        name = ast.unparse(call.func)
        given = [self.value(argument) for argument in call.args]
        match name:
            case "np.full":
                return np.full(given[0], given[1], dtype=np.int64)
            case "np.zeros_like":
                return np.zeros_like(given[0])
            case "spread":
                return np.repeat(given[0], given[1], axis=0)
            case "padded" if isinstance(given[0], Inputs):
                return Inputs(given[0].columns, given[0].first, (given[1],) * given[2])
            case "padded":
                return np.concatenate([given[0], np.full(given[2], given[1], dtype=np.int64)])
            case "pick":
                return Pick(*given)
            case "gate":
                return ("gate", given[0][1])
            case _ if name in _OPERATORS:
                return Operator(name, tuple(given))
            case _:
                raise UnknownFormError(name)
