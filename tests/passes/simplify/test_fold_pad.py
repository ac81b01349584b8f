from __future__ import annotations

from nmc.ir.connectivity import Conv2d
from nmc.ir.layers import AveragePool
from nmc.passes.simplify.fold_pad import FoldPad
from tests.passes.simplify.graphs import Builder, kinds, linear, new_context, simplified


def test_into_a_convolution() -> None:
    build = Builder((2, 5, 5))
    build.conv(build.pad("x", (0, 1, 2), (0, 3, 0)), 3, pads=(1, 0, 0, 1), stride=(2, 1), name="conv")
    graph = simplified(build.graph(), FoldPad())
    assert kinds(graph) == ["Input", "Linear:Conv2d"]
    conv = linear(graph, "conv").connectivity
    assert isinstance(conv, Conv2d) and conv.pads == (2, 2, 3, 1)


def test_into_a_pooling_that_then_counts_the_zeros() -> None:
    build = Builder((2, 5, 5))
    build.pool(build.pad("x", (0, 1, 1), (0, 1, 1)), (3, 3), (2, 2), name="pool")
    graph = simplified(build.graph(), FoldPad())
    assert graph.by_name["pool"].op == AveragePool((3, 3), (2, 2), (1, 1, 1, 1), True)


def test_into_a_pooling_with_ceiling_mode() -> None:
    build = Builder((1, 6, 6))
    build.pool(build.pad("x", (0, 1, 0), (0, 1, 0)), (3, 3), (2, 2), ceil=True)
    assert kinds(simplified(build.graph(), FoldPad())) == ["Input", "AveragePool"]


def test_not_into_a_pooling_that_skips_its_own_pads() -> None:
    build = Builder((1, 6, 6))
    build.pool(build.pad("x", (0, 1, 0), (0, 1, 0)), (3, 3), (2, 2), (1, 1, 1, 1))
    graph = build.graph()
    assert FoldPad().run(graph, new_context()) is graph


def test_not_where_channels_are_padded_or_cropped() -> None:
    build = Builder((2, 5, 5))
    build.conv(build.pad("x", (0, -1, 0), (1, 0, 0)), 3)
    graph = build.graph()
    assert FoldPad().run(graph, new_context()) is graph


def test_a_pad_that_others_read_stays_for_them() -> None:
    build = Builder((2, 5, 5))
    pad = build.pad("x", (0, 1, 1), (0, 1, 1))
    build.sum(build.conv(pad, 2, pads=(1, 1, 1, 1)), pad)
    graph = simplified(build.graph(), FoldPad())
    assert sorted(kinds(graph)) == ["Add", "Input", "Linear:Conv2d", "Pad"]
