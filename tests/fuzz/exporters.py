"""The same network as another exporter writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.fuzz.oracle import Values

LEAST_OPSET = 8
"""From here on Max and Min broadcast, and no operator here has attributes of old."""

SHARE = 0.7
"""Of the nodes that another exporter may write otherwise."""


@dataclass
class _Rewriting:
    """A file under change.

    Attributes:
        stored: by name, the float32 constants and those of integers.
        added: constants that the other form needs.
        ranks: of the tensors whose shape is known.
    """

    model: onnx.ModelProto
    stored: dict[str, Values]
    ranks: dict[str, int]
    added: list[onnx.TensorProto] = field(default_factory=list)

    @property
    def opset(self) -> int:
        return int(self.model.opset_import[0].version)

    def constant(self, node: onnx.NodeProto, position: int) -> Values | None:
        """A stored input in single precision."""
        name = node.input[position] if position < len(node.input) else ""
        value = self.stored.get(name)
        return value if value is not None and value.dtype == np.float32 else None

    def store(self, node: onnx.NodeProto, what: str, value: Any) -> str:
        """A new constant; its name."""
        name = f"{node.output[0]}_{what}"
        self.added.append(numpy_helper.from_array(np.asarray(value), name))
        return name


Form = Callable[[_Rewriting, onnx.NodeProto], list[onnx.NodeProto] | None]


def other_exporter(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """Some nodes as another exporter writes them; the same object where there is none to change."""
    if model.opset_import[0].version < LEAST_OPSET:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    writing = _Rewriting(made, stored, _ranks(made))
    floats = _not_integers(made)
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in model.graph.node:
        form = FORMS.get(node.op_type)
        asked = form is not None and node.input[0] in floats and rng.random() < SHARE
        other = form(writing, node) if asked and form is not None else None
        changed = changed or other is not None
        nodes.extend([node] if other is None else other)
    if not changed:
        return model
    del made.graph.node[:], made.graph.value_info[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(writing.added)
    return made


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    return {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.tensor_type.HasField("shape")}


def _not_integers(model: onnx.ModelProto) -> set[str]:
    """What follows from the input, but for the integers of a quantized network."""
    found = {model.graph.input[0].name}
    integers: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" or (integers.intersection(node.input) and node.op_type not in ENDS):
            integers.update(node.output)
        elif found.intersection(node.input) or integers.intersection(node.input):
            found.update(node.output)
    return found


ENDS = ("DequantizeLinear", "Cast")


def _given(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _gemm(writing: _Rewriting, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """MatMul, and Add."""
    given, weight = _given(node), writing.constant(node, 1)
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)
    if weight is None or not plain:
        return None
    turned = writing.store(node, "turned", np.ascontiguousarray(weight.T if given.get("transB", 0) else weight))
    if len(node.input) < 3 or not node.input[2]:
        return [helper.make_node("MatMul", [node.input[0], turned], node.output)]
    product = f"{node.output[0]}_product"
    return [
        helper.make_node("MatMul", [node.input[0], turned], [product]),
        helper.make_node("Add", [product, node.input[2]], node.output),
    ]


def _conv(writing: _Rewriting, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Zeros from a Pad before it, the bias in an Add behind it."""
    given, kernel = _given(node), writing.constant(node, 1)
    if kernel is None or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    own, source, result, bias = onnx.NodeProto(), node.input[0], node.output[0], writing.constant(node, 2)
    own.CopyFrom(node)
    before: list[onnx.NodeProto] = []
    behind: list[onnx.NodeProto] = []
    pads = list(given.get("pads", []))
    if any(pads):
        padded, axes = f"{result}_padded", len(pads) // 2
        whole = [0, 0, *pads[:axes], 0, 0, *pads[axes:]]
        if writing.opset < 11:
            before = [helper.make_node("Pad", [source], [padded], pads=whole)]
        else:
            before = [helper.make_node("Pad", [source, writing.store(node, "pads", whole)], [padded])]
        own.input[0] = padded
        kept = [a for a in own.attribute if a.name != "pads"]
        del own.attribute[:]
        own.attribute.extend(kept)
    if bias is not None:
        own.output[0], own.input[2] = f"{result}_sum", ""
        added = writing.store(node, "bias", bias.reshape(-1, *(1,) * (kernel.ndim - 2)))
        behind = [helper.make_node("Add", [own.output[0], added], [result])]
    return [*before, own, *behind] if before or behind else None


def _batch_norm(writing: _Rewriting, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Folded into a factor and a term."""
    values = [writing.constant(node, position) for position in range(1, 5)]
    rank = writing.ranks.get(node.input[0])
    if rank is None or any(value is None for value in values):
        return None
    gamma, beta, mean, variance = (value.astype(np.float64) for value in values if value is not None)
    scale = gamma / np.sqrt(variance + _given(node).get("epsilon", 1e-5))
    shape = (-1, *(1,) * (rank - 2))
    factor = writing.store(node, "factor", scale.reshape(shape).astype(np.float32))
    term = writing.store(node, "term", (beta - mean * scale).reshape(shape).astype(np.float32))
    scaled = f"{node.output[0]}_scaled"
    return [
        helper.make_node("Mul", [node.input[0], factor], [scaled]),
        helper.make_node("Add", [scaled, term], node.output[:1]),
    ]


def _flatten(writing: _Rewriting, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """A Reshape."""
    if _given(node).get("axis", 1) != 1:
        return None
    shape = writing.store(node, "shape", np.array([0, -1], dtype=np.int64))
    return [helper.make_node("Reshape", [node.input[0], shape], node.output)]


def _global_average(writing: _Rewriting, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """A mean over the axes of the image."""
    rank = writing.ranks.get(node.input[0])
    if rank is None:
        return None
    axes = list(range(2, rank))
    if writing.opset < 18:
        return [helper.make_node("ReduceMean", node.input, node.output, axes=axes, keepdims=1)]
    stored = writing.store(node, "axes", np.array(axes, dtype=np.int64))
    return [helper.make_node("ReduceMean", [node.input[0], stored], node.output, keepdims=1)]


def _relu(writing: _Rewriting, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """The larger of a value and zero."""
    zero = writing.store(node, "zero", np.zeros((), dtype=np.float32))
    return [helper.make_node("Max", [node.input[0], zero], node.output)]


def _clip(writing: _Rewriting, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Max and Min."""
    given = _given(node)
    bounds = [given.get("min"), given.get("max")]
    if writing.opset >= 11:
        names = [*node.input[1:], "", ""][:2]
        found = [writing.constant(node, position) for position in (1, 2)]
        if any(name and value is None for name, value in zip(names, found, strict=True)):
            return None
        bounds = [None if value is None else float(value.reshape(())) for value in found]
    if None in bounds:
        return None
    raised = f"{node.output[0]}_raised"
    low, high = (
        writing.store(node, what, np.asarray(bound, np.float32)) for what, bound in zip("lh", bounds, strict=True)
    )
    return [
        helper.make_node("Max", [node.input[0], low], [raised]),
        helper.make_node("Min", [raised, high], node.output),
    ]


FORMS: dict[str, Form] = {
    "Gemm": _gemm,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "Flatten": _flatten,
    "GlobalAveragePool": _global_average,
    "Relu": _relu,
    "Clip": _clip,
}
"""By operator, its other form; None where it has none."""
