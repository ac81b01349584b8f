from __future__ import annotations

import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import Softmax
from nmc.passes.simplify.canonicalise import Canonicalise
from tests.passes.simplify.graphs import Builder, kinds, new_context, simplified


def test_a_relu_of_the_input_reads_a_linear_layer() -> None:
    build = Builder((2, 3, 3))
    build.relu("x")
    assert kinds(simplified(build.graph(), Canonicalise())) == ["Input", "Linear:Skip", "Relu"]


def test_a_canonical_graph_is_the_same_object() -> None:
    build = Builder((2, 3, 3))
    turned = build.transpose("x", 1, 0, 2)
    relu = build.relu(build.conv(turned, 2, (1, 1)))
    relu = build.relu(build.sum(relu, build.conv(relu, 2, (1, 1))))
    logits = build.dense(relu, 3)
    build.add("softmax", Softmax(0), [logits], (3,))
    graph = build.graph()
    assert Canonicalise().run(graph, new_context()) is graph


@pytest.mark.parametrize("softmax", [False, True])
def test_an_output_that_is_the_input_reads_it_through_a_linear_layer(softmax: bool) -> None:
    build = Builder((3,))
    if softmax:
        build.add("softmax", Softmax(0), ["x"], (3,))
    expected = ["Input", "Linear:Skip", *(["Softmax"] if softmax else [])]
    assert kinds(simplified(build.graph(), Canonicalise())) == expected


def test_what_a_pass_left_behind_is_named() -> None:
    build = Builder((2, 3, 3))
    build.conv(build.conv("x", 2, (1, 1)), 2, (1, 1), name="second")
    build.norm("second", name="norm")
    with pytest.raises(NmcError) as caught:
        Canonicalise().run(build.graph(), new_context())
    assert caught.value.exit_code is ExitCode.INTERNAL
    assert [d.origin.node for d in caught.value.diagnostics if d.origin] == ["second", "norm"]
