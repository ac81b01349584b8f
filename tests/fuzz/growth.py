"""A network that grows node by node, each run in ONNX Runtime as it is added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.fuzz.oracle import Values, node_outputs

LARGEST = 1e4
"""Values beyond it would drown what is added to them."""

LEAST_PART = 0.1
"""What is left of values that cancel: less, and float32 has too few digits left to compare."""

MOST_VALUES = 6000
"""Numbers of one activation of a sample: a model compiles in about a tenth of a second."""

Block = Callable[["Growth", str], str]
"""Adds nodes behind a tensor; returns the tensor to go on with."""


class Rejected(Exception):
    """What a block tried is not valid, or not useful: the growth goes back to where it was."""


@dataclass
class Growth:
    """Nodes and constants so far, and the value of every tensor on probe samples.

    Attributes:
        rng: decides everything.
        opset: of the model; nodes of opset 6 are made from those of opset 7.
        batch: size of axis 0 of the probe, and of the model where it fixes its batch.
        fixed: the model fixes its batch.
        nodes: in order.
        stored: initialisers.
        values: of all tensors, constants included.
        trail: activations in order, that later blocks may come back to.
        refused: operators that ONNX Runtime did not run as they were tried.
    """

    rng: np.random.Generator
    opset: int
    batch: int = 3
    fixed: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, Values] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=dict)
    trail: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    approximated: bool = False
    quantized: bool = False
    _names: int = 0

    # --- choices ----------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    # --- tensors ----------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        self._names += 1
        return f"{stem}_{self._names}"

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Without the batch axis."""
        return tuple(self.values[tensor].shape[1:])

    def constant(self, array: Values, stem: str = "c") -> str:
        """A constant: an initialiser, a Constant node, or half precision with a Cast behind it."""
        array = np.asarray(array)
        name = self.fresh(stem)
        way = self.rng.random()
        if way < 0.12:
            tensor = numpy_helper.from_array(array, self.fresh("value"))
            self._append(helper.make_node("Constant", [], [name], name=self.fresh("constant"), value=tensor), [array])
        elif way < 0.2 and array.dtype == np.float32 and array.size > 1:
            half = array.astype(np.float16)
            narrow = self.fresh("half")
            self.stored[narrow] = self.values[narrow] = half
            cast = helper.make_node("Cast", [narrow], [name], name=self.fresh("cast"), to=onnx.TensorProto.FLOAT)
            self._append(cast, [half.astype(np.float32)])
        else:
            self.stored[name] = self.values[name] = array
        return name

    def plain(self, array: Values, stem: str = "c") -> str:
        """A constant that is always an initialiser."""
        name = self.fresh(stem)
        self.stored[name] = self.values[name] = np.asarray(array)
        return name

    def integers(self, *values: int) -> str:
        """A constant list of integers."""
        return self.constant(np.array(values, dtype=np.int64), "list")

    def floats(self, *shape: int, scale: float = 1.0) -> Values:
        return (self.rng.normal(size=shape) * scale).astype(np.float32)

    # --- nodes ------------------------------------------------------------------------------

    def _append(self, node: onnx.NodeProto, made: Sequence[Values]) -> None:
        self.nodes.append(node)
        self.values.update(zip((name for name in node.output if name), made, strict=True))

    def add(self, op: str, inputs: Sequence[str], *, outputs: int = 1, **attributes: Any) -> str:
        """A node; the name of its first output.

        Raises:
            Rejected: ONNX Runtime does not run it, or its values are of no use.
        """
        return self.add_all(op, inputs, outputs, **attributes)[0]

    def add_all(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """A node; the names of its outputs."""
        names = [self.fresh(op.lower()) for _ in range(outputs)]
        node = helper.make_node(op, inputs, names, name=self.fresh(f"n_{op}"), **attributes)
        try:
            made = node_outputs(node, self.values, max(self.opset, 7))
        except Exception as error:  # ONNX Runtime raises classes of its own
            self.refused.append(f"{op}: {str(error).splitlines()[0][:120]}")
            raise Rejected(op) from error
        self._check_use(op, inputs, made)
        self._append(node, made)
        return names

    def _check_use(self, op: str, inputs: Sequence[str], made: Sequence[Values]) -> None:
        """Reject values that are too large or too many, and those of which rounding errors are a large part.

        Raises:
            Rejected: with the reason.
        """
        read = [self.values[name] for name in inputs if name and name not in self.stored]
        before = max((float(np.abs(v).max()) for v in read if v.dtype == np.float32), default=0.0)
        for value in made:
            if value.dtype == np.float32 and not np.all(np.abs(value) < LARGEST):
                raise Rejected(f"{op} makes values that are too large")
            if value.size > MOST_VALUES * self.batch or not value.size:
                raise Rejected(f"{op} makes too many values")
            if op not in ("Conv", "ConvTranspose", "Gemm", "MatMul") and value.dtype == np.float32:
                size = float(np.abs(value).max())
                if 0 < size < LEAST_PART * before:
                    raise Rejected(f"{op} leaves almost nothing")

    def scaled(self, tensor: str, weights: Sequence[str]) -> str:
        """Scale stored weights that a tensor is linear in, so that it has a common size."""
        size = float(self.values[tensor].std())
        if size < 1e-6 or not all(name in self.stored for name in weights):
            return tensor
        factor = np.float32(self.rng.uniform(0.5, 1.5) / size)
        for name in weights:
            self.stored[name] = self.values[name] = (self.stored[name] * factor).astype(np.float32)
        self.values[tensor] = self.values[tensor] * factor
        return tensor

    def attempt(self, block: Block, tensor: str) -> str:
        """The tensor that a block makes; the old one where the block was rejected."""
        nodes, stored, values, trail = len(self.nodes), dict(self.stored), dict(self.values), len(self.trail)
        flags = self.approximated, self.quantized
        try:
            made = block(self, tensor)
            self.trail.append(made)
        except Rejected:
            del self.nodes[nodes:], self.trail[trail:]
            self.stored, self.values = stored, values
            self.approximated, self.quantized = flags
            return tensor
        return made

    def axes(self, op: str, tensor: str, axes: Sequence[int], **attributes: Any) -> str:
        """An operator whose axes became an input: of Squeeze, Unsqueeze, ReduceSum in opset 13, of others in 18."""
        since = 13 if op in ("Squeeze", "Unsqueeze", "ReduceSum") else 18
        if self.opset >= since:
            return self.add(op, [tensor, self.integers(*axes)], **attributes)
        return self.add(op, [tensor], axes=list(axes), **attributes)
