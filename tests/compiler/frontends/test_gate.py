"""Files that are no model, or one that must not be trusted: one clear error each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nmc.compiler.frontends.onnx import check_model, gate, read_model
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from tests.compiler.frontends.onnx_models import floats, model_of, saved


def gemm_model(**changes: object) -> onnx.ModelProto:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["g"], name="fc"), helper.make_node("Relu", ["g"], ["y"])]
    model = model_of(nodes, {"w": floats(4, 3)}, ["N", 4])
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def problems(path: Path, code: ExitCode = ExitCode.MODEL) -> tuple[Diagnostic, ...]:
    """The diagnostics of reading; checking finds the same, raised or returned."""
    with pytest.raises(NmcError) as caught:
        read_model(path)
    assert caught.value.exit_code is code
    for diagnostic in caught.value.diagnostics:
        text = diagnostic.message + diagnostic.help
        assert text.isprintable() and len(text) < 800
    try:
        check = check_model(path)
    except NmcError as error:
        assert error.diagnostics == caught.value.diagnostics
    else:
        assert not check.supported
        assert [d for d in check.diagnostics if d.severity == "error"] == list(caught.value.diagnostics)
    return caught.value.diagnostics


def the_problem(path: Path, code: ExitCode = ExitCode.MODEL) -> Diagnostic:
    found = problems(path, code)
    assert len(found) == 1, [d.message for d in found]
    return found[0]


def test_a_missing_file(tmp_path: Path) -> None:
    problem = the_problem(tmp_path / "no\nsuch.onnx", ExitCode.USAGE)
    assert problem.slug == "path-not-readable" and "does not exist" in problem.message


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in the_problem(tmp_path, ExitCode.USAGE).message


def test_a_path_that_no_file_can_have() -> None:
    assert the_problem(Path("a\0b"), ExitCode.USAGE).slug == "path-not-readable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = saved(gemm_model(), tmp_path)
    path.chmod(0)
    assert the_problem(path, ExitCode.USAGE).slug == "path-not-readable"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"PK\x03\x04rest", "zip"),
        (b"\x80\x04\x95rest", "pickle"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"import torch\nprint('hello')\n", "not an ONNX model"),
        (b'{"graph": {}}', "not an ONNX model"),
        (b"<html></html>", "not an ONNX model"),
        (b"\x00" * 100, "not an ONNX model"),
        (bytes(range(256)), "not an ONNX model"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    problem = the_problem(path)
    assert problem.slug == "model-not-onnx" and word in problem.message


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
def test_truncated_files(tmp_path: Path, keep: float) -> None:
    data = gemm_model().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: int(len(data) * keep)])
    assert the_problem(path).slug == "model-not-onnx"


def test_a_file_over_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SIZE_LIMIT", 50)
    assert the_problem(saved(gemm_model(), tmp_path)).slug == "model-too-large"


def test_a_model_without_nodes(tmp_path: Path) -> None:
    model = gemm_model()
    del model.graph.node[:]
    assert the_problem(saved(model, tmp_path)).slug == "model-invalid"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    weight = floats(4, 3)
    weight[1, 1:] = bad
    model = model_of([helper.make_node("Gemm", ["x", "w"], ["y"], name="fc")], {"w": weight}, ["N", 4])
    problem = the_problem(saved(model, tmp_path))
    assert problem.slug == "model-weights-not-finite" and "2 of 12" in problem.message
    assert problem.origin is not None and problem.origin.node == "fc"


def test_a_tensor_that_contradicts_its_shape(tmp_path: Path) -> None:
    model = gemm_model()
    model.graph.initializer[0].dims[0] = 10**9
    assert the_problem(saved(model, tmp_path)).slug == "model-invalid"
    model.graph.initializer[0].dims[0] = -4
    assert the_problem(saved(model, tmp_path)).slug == "model-invalid"


def test_a_cycle(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    problem = the_problem(saved(model_of(nodes, {}, ["N", 4]), tmp_path))
    assert problem.slug == "model-cycle" and "first" in problem.message


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["g"], ["y"]), helper.make_node("Gemm", ["x", "w"], ["g"])]
    graph = read_model(saved(model_of(nodes, {"w": floats(4, 3)}, ["N", 4]), tmp_path)).graph
    assert [layer.origin.op for layer in graph.layers] == ["Input", "Gemm", "Relu"]


def test_undefined_and_doubled_tensors(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "nowhere"], ["y"], name="fc"),
        helper.make_node("Relu", ["x"], ["y"], name="again"),
    ]
    found = problems(saved(model_of(nodes, {}, ["N", 4]), tmp_path))
    assert [d.origin.node for d in found if d.origin] == ["again", "fc"]
    assert "nowhere" in found[1].message


def test_an_input_that_nothing_reads_and_no_ends(tmp_path: Path) -> None:
    model = gemm_model()
    model.graph.output.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, ["N", 3]))
    assert len(read_model(saved(model, tmp_path)).graph.outputs) == 2
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ["N", 4]))
    source = read_model(saved(model, tmp_path))
    assert [layer.name for layer in source.graph.inputs] == ["x"]
    assert [d.slug for d in source.warnings] == ["input-unused"] and "'second'" in source.warnings[0].message
    del model.graph.input[:]
    del model.graph.output[:]
    found = problems(saved(model, tmp_path))
    assert [d.slug for d in found[:2]] == ["model-ends", "model-ends"]
    assert "no input" in found[0].message and "no output" in found[1].message


@pytest.mark.parametrize(
    ("shape", "slug"),
    [
        (["N", "features"], "shape-dynamic"),
        (["N", 0], "shape-dynamic"),
        ([4], "input-shape"),
        ([], "input-shape"),
        (None, "input-shape"),
    ],
)
def test_inputs_without_a_fixed_shape(tmp_path: Path, shape: list[object] | None, slug: str) -> None:
    model = gemm_model()
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    model.graph.input[0].CopyFrom(value)
    assert the_problem(saved(model, tmp_path)).slug == slug


def test_integer_inputs(tmp_path: Path) -> None:
    model = gemm_model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    problem = the_problem(saved(model, tmp_path))
    assert problem.slug == "input-type" and "INT32" in problem.message
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    problem = the_problem(saved(model, tmp_path))
    assert problem.slug == "operator-unsupported" and "DequantizeLinear" in problem.help


def test_an_output_that_does_not_depend_on_the_input(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["w"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    assert the_problem(saved(model_of(nodes, {"w": floats(4)}, ["N", 4]), tmp_path)).slug == "model-ends"


def external(folder: Path, location: str, **entries: str) -> Path:
    model = gemm_model()
    tensor = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return saved(model, folder)


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    read_model(external(tmp_path, "weights.bin"))
    read_model(external(tmp_path, "weights.bin", offset="0", length="48"))


@pytest.mark.parametrize("location", ["missing.bin", "sub/weights.bin"])
def test_missing_external_data(tmp_path: Path, location: str) -> None:
    assert the_problem(external(tmp_path, location)).slug == "external-data-missing"


@pytest.mark.parametrize(
    "entries",
    [{"offset": "40", "length": "48"}, {"offset": "-1"}, {"length": "9" * 30}, {"offset": "100"}, {"length": "x"}],
)
def test_external_data_that_is_too_short(tmp_path: Path, entries: dict[str, str]) -> None:
    assert the_problem(external(tmp_path, "weights.bin", **entries)).slug == "external-data-missing"


def _absolute(folder: Path) -> str:
    return str(folder / "weights.bin")


def _above(folder: Path) -> str:
    return f"../{folder.name}/weights.bin"


def _nested(folder: Path) -> str:
    return f"a/../../{folder.name}/weights.bin"


def _link(folder: Path) -> str:
    (folder / "link.bin").symlink_to(folder / "weights.bin")
    return "link.bin"


def _linked_folder(folder: Path) -> str:
    (folder / "sub").symlink_to(folder)
    return "sub/weights.bin"


def _hard_link(folder: Path) -> str:
    (folder / "target.bin").write_bytes(b"\0" * 48)
    os.link(folder / "target.bin", folder / "hard.bin")
    return "hard.bin"


@pytest.mark.parametrize("place", [_absolute, _above, _nested, _link, _linked_folder, _hard_link])
def test_external_data_outside(tmp_path: Path, place: Callable[[Path], str]) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    problem = the_problem(external(folder, place(folder)))
    assert problem.slug == "external-data-outside"


@pytest.mark.parametrize("seed", range(150))
def test_damaged_files_never_raise_anything_else(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Shape", ["r"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "one"], ["n"]),
        helper.make_node("Concat", ["n", "minus"], ["shape"], axis=0),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "w2"], ["y"]),
    ]
    stored = {
        "w": floats(2, 1, 3, 3),
        "b": floats(2),
        "zero": np.array([0]),
        "one": np.array([1]),
        "minus": np.array([-1]),
        "w2": floats(8, 2),
    }
    data = bytearray(model_of(nodes, stored, ["N", 1, 8, 8], opset=13).SerializeToString())
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    try:
        read_model(path)
    except NmcError as error:
        assert error.exit_code is ExitCode.MODEL and error.diagnostics
