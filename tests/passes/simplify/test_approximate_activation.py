from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.layers import FUNCTIONS, Activation, LayerGraph, Relu
from nmc.ir.verify import verify_program
from nmc.kernels.functions import asymptotes, function_values
from nmc.kernels.graph import execute_graph
from nmc.passes.simplify import simplify_passes
from nmc.passes.simplify.approximate_activation import ApproximateActivation
from nmc.passes.simplify.polyline import fit_polyline
from nmc.testing.builders import context_for
from tests.passes.simplify.graphs import Builder, kinds

PARAMETERS = {"selu": (1.67326, 1.0507), "celu": (0.7, 1.0), "elu": (1.3, 1.0), "swish": (1.5, 1.0)}
RANGES = [(-10.0, 12.0), (-1.0, 0.7), (0.0, 5.0), (-40.0, 0.0)]


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "thresholded-relu"])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_polylines_are_as_near_as_they_say(function: str, low: float, high: float) -> None:
    alpha, gamma = PARAMETERS.get(function, (1.0, 1.0))
    lines = asymptotes(function, alpha, gamma)
    coarse, fine = (
        fit_polyline(lambda x: function_values(function, x, alpha, gamma), low, high, lines, error, 30)
        for error in (0.05, 0.02)
    )
    x = np.random.default_rng(0).uniform(low, high, 4000)
    for line, error in ((coarse, 0.05), (fine, 0.02)):
        found = float(np.abs(line.at(x) - function_values(function, x, alpha, gamma)).max())
        assert found <= line.error + 1e-4 and line.error <= error
        assert len(line.hinges) <= 20
        assert all(side * corner >= 0 for corner, side, _ in line.hinges)
    assert len(coarse.hinges) <= len(fine.hinges)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_asymptotes(function: str) -> None:
    alpha, gamma = PARAMETERS.get(function, (1.0, 1.0))
    for x, (slope, value) in zip((-1e4, 1e4), asymptotes(function, alpha, gamma), strict=True):
        assert function_values(function, np.array([x]), alpha, gamma)[0] == pytest.approx(slope * x + value, abs=2e-4)


def test_what_saturates_stays_so_beyond_the_range() -> None:
    line = fit_polyline(np.tanh, -6.0, 6.0, asymptotes("tanh"), 0.02, 16)
    assert np.abs(np.abs(line.at(np.array([-900.0, 900.0]))) - 1).max() < 1e-6


def test_fewer_relus_where_the_most_is_reached() -> None:
    line = fit_polyline(np.tanh, -6.0, 6.0, asymptotes("tanh"), 1e-4, 6)
    assert len(line.hinges) <= 8 and 1e-4 < line.error < 0.1


def _activated(function: str, *, behind: bool = True) -> LayerGraph:
    build = Builder((3, 5, 5))
    before = build.conv("x", 4, pads=(1, 1, 1, 1))
    smooth = build.add("smooth", Activation(function), [before], (4, 5, 5))
    if behind:
        build.conv(smooth, 6, pads=(1, 1, 1, 1), name="after")
    return build.graph()


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "gelu", "elu"])
@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_near_values_from_relus_alone(function: str, relay: bool, behind: bool) -> None:
    graph = _activated(function, behind=behind)
    x = np.random.default_rng(3).normal(size=(16, 3, 5, 5)).astype(np.float32)
    context = context_for(graph, x)
    near = ApproximateActivation(error=0.01, relay=relay).run(graph, context)
    assert isinstance(near, LayerGraph) and "Activation" not in kinds(near)
    verify_program(near)
    (warning,) = context.diagnostics.items
    assert warning.slug == "activation-approximated" and warning.severity == "warning"
    assert warning.origin is not None and warning.origin.node == "smooth"
    exact, found = (execute_graph(g, x, ["smooth"])["smooth"] for g in (graph, near))
    assert 0 < float(np.abs(exact - found).max()) <= 0.011 * float(np.std(exact)) + 1e-6
    # The passes behind keep those values.
    whole: LayerGraph = near
    for step in simplify_passes():
        after = step.run(whole, context)
        assert isinstance(after, LayerGraph)
        whole = after
    assert set(kinds(whole)) <= {"Input", "Relu", "Add", "Linear:Conv2d", "Linear:Skip", "Linear:Sparse"}
    wanted, got = execute_graph(near, x, [near.output])[near.output], execute_graph(whole, x, [whole.output])
    assert np.allclose(got[whole.output], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("alpha", [-0.7, 0.4, 90.0])
@pytest.mark.parametrize("relay", [False, True])
def test_a_jump_becomes_a_ramp_and_the_rest_is_exact(alpha: float, relay: bool) -> None:
    graph = _activated("thresholded-relu")
    layers = tuple(
        replace(la, op=replace(la.op, alpha=alpha)) if isinstance(la.op, Activation) else la for la in graph.layers
    )
    graph = replace(graph, layers=layers)
    x = np.random.default_rng(3).normal(size=(16, 3, 5, 5)).astype(np.float32)
    context = context_for(graph, x)
    near = ApproximateActivation(relay=relay).run(graph, context)
    assert isinstance(near, LayerGraph) and "Activation" not in kinds(near)
    verify_program(near)
    assert f"jumps at {alpha:.4g}" in context.diagnostics.items[0].message
    source = graph.by_name["smooth"].inputs[0]
    read = execute_graph(graph, x, [source])[source]
    exact, found = (execute_graph(g, x, ["smooth"])["smooth"] for g in (graph, near))
    width = max(read.max() - alpha, 0) / 128 or alpha / 128
    ramp = (read > alpha) & (read < alpha + 2 * width)
    assert np.abs(exact - found)[~ramp].max() <= 1e-9
    assert np.abs(exact - found).max() <= abs(alpha) + 2 * width


def test_with_a_relay_the_weights_are_read_three_times() -> None:
    graph = _activated("sigmoid")
    x = np.random.default_rng(3).normal(size=(4, 3, 5, 5)).astype(np.float32)
    program: LayerGraph = graph
    context = context_for(graph, x)
    for step in simplify_passes():
        after = step.run(program, context)
        assert isinstance(after, LayerGraph)
        program = after
    assert kinds(program).count("Linear:Conv2d") == 3
    assert sum(isinstance(layer.op, Relu) for layer in program.layers) >= 8


def test_a_graph_without_smooth_activations_stays() -> None:
    build = Builder((2, 4, 4))
    build.relu(build.conv("x", 3))
    graph = build.graph()
    assert ApproximateActivation().run(graph, context_for(graph, np.zeros((1, 2, 4, 4), np.float32))) is graph
