"""Operators over three spatial axes, and reductions over any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from nmc.compiler.frontends.onnx import check_model
from tests.compiler.frontends.onnx_models import floats, model_of, read_exactly, saved

Attributes = dict[str, object]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 1, 3], "pads": [1, 0, 1, 2, 1, 0]},
        {"dilations": [2, 1, 2], "pads": [2, 1, 0, 0, 1, 1]},
        {"group": 2, "pads": [1, 1, 1, 1, 1, 1]},
        {"group": 4, "strides": [2, 2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [3, 1, 2]},
        {"auto_pad": "VALID"},
    ],
)
def test_conv(tmp_path: Path, attributes: Attributes) -> None:
    groups = int(str(attributes.get("group", 1)))
    stored = {"w": floats(8, 4 // groups, 3, 2, 2), "b": floats(8, seed=1)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)]
    model = model_of(nodes, stored, ["N", 4, 6, 5, 4])
    read_exactly(model, tmp_path, against=model)


@pytest.mark.parametrize("attributes", [{}, {"pads": [1, 0, 1, 1, 1, 0]}, {"ceil_mode": 1, "pads": [0, 1, 0, 1, 1, 1]}])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools(tmp_path: Path, op: str, attributes: Attributes) -> None:
    for more in ({}, {"count_include_pad": 1}) if op == "AveragePool" else ({}, {"dilations": [2, 1, 2]}):
        if "dilations" in more and attributes:
            continue
        node = helper.make_node(op, ["x"], ["y"], kernel_shape=[2, 3, 2], strides=[2, 2, 3], **attributes, **more)
        read_exactly(model_of([node], {}, ["N", 2, 7, 8, 6], opset=22), tmp_path)


def test_the_rest_of_a_volume_network(tmp_path: Path) -> None:
    stored = {"s": floats(3), "b": floats(3, seed=1), "m": floats(3, seed=2), "v": np.abs(floats(3, seed=3))}
    nodes = [
        helper.make_node("BatchNormalization", ["x", *stored], ["n"]),
        helper.make_node("LeakyRelu", ["n"], ["l"]),
        helper.make_node("GlobalAveragePool", ["l"], ["a"]),
        helper.make_node("GlobalMaxPool", ["l"], ["g"]),
        helper.make_node("Add", ["a", "g"], ["s1"]),
        helper.make_node("ReduceMean", ["l"], ["r"], axes=[2, 3, 4]),
        helper.make_node("Add", ["s1", "r"], ["y"]),
    ]
    read_exactly(model_of(nodes, stored, ["N", 3, 4, 5, 2]), tmp_path)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [2, 3], [-1], [1, 3], [1, 2, -1]])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1"])
def test_reductions(tmp_path: Path, op: str, axes: list[int], keepdims: int) -> None:
    if not keepdims and len(axes) == 3:
        return
    node = helper.make_node(op, ["x", "axes"], ["y"], keepdims=keepdims)
    read_exactly(model_of([node], {"axes": np.array(axes)}, ["N", 4, 3, 5], opset=18), tmp_path)


def test_reductions_of_older_opsets(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], axes=[-1]),
        helper.make_node("ReduceMax", ["s"], ["y"], axes=[1], keepdims=0),
    ]
    model = model_of(nodes, {}, ["N", 4, 3], opset=11)
    read_exactly(model, tmp_path, against=model)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("ReduceMean", ["x"], ["y"]), "over the batch"),
        (helper.make_node("ReduceMax", ["x", "many"], ["y"]), "256"),
    ],
)
def test_refused_reductions(tmp_path: Path, node, words: str) -> None:  # type: ignore[no-untyped-def]
    model = model_of([node], {"many": np.array([2])}, ["N", 2, 300], opset=18)
    (problem,) = check_model(saved(model, tmp_path)).diagnostics
    assert problem.slug == "operator-unsupported" and words in problem.message and problem.help


def test_a_volume_too_deep_for_a_kernel_over_slices(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="deep")
    model = model_of([node], {"w": floats(64, 64, 1, 1, 1)}, ["N", 64, 400, 1, 1])
    (problem,) = check_model(saved(model, tmp_path)).diagnostics
    assert problem.slug == "operator-unsupported" and "slices" in problem.message and "slices" in problem.help
