"""Memory of large layers, in bytes per byte of their weights in float32.

Python and NumPy are counted; ONNX Runtime and protobuf keep books of their own.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from nmc.compiler.calibration import assumed_samples
from nmc.compiler.frontends.onnx import SourceModel, read_model
from nmc.compiler.frontends.reply import Reply, read_reply, write_reply
from nmc.ir.connectivity import Array
from nmc.ir.layers import Input, Layer, LayerGraph, Linear
from nmc.ir.network import Network
from nmc.ir.origin import Origin
from nmc.ir.uniform import is_uniform
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.simplify import simplify_passes
from nmc.testing.builders import context_for
from tests.compiler.frontends.onnx_models import model_of, saved

INPUTS, HIDDEN = 1 << 12, 1 << 11
WEIGHTS = 4 * INPUTS * HIDDEN
"""Bytes of the large layer in float32."""


@pytest.fixture
def peak() -> Iterator[Callable[[], float]]:
    """Bytes that were held at the most since the test began, per byte of the weights."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] / WEIGHTS
    tracemalloc.stop()


def large_model(folder: Path, *, uniform: bool) -> Path:
    """Two dense layers; the weights of the first are stored, or made by ConstantOfShape."""
    rng = np.random.default_rng(0)
    stored: dict[str, Array] = {
        "small": rng.normal(size=(HIDDEN, 4)).astype(np.float32),
        "shape": np.array([HIDDEN, INPUTS]),
    }
    value = numpy_helper.from_array(np.array([0.02], np.float32))
    nodes = [
        helper.make_node("Gemm", ["x", "large"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "small"], ["y"]),
    ]
    if uniform:
        nodes.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["large"], value=value))
    else:
        stored["large"] = rng.normal(size=(HIDDEN, INPUTS)).astype(np.float32)
    return saved(model_of(nodes, stored, ["N", INPUTS]), folder)


def weights(model: SourceModel) -> Array:
    """Of the large layer."""
    found = [layer.op.connectivity.weight for layer in model.graph.layers if isinstance(layer.op, Linear)]
    return found[0]


def handed_over(model: SourceModel, folder: Path) -> SourceModel:
    """The model as the reading process hands it to its parent."""
    with (folder / "reply").open("w+b") as file:
        write_reply(Reply(model=model), file)
        answer = read_reply(file).model
    assert answer is not None
    return answer


def test_weights_of_one_value_take_no_memory(tmp_path: Path, peak: Callable[[], float]) -> None:
    model = handed_over(read_model(large_model(tmp_path, uniform=True)), tmp_path)
    assert is_uniform(weights(model)) and weights(model).shape == (HIDDEN, INPUTS)
    assert len(model.onnx) < WEIGHTS / 100
    assert peak() < 0.7  # one byte for each weight while ONNX Runtime's answer is looked at


def test_stored_weights_are_held_a_few_times(tmp_path: Path, peak: Callable[[], float]) -> None:
    path = large_model(tmp_path, uniform=False)
    tracemalloc.reset_peak()
    model = read_model(path)
    assert weights(model).dtype == np.float32
    assert peak() < 5
    tracemalloc.reset_peak()
    # What is held before, the file's weights twice, and once more as they are read.
    assert np.array_equal(weights(handed_over(model, tmp_path)), weights(model))
    assert peak() < 7


def test_large_networks_get_fewer_seeded_inputs() -> None:
    sides = (8, 64, 512, 4096)
    images = [Layer("x", Input(), (), (3, side, side), Origin("x", "Input", "x")) for side in sides]
    counts = [assumed_samples(LayerGraph("g", (image,), ("x",))) for image in images]
    assert counts == [64, 64, 64, 1]
    assert assumed_samples(LayerGraph("g", (images[2],) * 9, ("x",))) == 9


def test_graded_quantization_holds_the_weights_and_the_integers(tmp_path: Path, peak: Callable[[], float]) -> None:
    model = read_model(large_model(tmp_path, uniform=True))
    x = np.random.default_rng(1).random((2, INPUTS)).astype(np.float32)
    context = context_for(model.graph, x)
    graph = model.graph
    for step in simplify_passes():
        graph = step.run(graph, context)
    network = ConvertGraded().run(graph, context)
    tracemalloc.reset_peak()
    stored = QuantizeGraded().run(network, context)
    assert isinstance(stored, Network) and stored.is_integer
    # In float64 what reads the input, twice, the integers once, and blocks.
    assert peak() < 5
