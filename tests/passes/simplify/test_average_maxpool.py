from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.layers import LayerGraph
from nmc.ir.verify import verify_program
from nmc.kernels.graph import execute_graph
from nmc.passes.simplify.average_maxpool import AverageMaxpool
from nmc.passes.simplify.refuse_approximation import RefuseApproximation
from tests.passes.simplify.graphs import Builder, kinds, new_context

WINDOWS = [
    {"kernel": (2, 2), "stride": (2, 2)},
    {"kernel": (3, 2), "stride": (2, 1), "pads": (1, 0, 1, 1), "ceil": True},
    {"kernel": (2, 3), "stride": (1, 2), "dilation": (2, 2)},
]


@pytest.mark.parametrize("window", WINDOWS)
def test_means_over_the_same_windows(window: dict) -> None:  # type: ignore[type-arg]
    build = Builder((2, 7, 8))
    build.largest("x", **window, name="pool")
    graph, context = build.graph(), new_context()
    after = AverageMaxpool().run(graph, context)
    assert isinstance(after, LayerGraph) and "MaxPool" not in kinds(after)
    verify_program(after)
    (warning,) = context.diagnostics.items
    assert (warning.slug, warning.severity) == ("maxpool-averaged", "warning")
    assert warning.origin is not None and warning.origin.node == "pool"
    # The mean of x over a window: between its least and its largest, and linear in x.
    x = np.random.default_rng(0).normal(size=(3, 2, 7, 8))
    largest, mean = (execute_graph(g, x, ["pool"])["pool"] for g in (graph, after))
    least = -execute_graph(graph, -x, ["pool"])["pool"]
    assert np.all(mean <= largest + 1e-12) and np.all(mean >= least - 1e-12)
    assert np.allclose(execute_graph(after, np.ones((1, 2, 7, 8)), ["pool"])["pool"], 1.0)
    doubled = execute_graph(after, 2 * x, ["pool"])["pool"]
    assert np.allclose(doubled, 2 * mean)


def test_strict_refuses_all_of_them_at_once() -> None:
    build = Builder((2, 8, 8))
    first = build.largest("x", (2, 2), (2, 2), name="first")
    build.largest(first, (2, 2), (2, 2), name="second")
    graph = build.graph()
    context = new_context()
    assert RefuseApproximation().run(graph, context) is graph and not context.diagnostics.items
    RefuseApproximation("average").run(graph, context)
    assert [d.origin.node for d in context.diagnostics.errors if d.origin] == ["first", "second"]
    assert {d.slug for d in context.diagnostics.errors} == {"approximation-refused"}
