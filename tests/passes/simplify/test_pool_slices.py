from __future__ import annotations

import pytest

from nmc.ir.layers import AveragePool, MaxPool, Reshape
from nmc.passes.simplify import simplify_passes
from nmc.passes.simplify.pool_slices import PoolSlices
from tests.passes.simplify.graphs import Builder, kinds, simplified

WINDOWS = [((2, 1), (2, 1), (0, 0, 0, 0), 3), ((3, 1), (2, 1), (1, 0, 1, 0), 3), ((3, 1), (1, 1), (0, 0, 1, 0), 5)]


@pytest.mark.parametrize(("kernel", "stride", "pads", "count"), WINDOWS)
@pytest.mark.parametrize("kind", ["max", "mean", "padded mean"])
def test_depth_is_pooled_among_the_channels(kind, kernel, stride, pads, count) -> None:  # type: ignore[no-untyped-def]
    build = Builder((2, 5, 4))
    source = build.conv("x", 2 * 6, name="volume")
    volume = build.add("whole", Reshape(), [source], (2, 6, 3, 2))
    seen = build.add("seen", Reshape(), [volume], (2, 6, 6))
    op = MaxPool(kernel, stride, pads) if kind == "max" else AveragePool(kernel, stride, pads, kind != "mean")
    pooled = build.add("pool", op, [seen], (2, count, 6))
    back = build.add("back", Reshape(), [pooled], (2 * count, 3, 2))
    build.conv(back, 4, (2, 2), name="after")
    graph = simplified(build.graph(), PoolSlices())
    assert not {"MaxPool", "AveragePool"} & set(kinds(graph))
    whole = simplified(build.graph(), *simplify_passes())
    assert "Linear:Sparse" not in kinds(whole)


def test_other_poolings_stay() -> None:
    build = Builder((4, 6, 6))
    build.pool(build.largest("x", (2, 1), (2, 1)), (2, 2), (2, 2))
    graph = build.graph()
    assert simplified(graph, PoolSlices()) is graph
