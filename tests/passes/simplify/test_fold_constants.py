from __future__ import annotations

import numpy as np

from nmc.ir.layers import Constant, Pad
from nmc.passes.simplify.fold_constants import FoldConstants
from tests.passes.simplify.graphs import Builder, kinds, linear, new_context, simplified


def test_a_graph_without_constants_is_the_same_object() -> None:
    build = Builder((2, 4, 4))
    build.conv("x", 3)
    graph = build.graph()
    assert FoldConstants().run(graph, new_context()) is graph


def test_joining_zeros_is_padding() -> None:
    build = Builder((2, 4, 4))
    zeros = build.constant(np.zeros((3, 4, 4)))
    build.concat(0, zeros, "x", zeros, name="join")
    graph = simplified(build.graph(), FoldConstants())
    assert kinds(graph) == ["Input", "Pad"]
    assert graph.by_name["join"].op == Pad((3, 0, 0), (3, 0, 0))


def test_joining_other_constants_is_padding_and_a_bias() -> None:
    build = Builder((2, 2, 2))
    build.concat(0, "x", build.constant(np.full((1, 2, 2), 5.0)), name="join")
    graph = simplified(build.graph(), FoldConstants())
    assert kinds(graph) == ["Input", "Pad", "Linear:Skip"]
    assert linear(graph, "join").bias.tolist() == [0.0, 0.0, 5.0]


def test_adding_a_constant_is_a_bias() -> None:
    build = Builder((2, 2, 2))
    value = np.arange(8.0).reshape(2, 2, 2)
    build.sum("x", build.constant(value), name="add")
    graph = simplified(build.graph(), FoldConstants())
    assert kinds(graph) == ["Input", "Linear:Skip"]
    assert np.array_equal(linear(graph, "add").bias, value)


def test_adding_two_values_and_a_constant() -> None:
    build = Builder((2, 2, 2))
    build.sum("x", build.relu("x"), build.constant(np.ones((2, 2, 2))), name="add")
    graph = simplified(build.graph(), FoldConstants())
    assert kinds(graph) == ["Input", "Relu", "Add", "Linear:Skip"]
    assert linear(graph, "add").bias.shape == (2,)


def test_layers_of_constants_are_computed() -> None:
    build = Builder((4,))
    negative = build.relu(build.constant(np.array([-1.0, 2.0])), name="positive")
    build.concat(0, "x", build.reshape(negative, 2), name="join")
    graph = simplified(build.graph(), FoldConstants())
    assert not any(isinstance(layer.op, Constant) for layer in graph.layers)
    assert linear(graph, "join").bias.tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 2.0]
