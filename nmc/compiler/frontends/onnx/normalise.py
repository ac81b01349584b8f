"""Bring a model to the one form that the importer and ONNX Runtime share.

float32, opset 17 or later, IR version 10 at most, batch symbolic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference, version_converter

from nmc.compiler.frontends.onnx.limits import ELEMENT_LIMIT
from nmc.compiler.frontends.onnx.text import escaped
from nmc.ir.diagnostic import DiagnosticSink

OPSET = 17
"""Models below are raised to it; models above stay."""

BROADCASTS = 7
"""The opset in which operators began to broadcast by themselves."""

COORDINATES = 11
"""The opset in which Resize began to say which places it reads."""

IR_VERSION = 10
"""The newest that every ONNX Runtime of the last years reads; no operator here needs more."""

BATCH = "N"
"""The name of the batch axis."""

_FLOATS = (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def to_float32(model: onnx.ModelProto) -> None:
    """Turn half, bfloat16 and double precision into float32, in place."""
    graph = model.graph
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in graph.initializer:
        _tensor_to_float32(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _tensor_to_float32(attribute.t)
            elif attribute.name == "to" and node.op_type == "Cast" and attribute.i in _FLOATS:
                attribute.i = TensorProto.FLOAT
    del graph.value_info[:]


def _tensor_to_float32(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        with np.errstate(over="ignore"):  # what float32 does not hold has been reported
            array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators that a model is written in; 0 if it does not say."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def raise_opset(model: onnx.ModelProto, sink: DiagnosticSink) -> onnx.ModelProto:
    """The model in opset `OPSET` or later, IR version `IR_VERSION` at most.

    Args:
        model: initialisers already stripped from its inputs; not changed.
        sink: an error if the converter of the ONNX project cannot raise it.
    """
    raised = onnx.ModelProto()
    raised.CopyFrom(model)
    if opset_of(model) < OPSET:
        batches = _fix_batches(raised) if opset_of(model) < BROADCASTS else []
        try:
            if opset_of(model) < BROADCASTS:
                _line_up(raised)
            raised = version_converter.convert_version(raised, OPSET)
            if opset_of(model) < COORDINATES:
                _keep_coordinates(raised)
        except (RuntimeError, ValueError) as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
            sink.error(
                "opset-not-raised",
                f"opset {opset_of(model)} cannot be raised to {OPSET}: {escaped(reason)}",
                help=f"export the model with opset {OPSET} or later",
            )
        for number, batch in batches:
            raised.graph.input[number].type.tensor_type.shape.dim[0].CopyFrom(batch)
            del raised.graph.value_info[:]
    raised.ir_version = min(max(raised.ir_version, 8), IR_VERSION)
    return raised


def _keep_coordinates(model: onnx.ModelProto) -> None:
    """Say how Resize rounded before it had attributes for it, in place: the converter leaves them out.

    As ONNX Runtime does: a place is ``i / scale``; the nearest is below it, where the image grows, else above.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            stored.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    for node in model.graph.node:
        if node.op_type != "Resize" or any(a.name == "coordinate_transformation_mode" for a in node.attribute):
            continue
        scales = stored.get(node.input[2]) if len(node.input) > 2 else None
        shrinks = scales is not None and bool(np.any(numpy_helper.to_array(scales) < 1))
        node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
        node.attribute.append(helper.make_attribute("nearest_mode", "ceil" if shrinks else "floor"))


_SPREAD = ("Add", "Sub", "Mul", "Div", "PRelu")
"""Operators below opset `BROADCASTS` whose second operand may begin at an axis of the first."""


def _line_up(model: onnx.ModelProto) -> None:
    """Give second operands that begin at an axis the axes of size 1 behind them, in place.

    The converter of the ONNX project puts them elsewhere.
    """
    values = shape_inference.infer_shapes(model).graph
    ranks = {tensor.name: len(tensor.dims) for tensor in values.initializer}
    for value in (*values.input, *values.value_info, *values.output):
        ranks.setdefault(value.name, len(value.type.tensor_type.shape.dim))
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)} | set(ranks)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        axes = [a for a in node.attribute if a.name == "axis"] if node.op_type in _SPREAD else []
        if (axes or node.op_type == "PRelu") and all(name in ranks for name in node.input[:2]):
            first, second = (ranks[name] for name in node.input[:2])
            axis = axes[0].i if axes else 1  # the slopes of a PRelu are those of the channels
            behind = first - (axis + first if axis < 0 else axis) - second
            if behind > 0 and second > 0:
                wide = _fresh(f"{node.input[1]}_spread", taken)
                places = list(range(second, second + behind))
                nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [wide], axes=places))
                node.input[1] = wide
            for attribute in axes:
                node.attribute.remove(attribute)
        nodes.append(node)
    _set_nodes(model.graph, nodes)


def _fix_batches(model: onnx.ModelProto) -> list[tuple[int, onnx.TensorShapeProto.Dimension]]:
    """Fix symbolic batches at 1, in place: below opset 7 the converter must know what is broadcast.

    Returns:
        The inputs that had one, by number, with the axis as it was.
    """
    found = []
    for number, value in enumerate(model.graph.input):
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].dim_value > 0:
            continue
        batch = onnx.TensorShapeProto.Dimension()
        batch.CopyFrom(dims[0])
        dims[0].dim_value = 1
        found.append((number, batch))
    for value in model.graph.output if found else ():
        value.type.tensor_type.ClearField("shape")
    return found


_ENDS = {
    TensorProto.INT8: np.int8,
    TensorProto.UINT8: np.uint8,
    TensorProto.INT16: np.int16,
    TensorProto.UINT16: np.uint16,
}
INTEGER_ENDS: Mapping[int, np.dtype[Any]] = {kind: np.dtype(own) for kind, own in _ENDS.items()}
"""Types that the input and the outputs of a quantized model may have."""

_MOVES = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity")


def float_ends(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Give a model with integers of `INTEGER_ENDS` at its ends floats there, in place.

    An input's floats hold the same integers. The outputs become real numbers, with the scale
    and zero point of the QuantizeLinear that makes them.

    Returns:
        By input that takes integers: the least and the largest.
    """
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken.update(tensor.name for tensor in graph.initializer)
    for value in graph.output:
        if value.type.tensor_type.elem_type in INTEGER_ENDS:
            _dequantize_output(graph, value, taken)
    limits: dict[str, tuple[int, int]] = {}
    for value in graph.input:
        kind = INTEGER_ENDS.get(value.type.tensor_type.elem_type)
        if kind is not None:
            limits[value.name] = (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
            integers, scale, zero = (_fresh(f"{value.name}_{what}", taken) for what in ("integers", "scale", "zero"))
            for node in graph.node:
                node.input[:] = [integers if name == value.name else name for name in node.input]
            graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), scale))
            graph.initializer.append(numpy_helper.from_array(np.array(0, kind), zero))
            nodes = [helper.make_node("QuantizeLinear", [value.name, scale, zero], [integers]), *graph.node]
            _set_nodes(graph, nodes)
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return limits


def _dequantize_output(graph: onnx.GraphProto, value: onnx.ValueInfoProto, taken: set[str]) -> None:
    makers = {name: node for node in graph.node for name in node.output}
    maker = makers.get(value.name)
    while maker is not None and maker.op_type in _MOVES:
        maker = makers.get(maker.input[0])
    stored = {tensor.name: tensor for tensor in graph.initializer}
    steps = list(maker.input[1:3]) if maker is not None and maker.op_type == "QuantizeLinear" else []
    if len(steps) != 2 or any(name not in stored or len(stored[name].dims) for name in steps):
        steps = [_fresh(f"{value.name}_{what}", taken) for what in ("scale", "zero")]
        kind = INTEGER_ENDS[value.type.tensor_type.elem_type]
        graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), steps[0]))
        graph.initializer.append(numpy_helper.from_array(np.array(0, kind), steps[1]))
    integers = _fresh(f"{value.name}_integers", taken)
    for node in graph.node:
        node.input[:] = [integers if name == value.name else name for name in node.input]
        node.output[:] = [integers if name == value.name else name for name in node.output]
    graph.node.append(helper.make_node("DequantizeLinear", [integers, *steps], [value.name]))
    value.type.tensor_type.elem_type = TensorProto.FLOAT


def _set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _fresh(wanted: str, taken: set[str]) -> str:
    name, copies = wanted, 0
    while name in taken:
        copies += 1
        name = f"{wanted}_{copies}"
    taken.add(name)
    return name


def free_batch(model: onnx.ModelProto, sink: DiagnosticSink) -> int | None:
    """Make axis 0 of every input the symbolic batch, in place.

    Args:
        model: changed.
        sink: an error per reason why an input has no fixed shape behind the batch, and where the
            batches of inputs differ.

    Returns:
        The batch size that the file had fixed, None if it was symbolic.
    """
    fixed = {value.name: _free_batch(value, sink) for value in model.graph.input}
    sizes = {name: batch for name, batch in fixed.items() if batch is not None}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"'{escaped(name)}' {batch}" for name, batch in sizes.items())
        sink.error(
            "input-shape",
            f"the inputs have different batches: {shown}",
            help="axis 0 of every input is the batch: export with one size for all of them",
        )
    return next(iter(sizes.values()), None)


def _free_batch(value: onnx.ValueInfoProto, sink: DiagnosticSink) -> int | None:
    """Make axis 0 of one input the symbolic batch; the size that it had."""
    name = escaped(value.name)
    if value.type.WhichOneof("value") != "tensor_type":
        sink.error("input-type", f"input '{name}' is no tensor", help="use a network whose inputs are tensors")
        return None
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type) if 0 <= tensor.elem_type < 30 else str(tensor.elem_type)
        sink.error(
            "input-type",
            f"input '{name}' is {kind}, it must be a floating-point tensor",
            help="export the float model; the compiler quantizes by itself",
        )
    dims = list(tensor.shape.dim)
    if not tensor.HasField("shape") or len(dims) < 2:
        sink.error(
            "input-shape",
            f"input '{name}' has {len(dims)} axes, it needs the batch and at least one more",
            help="export the model with a batch axis first",
        )
        return None
    numbers = math.prod(max(d.dim_value, 1) for d in dims[1:])
    if numbers > ELEMENT_LIMIT:
        sink.error(
            "model-too-large",
            f"input '{name}' takes {numbers} numbers per sample, the limit is {ELEMENT_LIMIT}",
            help="compile a network with a smaller input",
        )
    unknown = [f"axis {axis} ('{escaped(d.dim_param)}')" for axis, d in enumerate(dims) if axis and d.dim_value < 1]
    if unknown:
        sink.error(
            "shape-dynamic",
            f"input '{name}' has no fixed size on {', '.join(unknown)}",
            help="only the batch, axis 0, may be dynamic; export with fixed sizes for the others",
        )
    fixed = dims[0].dim_value if dims[0].dim_value > 0 else None
    dims[0].Clear()
    dims[0].dim_param = BATCH
    return fixed


def input_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Shape of an input without the batch axis."""
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)[1:]
