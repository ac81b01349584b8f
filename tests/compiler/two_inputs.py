"""A network with two inputs, an image and a vector, and data for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SHAPES = {"image": (2, 6, 6), "facts": (5,)}
"""Of one sample, by input."""


def two_inputs(*, unused: bool = False, batch: int | str = "N") -> onnx.ModelProto:
    """Convolution of an image and a dense layer of a vector, joined for three outputs.

    Args:
        unused: there is an input ``mask`` too, which changes no output.
        batch: axis 0 of the inputs.
    """
    generator = np.random.default_rng(5)

    def values(*shape: int) -> NDArray[np.float32]:
        return (generator.normal(size=shape) * 0.3).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["seen"], name="see"),
        helper.make_node("Flatten", ["seen"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["facts", "w2", "b2"], ["g"], name="fc", transB=1),
        helper.make_node("Relu", ["g"], ["known"], name="know"),
        helper.make_node("Concat", ["flat", "known"], ["both"], name="join", axis=1),
        helper.make_node("Gemm", ["both", "w3", "b3"], ["y"], name="decide"),
    ]
    stored = {
        "w1": values(4, 2, 3, 3),
        "b1": values(4),
        "w2": values(6, 5),
        "b2": values(6),
        "w3": values(42, 3),
        "b3": values(3),
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]) for name, shape in SHAPES.items()]
    if unused:
        nodes.append(helper.make_node("Relu", ["mask"], ["nothing"], name="idle"))
        inputs.insert(1, helper.make_tensor_value_info("mask", TensorProto.FLOAT, [batch, 7]))
    graph = helper.make_graph(
        nodes,
        "two",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def two_arrays(samples: int = 24, seed: int = 0) -> dict[str, Any]:
    """Samples of both inputs, of different ranges: one of them negative, too."""
    generator = np.random.default_rng(seed)
    return {
        "image": generator.normal(size=(samples, *SHAPES["image"])).astype(np.float32),
        "facts": (9 * generator.random((samples, *SHAPES["facts"]))).astype(np.float32),
    }


def saved_two(folder: Path, **options: Any) -> Path:
    """The model as a file."""
    path = folder / "two.onnx"
    path.write_bytes(two_inputs(**options).SerializeToString())
    return path
