"""Small ONNX models for the reader's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nmc.compiler.frontends.onnx import SourceModel, read_model
from nmc.kernels.graph import execute_graph

Floats = NDArray[np.float32]
TOLERANCE = 1e-5


def floats(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    stored: Mapping[str, NDArray[np.generic]],
    shape: Sequence[int | str],
    *,
    opset: int = 17,
    ir_version: int = 10,
    output: str = "y",
    elem_type: int = TensorProto.FLOAT,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model with the input ``x`` and one output."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", elem_type, shape)],
        [helper.make_tensor_value_info(output, elem_type, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def saved(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def original_output(model: onnx.ModelProto, x: Floats) -> Floats:
    """What ONNX Runtime makes of the file as it is."""
    return np.asarray(session(model.SerializeToString()).run(None, {"x": x})[0])


def read_exactly(model: onnx.ModelProto, folder: Path, *, against: onnx.ModelProto | None = None) -> SourceModel:
    """Read a model; every layer must have the value of its tensor in ONNX Runtime.

    Args:
        model: to read.
        folder: to write it to.
        against: a model that ONNX Runtime runs and whose output must be the same.
    """
    source = read_model(saved(model, folder))
    shape = source.graph.input.shape
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    normalised = onnx.load_model_from_string(source.onnx)
    assert normalised.ir_version <= 10 and normalised.opset_import[0].version >= 17
    assert all(node.name for node in normalised.graph.node)
    assert len({node.name for node in normalised.graph.node}) == len(normalised.graph.node)
    onnx.checker.check_model(normalised, full_check=True)
    named = [layer for layer in source.graph.layers if layer.origin.output and layer.inputs]
    del normalised.graph.output[:]
    normalised.graph.output.extend(onnx.ValueInfoProto(name=layer.origin.output) for layer in named)
    wanted = session(normalised.SerializeToString()).run(None, {"x": x})
    found = execute_graph(source.graph, x, [layer.name for layer in named])
    for layer, tensor in zip(named, wanted, strict=True):
        assert tensor.shape == (3, *layer.shape), layer.name
        scale = float(np.abs(tensor).max()) + 1e-12
        assert float(np.abs(found[layer.name] - tensor).max()) <= TOLERANCE * scale, layer.name
    if against is not None:
        fixed = against.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        batch = x[:fixed] if 0 < fixed < 3 else x
        (own,) = session(source.onnx).run(None, {"x": batch})
        assert np.allclose(own, original_output(against, batch), rtol=1e-5, atol=1e-6)
    return source
