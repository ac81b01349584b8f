"""Versions of the operators and of the file format, odd batches, and weights that are inputs too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nmc.compiler.frontends.onnx import check_model, read_model
from nmc.compiler.frontends.onnx.limits import IR_VERSIONS, OPSETS
from tests.compiler.frontends.onnx_models import floats, model_of, read_exactly, saved

IR_OF_OPSET = ((8, 3), (9, 4), (10, 5), (11, 6), (14, 7), (18, 8), (20, 9), (22, 10), (23, 11), (24, 12), (26, 13))
"""The newest opset of each IR version; older files are as valid."""


def network(opset: int, ir_version: int, batch: int | str = "N", *, listed: bool = False) -> onnx.ModelProto:
    """Conv, normalisation, pool, head: with the attributes of the opset.

    Args:
        opset: version of the operators.
        ir_version: of the file format.
        batch: axis 0.
        listed: the weights are inputs too, as IR version 3 wants it.
    """
    norm = {"spatial": 1} if opset < 9 else {}
    flat = helper.make_node("Reshape", ["p", "shape"], ["f"])
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "b", "mean", "var"], ["n"], **norm),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        flat,
        helper.make_node("Gemm", ["f", "v", "d"], ["g"], transB=1),
        helper.make_node("Softmax", ["g"], ["y"], axis=1),
    ]
    stored = {
        "w": floats(4, 2, 3, 3),
        "b": floats(4),
        "scale": floats(4, seed=1),
        "mean": floats(4, seed=2),
        "var": np.abs(floats(4, seed=3)) + 0.5,
        "shape": np.array([batch if isinstance(batch, int) else -1, 64]),
        "v": floats(3, 64),
        "d": floats(3),
    }
    model = model_of(nodes, stored, [batch, 2, 8, 8], opset=opset, ir_version=ir_version)
    if listed:
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


@pytest.mark.parametrize("opset", range(OPSETS[0], OPSETS[1] + 1))
def test_every_opset(tmp_path: Path, opset: int) -> None:
    ir_version = next(ir for newest, ir in IR_OF_OPSET if opset <= newest)
    read_exactly(network(opset, ir_version, listed=ir_version == 3), tmp_path)


@pytest.mark.parametrize("ir_version", range(IR_VERSIONS[0], IR_VERSIONS[1] + 1))
def test_every_ir_version(tmp_path: Path, ir_version: int) -> None:
    opset = 8 if ir_version == 3 else 9 if ir_version == 4 else 17
    read_exactly(network(opset, ir_version, listed=ir_version == 3), tmp_path)


@pytest.mark.parametrize("batch", [1, 3, 7, "N", "batch size ?", ""])
def test_batches(tmp_path: Path, batch: int | str) -> None:
    graph = read_exactly(network(17, 10, batch), tmp_path).graph
    assert graph.input.shape == (2, 8, 8)
    assert read_model(saved(network(17, 10, batch, listed=True), tmp_path)).graph.input.name == graph.input.name


@pytest.mark.parametrize(
    ("opset", "ir_version"), [(5, 10), (27, 10), (0, 10), (-1, 10), (2**62, 10), (17, 2), (17, 15), (17, 2**62)]
)
def test_versions_that_are_not_read(tmp_path: Path, opset: int, ir_version: int) -> None:
    (problem,) = check_model(saved(network(opset, ir_version), tmp_path)).diagnostics
    assert problem.slug == "model-version" and str(ir_version if opset == 17 else opset) in problem.message


def test_several_inputs(tmp_path: Path) -> None:
    for batches in (("N", "N"), (3, 3), ("N", 3), (1, "M"), ("", 2)):
        model = model_of([helper.make_node("Add", ["x", "z"], ["y"])], {}, [batches[0], 4])
        model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [batches[1], 4]))
        graph = read_model(saved(model, tmp_path)).graph
        assert dict(graph.input_shapes) == {"x": (4,), "z": (4,)}
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    (problem,) = check_model(saved(model, tmp_path)).diagnostics
    assert problem.slug == "input-shape" and "'x' 3, 'z' 2" in problem.message


@pytest.mark.parametrize("opset", [6, 9, 13, 21])
def test_several_inputs_of_old_and_new_opsets(tmp_path: Path, opset: int) -> None:
    model = model_of([helper.make_node("Sum", ["x", "z"], ["y"])], {}, ["N", 4], opset=opset)
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4]))
    source = read_model(saved(model, tmp_path))
    assert [layer.name for layer in source.graph.inputs] == ["x", "z"]
    assert [value.name for value in onnx.load_model_from_string(source.onnx).graph.input] == ["x", "z"]


def test_functions_are_inlined(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    twice = helper.make_function("f", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [imports[0]])
    four = [helper.make_node("Twice", ["a"], ["t"], domain="f"), helper.make_node("Twice", ["t"], ["b"], domain="f")]
    model = model_of([helper.make_node("Four", ["x"], ["y"], domain="f")], {}, ["N", 4], domains=["f"])
    model.functions.extend([twice, helper.make_function("f", "Four", ["a"], ["b"], four, imports)])
    assert [use.count for use in read_exactly(model, tmp_path, against=model).operators] == [2]
