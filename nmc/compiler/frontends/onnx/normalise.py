"""Bring a model to the one form that the importer and ONNX Runtime share.

float32, opset 17 or later, IR version 10 at most, batch symbolic.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, version_converter

from nmc.compiler.frontends.onnx.text import escaped
from nmc.ir.diagnostic import DiagnosticSink

OPSET = 17
"""Models below are raised to it; models above stay."""

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
        try:
            raised = version_converter.convert_version(raised, OPSET)
        except (RuntimeError, ValueError) as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
            sink.error(
                "opset-not-raised",
                f"opset {opset_of(model)} cannot be raised to {OPSET}: {escaped(reason)}",
                help=f"export the model with opset {OPSET} or later",
            )
    raised.ir_version = min(max(raised.ir_version, 8), IR_VERSION)
    return raised


def free_batch(model: onnx.ModelProto, sink: DiagnosticSink) -> int | None:
    """Make axis 0 of the input and of the output the symbolic batch, in place.

    Args:
        model: changed.
        sink: an error per reason why the input has no fixed shape behind the batch.

    Returns:
        The batch size that the file had fixed, None if it was symbolic.
    """
    value = model.graph.input[0]
    name = escaped(value.name)
    if value.type.WhichOneof("value") != "tensor_type":
        sink.error("input-type", f"input '{name}' is no tensor", help="use a network with one tensor input")
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


def input_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    """Shape of the input without the batch axis."""
    return tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)[1:]
