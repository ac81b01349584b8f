"""A case as the compiler takes it: inputs whose axis 0 is the batch, and constants.

The rules, for every case:

1. The first input of real numbers is the data; of DequantizeLinear the first. Where the one
   operator of a case joins activations (`JOINING`) and all its inputs are real numbers, all are data
   (in the converted models where they have one batch);
   so is the third of a Gemm that has a row for each of the first.
   Every other input is stored in the model with the value that the case has for it: weights,
   shapes and axes are inputs in these models, and constants in networks.
2. A case of one operator that knows no batch gets one (`tests.conformance.lift`).
3. Where a Cast is given, or makes, infinite numbers and NaN, it is given zeros.
4. A case in a newer opset than the newest that is read is marked with that one where it is valid there.
5. The output of a QuantizeLinear is taken as the real numbers that it stands for, as the compiler gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import checker, helper, numpy_helper

from nmc.compiler.frontends.onnx.limits import OPSETS
from nmc.compiler.frontends.onnx.normalise import opset_of
from nmc.ir.samples import joined
from tests.conformance.corpora import Case, Value
from tests.conformance.lift import ALIGNED, LIFTED, lift

NEWEST_IR = 13
"""Of the newest opset that is read."""

JOINING = frozenset({"Add", "Sub", "Sum", "Mean", "Max", "Min", "Concat"})
"""Operators on several activations."""

REAL = frozenset({"float16", "float32", "float64", "bfloat16"})


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is compiled, and what it must compute.

    Attributes:
        model: has one input or more.
        x: its value, (samples, ...), several inputs joined; None where it is no tensor.
        outputs: (samples, ...) each; None where one is no tensor.
    """

    case: Case
    model: onnx.ModelProto
    x: Value | None
    outputs: tuple[Value | None, ...]


def prepare(case: Case) -> Prepared:
    """Follow the rules above; a case that they do not fit stays as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    _mark_older(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in stored]
    values = dict(zip(names, case.inputs, strict=True))
    parts = {name: value for name in _data(case, values) if (value := values[name]) is not None}
    if not parts:
        return Prepared(case, model, None, case.outputs)
    constants = {name: value for name, value in values.items() if name not in parts and value is not None}
    outputs = _outputs(model, case.outputs, constants)
    node = model.graph.node[0]
    if case.corpus == "node" and len(model.graph.node) == 1 and _is_batchless(node, parts):
        if node.op_type == "Cast":
            parts, outputs = _finite(parts, outputs)
        parts, outputs = _with_batch(model, parts, outputs, constants)
    _store(model, constants)
    return Prepared(case, model, joined(list(parts.values())), outputs)


def _data(case: Case, values: Mapping[str, Value | None]) -> list[str]:
    """The inputs that stay inputs, of those without a stored value."""
    model = case.model
    node, first = model.graph.node[0], list(values)[:1]
    if node.op_type == "DequantizeLinear":
        return first
    reals = [name for name, value in values.items() if _is_real(value)]
    if len(model.graph.node) == 1 and node.op_type in JOINING and len(reals) == len(set(node.input)):
        batches = {value.shape[:1] for value in values.values() if value is not None}
        return reals if case.corpus == "node" or len(batches) == 1 else reals[:1]
    if len(model.graph.node) == 1 and node.op_type == "Gemm" and len(reals) == 3:
        rows = [value.shape[0] for value in values.values() if value is not None and value.ndim == 2]
        return [reals[0], reals[2]] if len(rows) == 3 and rows[0] == rows[2] else reals[:1]
    return reals[:1] or first


def _outputs(
    model: onnx.ModelProto, outputs: tuple[Value | None, ...], constants: Mapping[str, Value]
) -> tuple[Value | None, ...]:
    """The outputs as the compiler gives them: real numbers behind a last QuantizeLinear."""
    node = model.graph.node[0]
    if node.op_type != "QuantizeLinear" or len(model.graph.node) > 1 or node.input[1] not in constants:
        return outputs
    (y,), scale = outputs, constants[node.input[1]]
    zero = constants.get(node.input[2], np.zeros(())) if len(node.input) > 2 else np.zeros(())
    if y is None or scale.size > 1 or zero.size > 1:
        return outputs
    return (((y.astype(np.float64) - zero.astype(np.float64)) * scale).astype(np.float32),)


def _mark_older(model: onnx.ModelProto) -> None:
    """Mark a model of a newer opset with the newest that is read, where the checker finds it valid there."""
    newer = [o for o in model.opset_import if o.domain in ("", "ai.onnx") and o.version > OPSETS[1]]
    if not newer:
        return
    tried = onnx.ModelProto()
    tried.CopyFrom(model)
    for imported in tried.opset_import:
        if imported.domain in ("", "ai.onnx"):
            imported.version = OPSETS[1]
    tried.ir_version = min(tried.ir_version, NEWEST_IR)
    try:
        checker.check_model(tried, full_check=True)
    except Exception:  # the checker raises classes of its own
        return
    model.CopyFrom(tried)


def _is_real(value: Value | None) -> bool:
    return value is not None and value.dtype.name in REAL


def _is_batchless(node: onnx.NodeProto, parts: Mapping[str, Value]) -> bool:
    """Whether the axis 0 of a node's data is no batch to it."""
    if node.domain not in ("", "ai.onnx") or not all(name in node.input for name in parts):
        return False
    if node.op_type == "Flatten":  # from axis 0 on it flattens all of its data
        rank = next(iter(parts.values())).ndim
        return any(a.name == "axis" and a.i in (0, -rank) for a in node.attribute)
    return node.op_type in LIFTED


def _with_batch(
    model: onnx.ModelProto, parts: dict[str, Value], outputs: tuple[Value | None, ...], constants: dict[str, Value]
) -> tuple[dict[str, Value], tuple[Value | None, ...]]:
    """The case behind a batch axis of size 1: model and constants in place, the values returned."""
    (node,), graph = model.graph.node, model.graph
    if node.op_type in ALIGNED:
        values = (*outputs, *parts.values(), *constants.values())
        rank = max(value.ndim for value in values if value is not None)
        parts = {name: x.reshape((1,) * (rank - x.ndim) + x.shape) for name, x in parts.items()}
    by_position = {i: constants[name] for i, name in enumerate(node.input) if name in constants}
    rank = next(iter(parts.values())).ndim
    for position, value in lift(node, rank, by_position, opset_of(model)).items():
        node.input.extend([""] * (position + 1 - len(node.input)))
        node.input[position] = node.input[position] or f"lifted_{position}"
        constants[node.input[position]] = value
    for end in graph.output:
        end.type.tensor_type.ClearField("shape")
    for end in graph.input:
        if end.name in parts:
            kind = end.type.tensor_type.elem_type
            end.type.CopyFrom(helper.make_tensor_type_proto(kind, [1, *parts[end.name].shape]))
    del graph.value_info[:]
    lifted = {name: x[None] for name, x in parts.items()}
    return lifted, tuple(None if y is None else y[None] for y in outputs)


def _finite(
    parts: dict[str, Value], outputs: tuple[Value | None, ...]
) -> tuple[dict[str, Value], tuple[Value | None, ...]]:
    """Zeros where a Cast is given, or makes, no finite number."""
    ((name, x),), (y,) = parts.items(), outputs
    if y is None or not (_is_real(x) and _is_real(y)):
        return parts, outputs
    bad = ~(np.isfinite(x.astype(np.float64)) & np.isfinite(y.astype(np.float64)))
    given, made = (np.where(bad, 0, value.astype(np.float64)).astype(value.dtype) for value in (x, y))
    return {name: given}, (made,)


def _store(model: onnx.ModelProto, constants: dict[str, Value]) -> None:
    """Turn inputs into stored tensors."""
    left = [value for value in model.graph.input if value.name not in constants]
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in left]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
