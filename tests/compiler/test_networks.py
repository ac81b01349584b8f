"""Kinds of networks from ONNX file to mapped program: every layer within its bound of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.runtime.session import run
from nmc.runtime.simulator import Simulator
from nmc.runtime.verification import verify
from tests.compiler.frontends.onnx_models import model_of, original_output, saved

CODINGS = {"rate": Options(timesteps=64), "graded": Options(coding="graded")}
TOLERANCE = {"rate": 0.12, "graded": 0.05}


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Of the size that training leaves: a sum of unit inputs has about unit size."""
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def compiled_error(nodes: Sequence[onnx.NodeProto], stored: dict, shape: list, coding: str, folder: Path) -> float:  # type: ignore[type-arg]
    """Compile and verify; the relative rms error of the output."""
    rng = np.random.default_rng(5)
    # Images have large even parts: smooth noise has them too.
    samples = rng.random((48, *shape[1:])).astype(np.float32)
    for axis in range(2, samples.ndim):
        samples = (samples + np.roll(samples, 1, axis)) / 2
    data = folder / "calib.npz"
    np.savez(data, x=samples)
    path = saved(model_of(nodes, stored, shape), folder)
    compiled = compile_file(path, CompileRequest("loihi2", CODINGS[coding], calib=f"{data}:32"))
    assert compiled.artifact is not None
    result = verify(compiled.artifact, samples[32:])
    assert result.ok, result.diagnostics
    output = result.layers[-1]
    assert output.name == compiled.artifact.network.output.population
    wanted = original_output(onnx.load(path), samples[32:])
    return output.rmse / float(np.sqrt(np.square(wanted).mean()))


@pytest.mark.parametrize("coding", CODINGS)
def test_maximum_pooling(tmp_path: Path, coding: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("Conv", ["p", "b"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["d"], ["q"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["q"], ["s"]),
        helper.make_node("Flatten", ["s"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    stored = {"a": weights(6, 2, 3, 3), "b": weights(8, 6, 3, 3, seed=1), "w": weights(4, 32, seed=2).T.copy()}
    assert compiled_error(nodes, stored, ["N", 2, 8, 8], coding, tmp_path) < TOLERANCE[coding]


@pytest.mark.parametrize("coding", CODINGS)
def test_clipped_and_leaky_activations(tmp_path: Path, coding: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c", "low", "high"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["d"], strides=[2, 2]),
        helper.make_node("LeakyRelu", ["d"], ["l"], alpha=0.1),
        helper.make_node("Abs", ["l"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    stored = {
        "a": weights(6, 2, 3, 3),
        "low": np.asarray(np.float32(0)),
        "high": np.asarray(np.float32(0.6)),
        "b": weights(8, 6, 3, 3, seed=1),
        "w": weights(4, 72, seed=2).T.copy(),
    }
    assert compiled_error(nodes, stored, ["N", 2, 8, 8], coding, tmp_path) < TOLERANCE[coding]


@pytest.mark.parametrize("coding", CODINGS)
def test_one_spatial_axis(tmp_path: Path, coding: str) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["u"]),
        helper.make_node("Conv", ["u", "a"], ["c"], pads=[1, 1]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[3], strides=[2], pads=[1, 1]),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["d"]),
        helper.make_node("Relu", ["d"], ["s"]),
        helper.make_node("Split", ["s"], ["k", "l"], axis=1),
        helper.make_node("Max", ["k", "l"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    stored = {
        "one": np.array([1]),
        "a": weights(6, 1, 3),
        "b": weights(8, 6, 3, seed=1),
        "w": weights(4, 4 * 10, seed=2).T.copy(),
    }
    assert compiled_error(nodes, stored, ["N", 24], coding, tmp_path) < TOLERANCE[coding]


@pytest.mark.parametrize("head", ["Softmax", "Sigmoid"])
def test_a_movement_behind_the_head(tmp_path: Path, head: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["g"]),
        helper.make_node(head, ["g"], ["s"]),
        helper.make_node("Reshape", ["s", "shape"], ["y"]),
    ]
    stored = {"a": weights(4, 2, 3, 3), "w": weights(4, 64, seed=2).T.copy(), "shape": np.array([0, 1, 4, 1])}
    assert compiled_error(nodes, stored, ["N", 2, 6, 6], "graded", tmp_path) < TOLERANCE["graded"]


@pytest.mark.parametrize("coding", CODINGS)
def test_images_that_grow(tmp_path: Path, coding: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ConvTranspose", ["r", "b"], ["d"], strides=[2, 2], group=2),
        helper.make_node("Relu", ["d"], ["s"]),
        helper.make_node("Resize", ["s", "", "scales"], ["t"], mode="linear"),
        helper.make_node("ReduceMean", ["t"], ["g"], axes=[1]),
        helper.make_node("Sub", ["t", "g"], ["u"]),
        helper.make_node("Relu", ["u"], ["v"]),
        helper.make_node("SpaceToDepth", ["v"], ["w"], blocksize=2),
        helper.make_node("Conv", ["w", "e"], ["y"]),
    ]
    stored = {
        "a": weights(4, 2, 3, 3),
        "b": weights(4, 2, 2, 2, seed=1),
        "scales": np.array([1, 1, 2, 1], np.float32),
        "e": weights(3, 16, 1, 1, seed=2),
    }
    assert compiled_error(nodes, stored, ["N", 2, 7, 7], coding, tmp_path) < TOLERANCE[coding]


@pytest.mark.parametrize("coding", CODINGS)
def test_three_spatial_axes(tmp_path: Path, coding: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], pads=[1] * 6),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
        helper.make_node("Conv", ["p", "b"], ["d"], group=2),
        helper.make_node("LeakyRelu", ["d"], ["s"], alpha=0.2),
        helper.make_node("AveragePool", ["s"], ["q"], kernel_shape=[2, 1, 1]),
        helper.make_node("Flatten", ["q"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    stored = {
        "a": weights(4, 2, 3, 3, 3),
        "scale": np.linspace(0.5, 1.5, 4, dtype=np.float32),
        "shift": np.linspace(-0.2, 0.3, 4, dtype=np.float32),
        "mean": np.zeros(4, np.float32),
        "variance": np.ones(4, np.float32),
        "b": weights(8, 2, 2, 2, 2, seed=1),
        "w": weights(4, 8 * 2 * 2 * 2, seed=2).T.copy(),
    }
    assert compiled_error(nodes, stored, ["N", 2, 8, 6, 6], coding, tmp_path) < TOLERANCE[coding]


@pytest.mark.parametrize("coding", CODINGS)
def test_a_network_that_was_quantized(tmp_path: Path, coding: str) -> None:
    step, middle = ["s", "z"], ["t", "z"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *step], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", *step], ["xr"]),
        helper.make_node("DequantizeLinear", ["a8", "as", "az"], ["a"], axis=0),
        helper.make_node("Conv", ["xr", "a"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", *middle], ["rq"]),
        helper.make_node("MaxPool", ["rq"], ["pq"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pq"], ["fq"]),
        helper.make_node("DequantizeLinear", ["fq", *middle], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    kernel = weights(6, 2, 3, 3)
    scales = np.abs(kernel).max(axis=(1, 2, 3)) / 127
    stored = {
        "s": np.asarray(np.float32(1 / 255)),
        "t": np.asarray(np.float32(1.2 / 255)),
        "z": np.asarray(np.int8(-128)),
        "a8": np.rint(kernel / scales[:, None, None, None]).astype(np.int8),
        "as": scales,
        "az": np.zeros(6, np.int8),
        "w": weights(4, 96, seed=2).T.copy(),
    }
    assert compiled_error(nodes, stored, ["N", 2, 8, 8], coding, tmp_path) < TOLERANCE[coding]


@pytest.mark.parametrize("function", ["Sigmoid", "Elu", "HardSwish"])
def test_smooth_activations(tmp_path: Path, function: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(function, ["c"], ["r"], name="smooth"),
        helper.make_node("Conv", ["r", "b"], ["d"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node(function, ["d"], ["s"]),
        helper.make_node("Flatten", ["s"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    stored = {"a": weights(6, 2, 3, 3), "b": weights(8, 6, 3, 3, seed=1), "w": weights(4, 128, seed=2).T.copy()}
    assert compiled_error(nodes, stored, ["N", 2, 8, 8], "graded", tmp_path) < TOLERANCE["graded"]
    with pytest.raises(NmcError) as caught:
        compile_file(tmp_path / "model.onnx", CompileRequest("loihi2", Options(strict=True), calib="random:4"))
    assert caught.value.exit_code is ExitCode.MODEL
    slugs = [(d.slug, d.origin.op if d.origin else "") for d in caught.value.diagnostics]
    assert slugs == [("approximation-refused", function)] * 2


def test_averaged_maxima(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    path = saved(model_of(nodes, {"a": weights(6, 2, 3, 3), "w": weights(4, 54).T.copy()}, ["N", 2, 8, 8]), tmp_path)
    averaged = Options(coding="graded", maxpool="average")
    exact, mean = (
        compile_file(path, CompileRequest("loihi2", options, calib="random:16"))
        for options in (CODINGS["graded"], averaged)
    )
    assert exact.artifact is not None and mean.artifact is not None
    assert mean.artifact.report["neurons"] < exact.artifact.report["neurons"]
    assert mean.artifact.manifest["options"]["maxpool"] == "average"
    assert "maxpool-averaged" in {d.slug for d in mean.diagnostics}
    both = Options(maxpool="average", strict=True)
    with pytest.raises(NmcError) as caught:
        compile_file(path, CompileRequest("loihi2", both, calib="random:4"))
    assert [d.origin.node for d in caught.value.diagnostics if d.origin] == ["pool"]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize(("head", "outputs"), [("Sigmoid", 1), ("Sigmoid", 3), ("ArgMax", 3), ("Softmax", 3)])
def test_heads(tmp_path: Path, head: str, outputs: int, coding: str) -> None:
    options = {"axis": 1, "keepdims": 0} if head == "ArgMax" else {}
    nodes = [
        helper.make_node("Gemm", ["x", "a"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Gemm", ["r", "b", "offset"], ["l"]),
        helper.make_node(head, ["l"], ["y"], **options),
    ]
    x = np.random.default_rng(3).random((64, 8)).astype(np.float32)
    stored = {"a": weights(16, 8).T.copy(), "b": 4 * weights(outputs, 16, seed=1).T}
    logits = np.maximum(x @ stored["a"], 0) @ stored["b"]
    model = model_of(nodes, {**stored, "offset": -np.median(logits, axis=0)}, ["N", 8])
    if head == "ArgMax":
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    wanted = original_output(model, x).reshape(64, -1)
    classes = wanted[:, 0] if head == "ArgMax" else wanted[:, 0] > 0.5 if outputs == 1 else wanted.argmax(axis=1)
    np.savez(tmp_path / "data.npz", x=x, y=classes.astype(np.int64))
    path = saved(model, tmp_path)
    compiled = compile_file(path, CompileRequest("loihi2", CODINGS[coding], calib=str(tmp_path / "data.npz")))
    assert compiled.artifact is not None and compiled.accuracy is not None
    assert compiled.artifact.network.output.head == head.lower()
    top1 = {stage.stage: stage.top1 for stage in compiled.accuracy.stages}
    assert top1["onnx"] == top1["simplified"] == 1.0 and (top1["mapped"] or 0) >= 0.9
    assert len(set(classes.tolist())) > 1
    result = run(compiled.artifact, x, Simulator())
    if head != "ArgMax":
        assert float(np.abs(result.outputs - wanted).max()) < 0.2
    assert float((result.answers == classes).mean()) == top1["mapped"]
    assert verify(compiled.artifact, x[:8]).ok
