"""The analog network in float64."""

import numpy as np

from nmc.ir.layers import AveragePool, Input, LayerGraph
from nmc.kernels.graph import execute_graph
from nmc.testing.builders import layer, residual_graph


def test_residual_graph_by_hand() -> None:
    graph = residual_graph()
    x = np.random.default_rng(0).normal(size=(3, 2, 6, 6))
    values = execute_graph(graph, x, [entry.name for entry in graph.layers])
    relu = np.maximum(values["second"] + values["stem_relu"], 0)
    np.testing.assert_array_equal(values["sum_relu"], relu)
    dense = graph.by_name["logits"].op
    flat = relu.reshape(3, -1) @ dense.connectivity.weight.T + dense.bias
    np.testing.assert_allclose(values["logits"], flat, rtol=1e-12)


def test_average_pool_counts_only_what_is_inside() -> None:
    pool = AveragePool((2, 2), (2, 2), (1, 1, 0, 0))
    graph = LayerGraph("g", (layer("x", Input(), (), (1, 3, 3)), layer("p", pool, ("x",), (1, 2, 2))), ("p",))
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(execute_graph(graph, x, ["p"])["p"][0, 0], [[0.0, 1.5], [4.5, 6.0]])


def test_average_pool_with_ceiling_mode_divides_by_the_cut_window() -> None:
    pool = AveragePool((2, 2), (2, 2))
    graph = LayerGraph("g", (layer("x", Input(), (), (1, 3, 3)), layer("p", pool, ("x",), (1, 2, 2))), ("p",))
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(execute_graph(graph, x, ["p"])["p"][0, 0], [[2.0, 3.5], [6.5, 8.0]])
