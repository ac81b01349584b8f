"""Small models that once failed, and what became of each: all are judged again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.oracle import Values

Make = Callable[[], onnx.ModelProto]


def _model(
    nodes: list[onnx.NodeProto], stored: dict[str, Values], shape: tuple[int, ...], *, opset: int = 17, ir: int = 8
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "find",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def _floats(*shape: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def upsample_in_between() -> onnx.ModelProto:
    """The converter of the ONNX project forgets that Upsample reads ``i / scale``."""
    stored = {"w": _floats(3, 2, 2, 2), "s": np.array([1, 1, 2, 2], np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Upsample", ["b", "s"], ["y"], mode="linear"),
    ]
    return _model(nodes, stored, (2, 5, 4), opset=9, ir=4)


def smaller_nearest() -> onnx.ModelProto:
    """Resize of opset 10 takes the pixel above where it makes an image smaller."""
    stored = {"w": _floats(2, 2, 1, 1), "s": np.array([1, 1, 0.4, 0.7], np.float32)}
    nodes = [
        helper.make_node("Resize", ["x", "s"], ["a"], mode="nearest"),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    return _model(nodes, stored, (2, 6, 7), opset=10, ir=5)


def dead_branch_with_bias() -> onnx.ModelProto:
    """A bias was held in the finest unit of a branch without weights, and passed 2^31."""
    weight = _floats(4, 6, seed=1)
    stored = {
        "w": _floats(3, 6), "none": np.zeros((3, 4), np.float32), "c": np.array([30, -20, 0.5, 9], np.float32),
        "u": weight.T.copy(), "v": _floats(3, 4, seed=2),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("Relu", ["a"], ["p"]),
        helper.make_node("MatMul", ["x", "u"], ["q"]),
        helper.make_node("Relu", ["q"], ["r"]),
        helper.make_node("MatMul", ["p", "none"], ["s"]),
        helper.make_node("Add", ["s", "r"], ["t"]),
        helper.make_node("Add", ["t", "c"], ["y"]),
    ]
    return _model(nodes, stored, (6,))


def only_zeros_left() -> onnx.ModelProto:
    """What is left of a pad is a layer without synapses: its bias was rounded to 2^7 units."""
    stored = {
        "w": _floats(2, 1, 3, 3), "pads": np.array([0, 0, 0, 4, 0, 0, 0, 0]), "from": np.array([0]),
        "to": np.array([2]), "axis": np.array([3]), "v": _floats(3, 2, 1, 1, seed=3), "c": _floats(3, seed=4),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Pad", ["a", "pads"], ["b"]),
        helper.make_node("Slice", ["b", "from", "to", "axis"], ["d"]),
        helper.make_node("Conv", ["d", "v", "c"], ["e"]),
        helper.make_node("Relu", ["e"], ["y"]),
    ]
    return _model(nodes, stored, (1, 6, 6))


def halves_of_a_clip() -> onnx.ModelProto:
    """The halves of an activation have no tensor: the bound of their readers took them for zeros."""
    stored = {"w": _floats(20, 5), "v": _floats(5, 2, seed=5)}
    nodes = [
        helper.make_node("Clip", ["x"], ["a"], min=-1.0, max=1.0),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "v"], ["y"]),
    ]
    return _model(nodes, stored, (20,), opset=9, ir=4)


FINDS: dict[str, Make] = {
    make.__name__.replace("_", " "): make
    for make in (upsample_in_between, smaller_nearest, dead_branch_with_bias, only_zeros_left, halves_of_a_clip)
}
"""By name; models found later lie beside this file, as ``finds/NAME.onnx``."""
