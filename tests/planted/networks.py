"""The small networks that bugs are planted into, and how each is compiled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from nmc.backends.api import Options
from nmc.ir.neurons import Reset
from tests.compiler.frontends.onnx_models import floats, model_of

SAMPLES = 24
"""Calibration samples."""

SMALL_CORES = """
[target]
name = "small-cores"
family = "loihi"
extends = "loihi2"
description = "cores so small that every layer is cut"
[core]
neurons = 40
[sources]
"core.neurons" = "assumed: a test"
"""


@dataclass(frozen=True)
class Case:
    """A network and how it is compiled.

    Attributes:
        network: one of `MODELS`.
        options: of the compile; everything else is left at its default.
        target: a chip, or ``small-cores``.
        low: smallest input; the largest is 1.
    """

    network: str
    options: Options
    target: str = "loihi2"
    low: float = 0.0

    def inputs(self, seed: int = 0, samples: int = SAMPLES) -> NDArray[np.float32]:
        """(samples, ...) smooth noise between ``low`` and 1."""
        shape = [d.dim_value for d in MODELS[self.network].graph.input[0].type.tensor_type.shape.dim[1:]]
        x = np.random.default_rng(seed).random((samples, *shape))
        x = (x + np.roll(x, 1, axis=-1)) / 2
        return (self.low + (1 - self.low) * x).astype(np.float32)


def _weights(*shape: int, seed: int) -> NDArray[np.float32]:
    """Of the size that training leaves."""
    return (floats(*shape, seed=seed) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def _exported() -> onnx.ModelProto:
    """Uneven pads and strides, batch norm, a pooling with borders, groups, a clip and a scaled Gemm."""
    nodes = [
        helper.make_node("Pad", ["x", "around"], ["padded"]),
        helper.make_node("Conv", ["padded", "w1", "b1"], ["c1"], pads=[1, 0, 1, 2], strides=[2, 1]),
        helper.make_node("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"], epsilon=0.05),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("AveragePool", ["r1"], ["p1"], kernel_shape=[2, 2], pads=[0, 1, 0, 1]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], group=2, dilations=[1, 2]),
        helper.make_node("Clip", ["c2", "low", "high"], ["k2"]),
        helper.make_node("Flatten", ["k2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], alpha=0.5, beta=2.0),
    ]
    stored = {
        "around": np.array([0, 0, 1, 0, 0, 0, 0, 1], dtype=np.int64),
        "w1": _weights(4, 2, 3, 3, seed=1),
        "b1": 0.3 * floats(4, seed=2),
        "gamma": np.array([1.4, 0.8, 1.1, 0.6], dtype=np.float32),
        "beta": np.array([0.2, -0.1, 0.3, 0.1], dtype=np.float32),
        "mean": np.array([0.2, -0.3, 0.1, 0.4], dtype=np.float32),
        "var": np.array([0.5, 0.3, 1.5, 0.8], dtype=np.float32),
        "w2": _weights(6, 2, 2, 2, seed=3),
        "b2": 0.2 * floats(6, seed=4),
        "low": np.array(-0.2, dtype=np.float32),
        "high": np.array(0.7, dtype=np.float32),
        "w3": _weights(5, 72, seed=5).T.copy(),
        "b3": 0.2 * floats(5, seed=6),
    }
    return model_of(nodes, stored, ["N", 2, 6, 6])


def _residual() -> onnx.ModelProto:
    """A residual block whose shortcut is scaled, a global pooling and a softmax."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[2, 1, 0, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=2),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["r1", "scale"], ["s1"]),
        helper.make_node("Add", ["c3", "s1"], ["a"]),
        helper.make_node("Relu", ["a"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["z"], transB=1),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    stored = {
        "w1": _weights(6, 3, 3, 3, seed=11),
        "b1": 0.3 * floats(6, seed=12),
        "w2": _weights(6, 3, 3, 3, seed=13),
        "b2": 0.2 * floats(6, seed=14),
        "w3": _weights(6, 6, 3, 3, seed=15),
        "b3": 0.2 * floats(6, seed=16),
        "scale": np.array([0.5, 0.9, 1.3, 0.7, 1.6, 0.4], dtype=np.float32).reshape(6, 1, 1),
        "w4": _weights(4, 6, seed=17),
        "b4": 0.3 * floats(4, seed=18),
    }
    return model_of(nodes, stored, ["N", 3, 5, 5])


def _layout() -> onnx.ModelProto:
    """Channels last on one branch, a join, a maximum pooling, a slice, a leaky ReLU and constant arithmetic."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["t", "w2"], ["m"]),
        helper.make_node("Transpose", ["m"], ["u"], perm=[0, 3, 1, 2]),
        helper.make_node("Relu", ["u"], ["r2"]),
        helper.make_node("Concat", ["r1", "r2"], ["j"], axis=1),
        helper.make_node("Conv", ["j", "w3", "b3"], ["c3"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["c3"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("LeakyRelu", ["p"], ["l"], alpha=0.2),
        helper.make_node("Slice", ["l", "starts", "ends", "axes"], ["s"]),
        helper.make_node("Sub", ["s", "less"], ["d"]),
        helper.make_node("Div", ["d", "by"], ["q"]),
        helper.make_node("Transpose", ["q"], ["v"], perm=[0, 3, 1, 2]),
        helper.make_node("Flatten", ["v"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
    ]
    stored = {
        "w1": _weights(4, 4, 1, 1, seed=21),
        "b1": 0.2 * floats(4, seed=22),
        "w2": _weights(4, 4, seed=23),
        "w3": _weights(6, 8, 3, 3, seed=24),
        "b3": 0.2 * floats(6, seed=25),
        "starts": np.array([1], dtype=np.int64),
        "ends": np.array([5], dtype=np.int64),
        "axes": np.array([1], dtype=np.int64),
        "less": np.array([0.2, -0.1, 0.3, 0.1], dtype=np.float32).reshape(4, 1, 1),
        "by": np.array([0.5, 2.0, 1.5, 0.8], dtype=np.float32).reshape(4, 1, 1),
        "w4": _weights(5, 16, seed=26),
        "b4": 0.2 * floats(5, seed=27),
    }
    return model_of(nodes, stored, ["N", 4, 4, 4])


MODELS = {"exported": _exported(), "residual": _residual(), "layout": _layout()}

_FEW = Options(timesteps=16)

CASES = {
    "exported": Case("exported", _FEW),
    "residual": Case("residual", _FEW),
    "layout": Case("layout", _FEW),
    "signed-input": Case("exported", _FEW, low=-1.0),
    "zero": Case("residual", Options(timesteps=32, reset=Reset.ZERO), "loihi1", low=-1.0),
    "waiting": Case("residual", Options(timesteps=16, wait="1")),
    "burst": Case("residual", Options(timesteps=8, coding="burst")),
    "graded": Case("residual", Options(coding="graded")),
    "sigma-delta": Case("residual", Options(timesteps=8, coding="sigma-delta")),
    "fast": Case("residual", Options(timesteps=16, effort="fast")),
    "fast-burst": Case("residual", Options(timesteps=8, coding="burst", effort="fast")),
    "tiny-bias": Case("residual", Options(timesteps=16, weight_bits=4), "loihi1"),
    "many-cores": Case("residual", _FEW, "small-cores"),
}


def stored_model(case: Case, folder: Path) -> Path:
    """The case's ONNX file."""
    path = folder / f"{case.network}.onnx"
    if not path.exists():
        path.write_bytes(MODELS[case.network].SerializeToString())
    return path


def target_of(case: Case, folder: Path) -> str:
    """A chip's name, or the path of its file."""
    if case.target != "small-cores":
        return case.target
    path = folder / "small-cores.toml"
    path.write_text(SMALL_CORES, encoding="utf-8")
    return str(path)
