from __future__ import annotations

import pytest

from nmc.ir.layers import Relu
from nmc.passes.simplify import simplify_passes
from nmc.passes.simplify.legalise_activation import LegaliseActivation
from tests.passes.simplify.graphs import Builder, kinds, simplified

BOUNDS = [(0.0, 0.5), (-0.4, 0.7), (0.2, 0.9), (None, 0.5), (-0.5, None), (0.0, None), (None, None), (-2.0, -0.5)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("positive", [False, True])
def test_clip(low: float | None, high: float | None, positive: bool) -> None:
    build = Builder((3, 4, 5))
    build.clip(build.relu("x") if positive else "x", low, high)
    graph = simplified(build.graph(), LegaliseActivation())
    assert "Clip" not in kinds(graph)


@pytest.mark.parametrize("slopes", [(), (0.1, 0.2, -1.0), (0.0, 0.0, 0.0), (2.0, 1.0, 0.0)])
@pytest.mark.parametrize("positive", [False, True])
def test_leaky(slopes: tuple[float, ...], positive: bool) -> None:
    build = Builder((3, 4, 5))
    build.leaky(build.relu("x") if positive else "x", *slopes)
    graph = simplified(build.graph(), LegaliseActivation())
    assert "LeakyRelu" not in kinds(graph)


def test_two_populations_that_the_readers_add_up() -> None:
    build = Builder((2, 6, 6))
    six = build.clip(build.conv("x", 3), 0.0, 6.0, name="relu6")
    build.conv(six, 4, name="next")
    graph = simplified(build.graph(), *simplify_passes())
    populations = [layer.name for layer in graph.layers if isinstance(layer.op, Relu)]
    assert populations == ["relu6/positive", "relu6/excess"]
    assert len(graph.by_name["next"].inputs) == 2
    assert all(graph.by_name[name].origin.output == "" for name in populations)


def test_a_bound_that_nothing_passes_takes_no_neurons() -> None:
    build = Builder((2, 6, 6))
    build.conv(build.clip(build.relu("x"), -1.0, None), 4)
    graph = simplified(build.graph(), *simplify_passes())
    assert sum(isinstance(layer.op, Relu) for layer in graph.layers) == 1
