"""Maxima as differences: exact at every border, structured where nothing is negative."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.connectivity import Sparse
from nmc.ir.layers import Linear, Relu
from nmc.passes.simplify import legalise_maximum, simplify_passes
from nmc.passes.simplify.fold_pad import FoldPad
from nmc.passes.simplify.legalise_maximum import LegaliseMaximum
from tests.passes.simplify.graphs import Builder, kinds, new_context, simplified

Pads = tuple[int, int, int, int]


def relus(graph: object) -> list[str]:
    return [layer.name for layer in graph.layers if isinstance(layer.op, Relu)]  # type: ignore[attr-defined]


def neurons(graph: object, prefix: str) -> int:
    layers = graph.layers  # type: ignore[attr-defined]
    return sum(int(np.prod(la.shape)) for la in layers if isinstance(la.op, Relu) and la.name.startswith(prefix))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 3), (4, 2)])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (4, 2), (5, 6), (7, 4)])
def test_windows(kernel: tuple[int, int], stride: tuple[int, int], ceil: bool, signed: bool) -> None:
    for pads in [(0, 0, 0, 0), tuple((k - 1) // 2 for k in kernel * 2), (kernel[0] - 1, 0, 0, kernel[1] - 1)]:
        build = Builder((2, 8, 9))
        source = "x" if signed else build.relu("x")
        build.largest(source, kernel, stride, (pads[0], pads[1], pads[2], pads[3]), ceil=ceil, name="pool")
        graph = simplified(build.graph(), LegaliseMaximum())
        assert "MaxPool" not in kinds(graph)
        if not signed:
            assert "Linear:Sparse" not in kinds(graph)


def test_dilation() -> None:
    build = Builder((2, 9, 11))
    build.largest(build.conv("x", 3), (2, 4), (2, 1), dilation=(3, 2))
    simplified(build.graph(), LegaliseMaximum())


def test_a_window_takes_one_neuron_less_than_it_has_values() -> None:
    build = Builder((3, 8, 8))
    build.largest(build.relu("x"), (4, 4), (4, 4), name="pool")
    graph = simplified(build.graph(), LegaliseMaximum())
    assert neurons(graph, "pool") == 15 * 3 * 2 * 2
    assert relus(graph)[1:] == ["pool/max", "pool/max_1", "pool/max_2", "pool/max_3"]


def test_windows_that_overlap_share_their_parts() -> None:
    build = Builder((1, 1, 20))
    build.largest(build.relu("x"), (1, 8), (1, 1), name="pool")
    graph = simplified(build.graph(), LegaliseMaximum())
    assert len(relus(graph)) == 1 + 3
    assert neurons(graph, "pool") == 19 + 17 + 13


def test_a_maximum_gets_neurons_where_it_is_read_by_weights() -> None:
    build = Builder((2, 8, 8))
    pool = build.largest(build.relu(build.conv("x", 3)), (2, 2), (2, 2), name="pool")
    build.dense(build.reshape(pool), 4, name="dense")
    whole = simplified(build.graph(), *simplify_passes())
    pooled = whole.by_name["pool"]
    assert isinstance(pooled.op, Relu) and pooled.origin.output == "pool:0"
    assert whole.by_name["dense"].inputs == ("pool",)
    spread = simplified(build.graph(), LegaliseMaximum(relay=False), *simplify_passes())
    assert "pool" not in spread.by_name and len(spread.by_name["dense"].inputs) == 3


def test_borders_of_signed_values_behind_a_relu_stay_structured() -> None:
    build = Builder((2, 7, 7))
    pool = build.largest(build.conv("x", 3), (3, 3), (2, 2), (1, 1, 1, 1), name="pool")
    build.relu(pool, name="relu")
    graph = simplified(build.graph(), *simplify_passes())
    assert not any(isinstance(la.op, Linear) and isinstance(la.op.connectivity, Sparse) for la in graph.layers)
    assert graph.by_name["relu"].origin.output == "relu:0"


def test_borders_of_signed_values_moved_to_a_relu() -> None:
    build = Builder((2, 7, 7))
    pool = build.largest(build.conv("x", 3), (3, 3), (2, 2), (1, 1, 1, 1), name="pool")
    build.relu(build.reshape(build.transpose(pool, 1, 2, 0, name="turn"), name="flat"), name="relu")
    graph = simplified(build.graph(), LegaliseMaximum())
    assert "Linear:Sparse" not in kinds(graph)
    assert [graph.by_name[name].origin.output for name in ("pool", "turn", "flat", "relu")] == ["", "", "", "relu:0"]


def test_zeros_around_values_that_are_not_negative_become_pads() -> None:
    build = Builder((2, 6, 6))
    padded = build.pad(build.relu("x"), (0, 1, 0), (0, 0, 1))
    build.largest(padded, (2, 2), (2, 2))
    assert kinds(simplified(build.graph(), FoldPad())) == ["Input", "Relu", "MaxPool"]
    build = Builder((2, 6, 6))
    build.largest(build.pad("x", (0, 1, 0), (0, 0, 1)), (2, 2), (2, 2))
    assert kinds(simplified(build.graph(), FoldPad())) == ["Input", "Pad", "MaxPool"]


def test_the_largest_of_several_values() -> None:
    build = Builder((2, 5, 5))
    first, second = build.conv("x", 3), build.conv("x", 3)
    build.larger(first, build.relu(second), second, name="larger")
    graph = simplified(build.graph(), LegaliseMaximum())
    assert relus(graph)[1:] == ["larger/max", "larger/max_1"]


def test_over_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legalise_maximum, "BUDGET", 100)
    build = Builder((2, 8, 8))
    build.largest("x", (3, 3), (1, 1), (1, 1, 1, 1))
    context = new_context()
    LegaliseMaximum().run(build.graph(), context)
    (error,) = context.diagnostics.errors
    assert error.slug == "linear-chain-too-large" and "200" in error.message


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13])
def test_a_maximum_of_many_values_is_one_of_pairs(count: int) -> None:
    build = Builder((2, 3, 3))
    parts = [build.relu(build.conv("x", 2, (1, 1))) for _ in range(count)]
    build.larger(*parts, name="larger")
    graph = simplified(build.graph(), LegaliseMaximum())
    assert neurons(graph, "larger/max") == (count - 1) * 2 * 3 * 3
    depth: dict[str, int] = {}
    for layer in graph.layers:
        own = isinstance(layer.op, Relu) and layer.name.startswith("larger/max")
        depth[layer.name] = own + max((depth[name] for name in layer.inputs), default=0)
    assert max(depth.values()) == (count - 1).bit_length()
