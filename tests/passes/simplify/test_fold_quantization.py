from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.layers import Clip, Dequantize, Identity, LayerGraph, Quantize, Reshape, Softmax
from nmc.ir.verify import verify_program
from nmc.kernels.graph import execute_graph
from nmc.passes.simplify import simplify_passes
from nmc.passes.simplify.fold_quantization import FoldQuantization
from nmc.testing.builders import context_for
from tests.passes.simplify.graphs import Builder, kinds

STEP = (0.05, -3)


def _quantized(build: Builder, source: str, name: str, step: tuple[float, int] = STEP) -> str:
    return build.add(name, Quantize(*step, -128, 127), [source], build.shape(source))


def _real(build: Builder, source: str, name: str, step: tuple[float, int] = STEP) -> str:
    return build.add(name, Dequantize(*step), [source], build.shape(source))


def _folded(graph: LayerGraph, x: np.ndarray) -> LayerGraph:
    after = FoldQuantization().run(graph, context_for(graph, x))
    assert isinstance(after, LayerGraph)
    verify_program(after)
    assert not {"Quantize", "Dequantize"} & set(kinds(after))
    return after


@pytest.mark.parametrize("size", [1.0, 10.0])
def test_a_clip_to_the_range_half_a_step_away(size: float) -> None:
    build = Builder((3, 4, 4))
    conv = build.conv("x", 4)
    moved = build.add("moved", Reshape(), [_quantized(build, conv, "q")], (16,))
    build.dense(_real(build, moved, "real"), 5)
    graph = build.graph()
    x = size * np.random.default_rng(0).normal(size=(8, 3, 4, 4)).astype(np.float32)
    after = _folded(graph, x)
    assert after.by_name["q"].op == Clip(-125 * 0.05, 130 * 0.05)
    assert isinstance(after.by_name["real"].op, Identity)
    old, new = (execute_graph(g, x, ["real"])["real"] for g in (graph, after))
    assert float(np.abs(old - new).max()) <= 0.025 + 1e-9
    assert after.by_name["q"].origin.output == after.by_name["moved"].origin.output == ""
    whole: LayerGraph = after
    for step in simplify_passes():
        program = step.run(whole, context_for(whole, x))
        assert isinstance(program, LayerGraph)
        whole = program
    wanted, found = execute_graph(after, x, [after.output]), execute_graph(whole, x, [whole.output])
    assert np.allclose(wanted[after.output], found[whole.output])


def test_readers_that_take_other_steps_or_the_integers() -> None:
    build = Builder((3,))
    whole = _quantized(build, build.dense("x", 4), "q")
    other = _real(build, whole, "other", (0.1, 2))
    build.sum(other, build.dense(whole, 4))
    graph = build.graph()
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    after = _folded(graph, x)
    old, new = (execute_graph(g, x, [g.output])[g.output] for g in (graph, after))
    weights = np.abs(np.asarray(graph.layers[-2].op.connectivity.weight)).sum(axis=1)  # type: ignore[union-attr]
    assert np.all(np.abs(old - new) <= 0.05 + 0.5 * weights + 1e-9)


@pytest.mark.parametrize(("size", "kind"), [(1.0, Identity), (100.0, Clip)])
def test_an_input_inside_the_range_is_not_clipped(size: float, kind: type) -> None:
    build = Builder((3,))
    build.dense(_real(build, _quantized(build, "x", "q"), "real"), 4)
    x = size * np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    assert isinstance(_folded(build.graph(), x).by_name["q"].op, kind)


def test_what_follows_the_head_is_left_out() -> None:
    build = Builder((3,))
    head = build.add("head", Softmax(0), [build.dense("x", 4)], (4,))
    _real(build, _quantized(build, head, "q", (1 / 256, -128)), "real", (1 / 256, -128))
    graph = build.graph()
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    after = _folded(graph, x)
    old, new = (execute_graph(g, x, [g.output])[g.output] for g in (graph, after))
    assert float(np.abs(old - new).max()) <= 1 / 256
