from __future__ import annotations

import numpy as np
import pytest

from nmc.passes.simplify.fold_batchnorm import FoldBatchnorm
from tests.passes.simplify.graphs import Builder, kinds, linear, new_context, simplified


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_into_the_convolution_before(groups: int) -> None:
    build = Builder((4, 5, 5))
    build.norm(build.conv("x", 8, groups=groups, pads=(1, 0, 0, 1)), name="norm")
    graph = simplified(build.graph(), FoldBatchnorm())
    assert kinds(graph) == ["Input", "Linear:Conv2d"]
    assert graph.by_name["norm"].origin.output == "norm:0"


def test_into_the_dense_layer_before() -> None:
    build = Builder((6,))
    build.norm(build.dense("x", 3), name="norm")
    graph = simplified(build.graph(), FoldBatchnorm())
    assert kinds(graph) == ["Input", "Linear:Dense"]
    assert linear(graph, "norm").bias.shape == (3,)


def test_twice_in_a_row() -> None:
    build = Builder((2, 4, 4))
    build.norm(build.norm(build.conv("x", 3)))
    assert kinds(simplified(build.graph(), FoldBatchnorm())) == ["Input", "Linear:Conv2d"]


def test_a_convolution_that_others_read_stays() -> None:
    build = Builder((2, 4, 4))
    conv = build.conv("x", 2, (1, 1), name="conv")
    build.sum(build.relu(conv), build.norm(conv, name="norm"))
    graph = simplified(build.graph(), FoldBatchnorm())
    assert kinds(graph) == ["Input", "Linear:Conv2d", "Relu", "Linear:Skip", "Add"]
    assert graph.by_name["norm"].inputs == ("conv",)


def test_behind_a_relu_it_is_one_to_one() -> None:
    build = Builder((3, 4, 4))
    build.norm(build.relu("x"), name="norm")
    graph = simplified(build.graph(), FoldBatchnorm())
    assert kinds(graph) == ["Input", "Relu", "Linear:Skip"]
    assert np.asarray(linear(graph, "norm").connectivity.weight).shape == (3,)


def test_without_normalisation_nothing_changes() -> None:
    build = Builder((3, 4, 4))
    build.conv("x", 2)
    graph = build.graph()
    assert FoldBatchnorm().run(graph, new_context()) is graph
