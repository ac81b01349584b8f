from __future__ import annotations

import pytest

from nmc.passes.simplify import legalise_pooling
from nmc.passes.simplify.legalise_pooling import LegalisePooling
from tests.passes.simplify.graphs import Builder, kinds, new_context, simplified


def test_even_windows_become_a_pool() -> None:
    build = Builder((3, 6, 7))
    build.pool("x", (2, 3), (2, 2))
    assert kinds(simplified(build.graph(), LegalisePooling())) == ["Input", "Linear:Pool"]


def test_counted_pads_become_a_pool() -> None:
    build = Builder((3, 6, 7))
    build.pool("x", (3, 3), (2, 2), (1, 0, 0, 1), count_pads=True)
    assert kinds(simplified(build.graph(), LegalisePooling())) == ["Input", "Linear:Pool"]


@pytest.mark.parametrize("count_pads", [False, True])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 1, 1), (0, 1, 1, 0)])
@pytest.mark.parametrize("size", [5, 6, 7, 8])
def test_ceiling_mode(size: int, pads: tuple[int, int, int, int], count_pads: bool) -> None:
    build = Builder((2, size, size + 1))
    build.pool("x", (3, 2), (2, 3), pads, count_pads=count_pads, ceil=True)
    graph = simplified(build.graph(), LegalisePooling())
    assert kinds(graph)[1] in ("Linear:Pool", "Linear:Sparse")


def test_uncounted_pads_become_sparse() -> None:
    build = Builder((2, 6, 6))
    build.pool("x", (3, 3), (1, 1), (1, 1, 1, 1))
    assert kinds(simplified(build.graph(), LegalisePooling())) == ["Input", "Linear:Sparse"]


def test_over_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legalise_pooling, "BUDGET", 100)
    build = Builder((2, 6, 6))
    build.pool("x", (3, 3), (1, 1), (1, 1, 1, 1))
    context = new_context()
    LegalisePooling().run(build.graph(), context)
    (error,) = context.diagnostics.errors
    assert error.slug == "linear-chain-too-large" and "648" in error.message
