from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d
from nmc.passes.simplify.fuse_linear import FuseLinear
from nmc.passes.simplify.legalise_shortcut import LegaliseShortcut
from tests.passes.simplify.graphs import Builder, kinds, linear, simplified


def test_option_a_becomes_one_1x1_convolution() -> None:
    build = Builder((3, 8, 8))
    relu = build.relu(build.conv("x", 4, pads=(1, 1, 1, 1)), name="relu")
    cut = build.slice(relu, (0, 4, 1), (0, 8, 2), (0, 8, 1))
    cut = build.slice(cut, (0, 4, 1), (0, 4, 1), (0, 8, 2))
    shortcut = build.pad(cut, (2, 0, 0), (2, 0, 0), name="shortcut")
    branch = build.conv(relu, 8, stride=(2, 2), pads=(1, 1, 1, 1), name="branch")
    build.sum(branch, shortcut, name="add")
    graph = simplified(build.graph(), LegaliseShortcut(), FuseLinear())
    conv = linear(graph, "shortcut").connectivity
    assert isinstance(conv, Conv2d)
    assert conv.weight.shape == (8, 4, 1, 1) and conv.stride == (2, 2) and conv.pads == (0, 0, 0, 0)
    assert conv.weight.sum() == 4 and np.array_equal(conv.weight[2:6, :, 0, 0], np.eye(4))
    assert graph.by_name["shortcut"].inputs == ("relu",)
    assert graph.by_name["add"].inputs == ("branch", "shortcut")


@pytest.mark.parametrize(
    "cuts",
    [
        ((0, 3, 1), (1, 7, 2), (0, 8, 1)),
        ((1, 3, 1), (2, 5, 1), (3, 8, 3)),
        ((0, 3, 2), (0, 7, 3), (5, 6, 1)),
        ((2, 3, 1), (6, 7, 1), (0, 1, 1)),
    ],
)
def test_slices(cuts: tuple[tuple[int, int, int], ...]) -> None:
    build = Builder((3, 7, 8))
    build.slice("x", *cuts)
    assert kinds(simplified(build.graph(), LegaliseShortcut())) == ["Input", "Linear:Conv2d"]


@pytest.mark.parametrize(
    ("before", "after"),
    [((1, 0, 0), (0, 0, 0)), ((0, 1, 2), (3, 0, 1)), ((-1, -2, 0), (0, 1, -3)), ((-1, 1, -1), (-1, -4, 2))],
)
def test_pads_and_crops(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    build = Builder((3, 7, 8))
    build.pad("x", before, after)
    assert kinds(simplified(build.graph(), LegaliseShortcut())) == ["Input", "Linear:Conv2d"]


def test_vectors_become_sparse() -> None:
    build = Builder((10,))
    build.pad(build.slice("x", (1, 9, 3)), (2,), (1,))
    assert kinds(simplified(build.graph(), LegaliseShortcut())) == ["Input", "Linear:Sparse", "Linear:Sparse"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_join_is_a_sum(axis: int) -> None:
    build = Builder((2, 3, 4))
    other = build.relu("x")
    build.concat(axis, "x", build.constant(np.full((2, 3, 4), 0.5)), other, name="join")
    graph = simplified(build.graph(), LegaliseShortcut())
    assert kinds(graph) == ["Input", "Linear:Conv2d", "Relu", "Linear:Conv2d", "Add"]
    assert graph.by_name["join"].origin.output == "join:0"
