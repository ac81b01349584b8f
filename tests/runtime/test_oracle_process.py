"""ONNX Runtime in a process of its own: the same values, and an error with a name for every way to fail."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nmc.compiler.frontends.onnx import SourceModel
from nmc.compiler.proof import prove_import
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import Input, Layer, LayerGraph, Relu
from nmc.ir.origin import Origin
from nmc.runtime.confinement import ending
from nmc.runtime.oracle_frames import read_frame, write_frame
from nmc.runtime.oracle_process import ConfinedOracle, Limits, open_oracle
from tests.runtime.artifacts import residual_artifact

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)

posix = pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are those of Linux")


def model(nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray]) -> bytes:
    """A model from x (N, 4) to y (N, 4)."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    tensors = [numpy_helper.from_array(values, name) for name, values in stored.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def plain() -> bytes:
    return model(
        [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Mul", ["h", "two"], ["y"])], {"two": np.float32([2])}
    )


def greedy(values: int) -> bytes:
    """It makes a tensor of so many values before it needs them."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0),
        helper.make_node("Add", ["x", "total"], ["y"]),
    ]
    return model(nodes, {"shape": np.array([values], np.int64)})


def endless() -> bytes:
    """It never ends."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, ["N", 4])],
        [info("on", TensorProto.BOOL, []), info("w", TensorProto.FLOAT, ["N", 4])],
    )
    nodes = [helper.make_node("Loop", ["count", "yes", "x"], ["y"], body=body)]
    return model(nodes, {"count": np.array(2**62), "yes": np.array(True)})


COMMON = Limits()


def refused(content: bytes, limits: Limits = COMMON) -> NmcError:
    with pytest.raises(NmcError) as caught, open_oracle(content, isolated=True, limits=limits) as oracle:
        oracle.outputs(X)
    assert caught.value.exit_code is ExitCode.MODEL
    return caught.value


def slug(error: NmcError) -> str:
    return error.diagnostics[0].slug


def test_the_same_values_as_in_this_process() -> None:
    with open_oracle(plain(), isolated=True) as there, open_oracle(plain(), isolated=False) as here:
        assert np.array_equal(there.run(X), here.run(X)) and np.array_equal(there.run(X), 2 * np.maximum(X, 0))
        assert len(there.outputs(X)) == 1
        found = there.tensors(X, ["y", "h", "x", "h"])
        assert list(found) == ["y", "h", "x"] and np.array_equal(found["h"], np.maximum(X, 0))
        assert np.array_equal(found["x"], X)
        for name in ("x", "h", "y", "two", "z"):
            assert there.knows(name) == here.knows(name)
        with pytest.raises(NmcError, match="'z'") as caught:
            there.tensors(X, ["z"])
        assert slug(caught.value) == "onnx-tensor-unknown"
        assert np.array_equal(there.run(X[:1]), here.run(X[:1])), "it answers again after an error"


def test_the_process_ends_with_its_oracle() -> None:
    with open_oracle(plain(), isolated=True) as oracle:
        assert isinstance(oracle, ConfinedOracle)
        process = oracle._process
        assert process.poll() is None
    assert process.poll() is not None


def test_this_process_does_not_load_onnx_runtime(tmp_path: Path) -> None:
    """Neither it nor the ONNX library is loaded where a model is run in another process."""
    code = (
        "import sys, numpy as np\n"
        "from nmc.runtime import evaluation, verification\n"
        "from nmc.compiler import proof\n"
        "from nmc.runtime.oracle_process import open_oracle\n"
        "from nmc.runtime.artifact import Artifact\n"
        "artifact = Artifact.load(sys.argv[1])\n"
        "x = np.zeros((2, *artifact.network.input.shape))\n"
        "assert artifact.eval(x).samples == 2 and artifact.verify(x).samples == 2\n"
        "with open_oracle(sys.stdin.buffer.read(), isolated=True) as oracle: oracle.outputs(np.zeros((1, 4)))\n"
        "print(*[name for name in ('onnx', 'onnxruntime') if name in sys.modules])\n"
    )
    artifact = residual_artifact()
    replace(artifact, manifest={**artifact.manifest, "preprocessing": {}}).save(tmp_path / "a.nmc")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.nmc")], input=plain(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, b""), done.stderr.decode()


@posix
def test_a_model_that_takes_all_memory() -> None:
    error = refused(greedy(1 << 32))
    assert slug(error) == "onnx-runtime-over-budget" and "6.0 GiB of memory" in str(error)
    error = refused(greedy(1 << 28), Limits(memory=1 << 30))
    assert slug(error) == "onnx-runtime-over-budget" and "1.0 GiB of memory" in str(error)


@posix
def test_a_model_that_runs_for_ever() -> None:
    error = refused(endless(), Limits(processor=1, per_sample=0, patience=600))
    assert slug(error) == "onnx-runtime-over-budget" and "1 seconds of processor time" in str(error)


def test_a_model_that_outlasts_the_clock() -> None:
    begin = time.monotonic()
    error = refused(endless(), Limits(processor=100, per_sample=0, patience=0.05))
    assert slug(error) == "onnx-runtime-over-budget" and "5 seconds by the clock" in str(error)
    assert time.monotonic() - begin < 100


@posix
def test_a_crash() -> None:
    with pytest.raises(NmcError, match="SIGSEGV") as caught, open_oracle(plain(), isolated=True) as oracle:
        assert isinstance(oracle, ConfinedOracle)
        os.kill(oracle._process.pid, signal.SIGSEGV)
        oracle.outputs(X)
    assert slug(caught.value) == "onnx-runtime-died" and caught.value.exit_code is ExitCode.MODEL


def test_what_onnx_runtime_refuses() -> None:
    assert slug(refused(b"nonsense")) == "onnx-runtime-refused"
    unequal = model([helper.make_node("Add", ["x", "five"], ["y"])], {"five": np.zeros(5, np.float32)})
    error = refused(unequal)
    assert slug(error) in ("onnx-runtime-refused", "onnx-runtime-failed") and "ONNX Runtime cannot" in str(error)


def test_seconds_grow_with_the_samples() -> None:
    assert Limits(processor=60, per_sample=4.0).seconds(256) == 60 + 4 * 256


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (2).to_bytes(8, "little") + b"[]",
        (26).to_bytes(8, "little") + b'{"head": [], "arrays": []}',
        (60).to_bytes(8, "little") + b'{"head": {}, "arrays": [{"dtype": "|O", "shape": [1]}]}'.ljust(60),
        (60).to_bytes(8, "little") + b'{"head": {}, "arrays": [{"dtype": "<f4", "shape": [-1]}]}'.ljust(60),
        (64).to_bytes(8, "little") + b'{"head": {}, "arrays": [{"dtype": "<f4", "shape": [99999999999]}]}'.ljust(64),
        (60).to_bytes(8, "little") + b'{"head": {}, "arrays": [{"dtype": "<f4", "shape": [9]}]}'.ljust(60) + b"abc",
    ],
)
def test_nonsense_is_no_frame(content: bytes) -> None:
    with pytest.raises((ValueError, EOFError)):
        read_frame(io.BytesIO(content))


def test_frames_keep_arrays() -> None:
    arrays = [X, np.arange(6).reshape(2, 3)[:, ::-1], np.array(True), np.zeros((0, 4), np.float16)]
    file = io.BytesIO()
    write_frame(file, {"a": 1}, arrays)
    file.seek(0)
    frame = read_frame(file)
    assert frame.head == {"a": 1}
    for array, back in zip(arrays, frame.arrays, strict=True):
        assert back.dtype == array.dtype and np.array_equal(back, array) and back.shape == array.shape
    with pytest.raises(TypeError, match="not sent"):
        write_frame(io.BytesIO(), {}, [np.array(["text"])])


@pytest.mark.parametrize(
    "status,budget,words",
    [(None, "9 seconds by the clock", ""), (17, "1.0 GiB", ""), (3, "", "status 3"), (-99, "", "signal 99")],
)
def test_endings(status: int | None, budget: str, words: str) -> None:
    end = ending(status, 1 << 30, 7, 9.0)
    assert (budget in end.budget) and bool(end.budget) == bool(budget) and words in end.how


@posix
def test_a_proof_that_would_take_all_memory_is_an_error() -> None:
    """What the compiler proves against ONNX Runtime is run behind the same door."""
    layers = (
        Layer("x", Input(), (), (4,), Origin("x", "Input", "x")),
        Layer("y", Relu(), ("x",), (4,), Origin("add", "Add", "y")),
    )
    hostile = SourceModel("hostile", greedy(1 << 32), LayerGraph("hostile", layers, ("y",)), (), "", (None,))
    with pytest.raises(NmcError, match=r"6\.0 GiB of memory") as caught:
        prove_import(hostile, X, isolated=True)
    assert slug(caught.value) == "onnx-runtime-over-budget"


def test_a_compile_does_not_load_onnx_runtime(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, nmc\n"
        "x = np.random.default_rng(0).random((8, 4))\n"
        "done = nmc.compile(sys.argv[1], 'loihi2', coding='graded', calib=x)\n"
        "assert done.artifact is not None\n"
        "print(*[name for name in ('onnx', 'onnxruntime') if name in sys.modules])\n"
    )
    (tmp_path / "m.onnx").write_bytes(plain())
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m.onnx"], capture_output=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, b""), done.stderr.decode()
