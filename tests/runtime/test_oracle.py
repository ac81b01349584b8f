"""The oracle gives what the model computes, outputs and intermediates, whatever its batch axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.runtime import oracle as module
from nmc.runtime.oracle import OnnxOracle

RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=(6, 4)).astype(np.float32)
SECOND = RNG.normal(size=(3, 6)).astype(np.float32)


def model_bytes(batch: Any) -> bytes:
    """Gemm, Relu, Gemm; intermediates carry no value infos."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"], transB=1),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "w2"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(FIRST, "w1"), numpy_helper.from_array(SECOND, "w2")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def expected(x: Any) -> tuple[Any, Any, Any]:
    a = x.astype(np.float64) @ FIRST.T
    h = np.maximum(a, 0)
    return a, h, h @ SECOND.T


@pytest.mark.parametrize("batch", ["N", 1, 5])
@pytest.mark.parametrize("count", [1, 5, 7, 70])
def test_outputs_and_intermediates(batch: Any, count: int) -> None:
    x = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
    a, h, y = expected(x)
    oracle = OnnxOracle(model_bytes(batch))
    assert oracle.run(x).shape == (count, 3) and np.allclose(oracle.run(x), y, atol=1e-5)
    found = oracle.tensors(x, ["h", "a", "x", "y", "h"])
    assert list(found) == ["h", "a", "x", "y"]
    assert np.allclose(found["a"], a, atol=1e-5) and np.allclose(found["h"], h, atol=1e-5)
    assert np.array_equal(found["x"], x) and np.array_equal(found["y"], oracle.run(x))


def test_batches_do_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    x = RNG.normal(size=(50, 4))
    want = OnnxOracle(model_bytes("N")).tensors(x, ["h"])["h"]
    monkeypatch.setattr(module, "VALUES_MAX", 1)
    assert np.array_equal(OnnxOracle(model_bytes("N")).tensors(x, ["h"])["h"], want)


def test_unknown_tensors_are_named() -> None:
    oracle = OnnxOracle(model_bytes("N"))
    assert oracle.knows("h") and oracle.knows("x") and not oracle.knows("w1") and not oracle.knows("")
    with pytest.raises(NmcError, match="'z'") as caught:
        oracle.tensors(np.zeros((1, 4)), ["h", "z"])
    assert caught.value.exit_code is ExitCode.MODEL


@pytest.mark.parametrize("content", [b"", b"no model", model_bytes("N")[:-40]])
def test_broken_models_are_refused(content: bytes) -> None:
    with pytest.raises(NmcError) as caught:
        OnnxOracle(content)
    assert caught.value.exit_code is ExitCode.MODEL and caught.value.diagnostics[0].slug == "onnx-runtime-refused"
