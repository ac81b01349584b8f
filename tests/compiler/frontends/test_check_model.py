"""Refusals: every problem at once, by node, with a way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from nmc.compiler.frontends.onnx import check_model, operator_table, read_model
from nmc.ir.diagnostic import NmcError
from tests.compiler.frontends.onnx_models import floats, model_of, saved


def test_a_supported_model(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["w"], value_floats=[1.0, 2.0]),
        helper.make_node("Mul", ["x", "w"], ["m"], name="scale"),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Relu", ["r"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"]),
    ]
    check = check_model(saved(model_of(nodes, {}, ["N", 2]), tmp_path))
    assert check.supported and check.diagnostics == ()
    rows = [(use.op, use.count, use.status, use.nodes) for use in check.operators]
    assert rows == [
        ("Constant", 1, "rewrite", ("Constant_0",)),
        ("Mul", 1, "rewrite", ("scale",)),
        ("Relu", 2, "native", ("Relu_2", "Relu_3")),
        ("Softmax", 1, "host", ("Softmax_4",)),
    ]
    assert all(use.note for use in check.operators)


def test_every_problem_at_once(tmp_path: Path) -> None:
    weight = floats(2, 5, 3, 3)
    weight[0, 0, 0, 0] = np.nan
    nodes = [
        helper.make_node("LpPool", ["x"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w"], ["c"], name="wrong channels"),
        helper.make_node("LogSoftmax", ["c"], ["s"], name="act"),
        helper.make_node("Conv", ["s", "nan"], ["d"], name="not finite", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["d"], ["t"], name="moves the batch"),
        helper.make_node("LSTM", ["t", "a", "b"], ["y"], name="recurrent", hidden_size=2),
    ]
    stored = {"w": floats(2, 5, 3, 3), "nan": weight, "a": floats(1, 8, 3), "b": floats(1, 8, 2)}
    check = check_model(saved(model_of(nodes, stored, ["N", 3, 12, 12]), tmp_path))
    assert not check.supported
    found = {(d.slug, d.origin.node) for d in check.diagnostics if d.origin}
    assert found >= {
        ("operator-unsupported", "pool"),
        ("shape-invalid", "wrong channels"),
        ("operator-unsupported", "act"),
        ("model-weights-not-finite", "not finite"),
        ("operator-unsupported", "recurrent"),
    }
    assert all(d.help for d in check.diagnostics if d.slug == "operator-unsupported")
    assert {use.op for use in check.operators if use.status == "refused"} == {"LpPool", "LogSoftmax", "LSTM"}


def test_problems_behind_a_refused_operator_are_found(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LpPool", ["x"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"], name="flat", axis=2),
        helper.make_node("Gemm", ["f", "w"], ["y"], name="fc"),
    ]
    check = check_model(saved(model_of(nodes, {"w": floats(36, 2)}, ["N", 2, 12, 12]), tmp_path))
    assert [d.origin.node for d in check.diagnostics if d.origin] == ["pool", "flat"]


def test_foreign_domains(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Quant", ["x"], ["q"], name="quant", domain="onnx.brevitas"),
        helper.make_node("Relu", ["q"], ["y"]),
    ]
    model = model_of(nodes, {}, ["N", 4])
    check = check_model(saved(model, tmp_path))
    (problem,) = check.diagnostics
    assert problem.slug == "operator-unsupported" and "onnx.brevitas:Quant" in problem.message
    assert "float" in problem.help


def test_functions_of_the_model(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Twice", ["x"], ["y"], domain="mine")], {}, ["N", 4], domains=["mine"])
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    assert check_model(saved(model, tmp_path)).operators[0].op == "Relu"
    model.graph.node[0].op_type = "Thrice"
    (problem,) = check_model(saved(model, tmp_path)).diagnostics
    assert "mine:Thrice" in problem.message


REFUSED = [
    ([helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[2, 2])], {}, [3, 4, 4], "AveragePool"),
    ([helper.make_node("GlobalMaxPool", ["x"], ["y"])], {}, [3, 20, 20], "in steps"),
    ([helper.make_node("Celu", ["x"], ["y"], alpha=-1.0)], {}, [4], "Relu"),
    ([helper.make_node("Cast", ["x"], ["c"], to=6), helper.make_node("Cast", ["c"], ["y"], to=1)], {}, [4], "floating"),
    ([helper.make_node("Mul", ["x", "x"], ["y"])], {}, [4], "gating"),
    ([helper.make_node("MatMul", ["w", "x"], ["y"])], {"w": floats(4, 4)}, [4], "exchange"),
    ([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": floats(2, 3, 1, 1, 1, 1)}, [3, 2, 2, 2, 2], "three spatial"),
    ([helper.make_node("Gather", ["x", "i"], ["y"])], {"i": np.array([0])}, [3], "axis 0"),
    ([helper.make_node("Split", ["x"], ["y"], axis=0, num_outputs=1)], {}, [3], "axis 0"),
    ([helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)], {"w": floats(4, 4)}, [4], "axis 0"),
    ([helper.make_node("Transpose", ["x"], ["y"])], {}, [3, 4], "axis 0"),
    ([helper.make_node("Concat", ["x", "x"], ["y"], axis=0)], {}, [3, 4], "axis 0"),
    ([helper.make_node("Pad", ["x", "p"], ["y"], mode="edge")], {"p": np.array([1, 0, 0, 0])}, [4], "axis 0"),
    ([helper.make_node("Softmax", ["x"], ["y"], axis=1)], {}, [3, 4], "flatten"),
    ([helper.make_node("ArgMax", ["x"], ["y"], axis=1)], {}, [3, 4], "flatten"),
    ([helper.make_node("ArgMax", ["x"], ["y"], axis=1, select_last_index=1)], {}, [3], "first"),
    (
        [helper.make_node("Softmax", ["x"], ["s"]), helper.make_node("Relu", ["s"], ["y"])],
        {},
        [3, 4],
        "end the model before it",
    ),
]


@pytest.mark.parametrize(("nodes", "stored", "shape", "way_out"), REFUSED)
def test_refusals(tmp_path: Path, nodes, stored, shape, way_out) -> None:  # type: ignore[no-untyped-def]
    arrays = {name: np.asarray(array) for name, array in stored.items()}
    path = saved(model_of(nodes, arrays, ["N", *shape], opset=19), tmp_path)
    with pytest.raises(NmcError) as caught:
        read_model(path)
    (problem,) = caught.value.diagnostics
    assert problem.slug == "operator-unsupported"
    assert way_out in problem.help
    assert problem.origin is not None and problem.origin.node == f"{nodes[0].op_type}_0"


INVALID = [
    ([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": floats(2, 4, 3, 3)}, [3, 9, 9]),
    ([helper.make_node("Conv", ["x", "w"], ["y"], group=2)], {"w": floats(2, 3, 3, 3)}, [3, 9, 9]),
    ([helper.make_node("Conv", ["x", "w"], ["y"], group=0)], {"w": floats(2, 3, 3, 3)}, [3, 9, 9]),
    ([helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[5, 5])], {"w": floats(2, 3, 3, 3)}, [3, 9, 9]),
    ([helper.make_node("Conv", ["x", "w"], ["y"], strides=[0, 1])], {"w": floats(2, 3, 3, 3)}, [3, 9, 9]),
    ([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": floats(2, 3, 3, 3)}, [3, 2, 9]),
    ([helper.make_node("Conv", ["x", "w", "b"], ["y"])], {"w": floats(2, 3, 3, 3), "b": floats(3)}, [3, 9, 9]),
    ([helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": floats(5, 2)}, [4]),
    ([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], {"w": floats(4, 2), "b": floats(3)}, [4]),
    ([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": floats(5, 2)}, [4]),
    (
        [helper.make_node("BatchNormalization", ["x", "w", "w", "w", "v"], ["y"])],
        {"w": floats(3), "v": np.ones(4, np.float32)},
        [3, 4, 4],
    ),
]


@pytest.mark.parametrize(("nodes", "stored", "shape"), INVALID)
def test_contradictions(tmp_path: Path, nodes, stored, shape) -> None:  # type: ignore[no-untyped-def]
    path = saved(model_of(nodes, stored, ["N", *shape]), tmp_path)
    with pytest.raises(NmcError) as caught:
        read_model(path)
    (problem,) = caught.value.diagnostics
    assert problem.slug == "shape-invalid"
    assert problem.origin is not None and problem.origin.node == f"{nodes[0].op_type}_0"


def test_hidden_heads_are_named_beside_other_problems(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["a"], name="gate"),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("LogSoftmax", ["b"], ["c"], name="bend"),
        helper.make_node("Softmax", ["c"], ["d"], name="inner"),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    check = check_model(saved(model_of(nodes, {}, ["N", 3]), tmp_path))
    assert {d.origin.node for d in check.diagnostics if d.origin} == {"gate", "bend", "inner"}


def test_an_argmax_that_nothing_reads_is_left_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("ArgMax", ["r"], ["unused"], axis=1),
        helper.make_node("Gemm", ["r", "w"], ["y"]),
    ]
    assert check_model(saved(model_of(nodes, {"w": floats(3, 2)}, ["N", 3]), tmp_path)).supported


def test_the_indices_of_maxima_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m", "i"], kernel_shape=[2, 2]),
        helper.make_node("Cast", ["i"], ["y"], to=1),
    ]
    check = check_model(saved(model_of(nodes, {}, ["N", 3, 4, 4]), tmp_path))
    refused = {d.origin.node: d.help for d in check.diagnostics if d.origin}
    assert set(refused) == {"MaxPool_0"} and "unpooling" in refused["MaxPool_0"]


def test_a_reshape_that_moves_the_batch(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "s"], ["y"], name="mix")
    check = check_model(saved(model_of([node], {"s": np.array([4, -1])}, ["N", 4]), tmp_path))
    (problem,) = check.diagnostics
    assert problem.slug == "operator-unsupported" and "batch" in problem.message


def test_an_absurd_constant_is_not_computed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"], name="bomb"),
        helper.make_node("Add", ["x", "big"], ["y"]),
    ]
    check = check_model(saved(model_of(nodes, {"s": np.array([10**6, 10**6])}, ["N", 4]), tmp_path))
    (problem,) = check.diagnostics
    assert problem.slug == "constant-not-folded" and problem.origin is not None and problem.origin.node == "bomb"


def test_names_of_a_hostile_file_are_escaped(tmp_path: Path) -> None:
    node = helper.make_node("Bad\x1b[2J\n" + "x" * 500, ["x"], ["y"], name="\x1b]0;owned\x07'\"; import os")
    check = check_model(saved(model_of([node], {}, ["N", 4]), tmp_path))
    for problem in check.diagnostics:
        assert problem.message.isprintable() and len(problem.message) < 300
        assert problem.origin is None or str(problem.origin).isprintable()


def test_the_operator_table_is_made_from_what_decides() -> None:
    table = {row.op: row for row in operator_table()}
    assert table["Conv"].status == "native" and "groups" in table["Conv"].note
    assert table["AveragePool"].status == "rewrite" and "ceil_mode" in table["AveragePool"].note
    assert table["Softmax"].status == table["Sigmoid"].status == table["ArgMax"].status == "host"
    assert table["LpPool"].status == "refused" and "AveragePool" in table["LpPool"].note
    assert table["Shape"].status == "rewrite" and "constants" in table["Shape"].note
    assert all(row.note for row in table.values()) and len(table) == len(operator_table())
