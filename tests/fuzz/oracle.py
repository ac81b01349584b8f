"""ONNX Runtime as the oracle: optimisations off, one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

Values = NDArray[Any]


def runtime(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime that changes nothing."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs_of(model: onnx.ModelProto, x: Values) -> list[Values]:
    """The outputs of a model for all samples, in pieces of the batch that it fixes.

    Args:
        model: with one input besides its initialisers.
        x: (N, *sample shape); the last sample fills the last piece.
    """
    session = runtime(model)
    entry = session.get_inputs()[0]
    fixed = entry.shape[0] if isinstance(entry.shape[0], int) else len(x)
    parts = []
    for first in range(0, len(x), fixed):
        piece = x[first : first + fixed]
        filled = np.concatenate([piece, np.repeat(piece[-1:], fixed - len(piece), axis=0)])
        parts.append([value[: len(piece)] for value in session.run(None, {entry.name: filled})])
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def node_outputs(node: onnx.NodeProto, given: Mapping[str, Values], opset: int) -> list[Values]:
    """What one node makes of its inputs."""
    names = list(dict.fromkeys(name for name in node.input if name))
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(given[n].dtype), given[n].shape) for n in names
    ]
    made = [helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    graph = helper.make_graph([node], "node", values, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    results = runtime(model).run(None, {name: given[name] for name in names})
    return [np.asarray(value) for value in results]


def tensor_type(values: Values) -> int:
    """The ONNX type of an array."""
    return int(helper.np_dtype_to_tensor_dtype(values.dtype))


def relative_error(got: Sequence[Values], wanted: Sequence[Values]) -> float:
    """The largest difference of any output, relative to the largest value of that output."""
    errors = [0.0]
    for a, b in zip(got, wanted, strict=True):
        size = max(float(np.abs(b).max(initial=0.0)), 1e-6)
        difference = a.reshape(b.shape).astype(np.float64) - b.astype(np.float64)
        errors.append(float(np.abs(difference).max(initial=0.0)) / size)
    return max(errors)
