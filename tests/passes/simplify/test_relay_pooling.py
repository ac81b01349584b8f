"""A pooling stays a population where its reader would hear more axons than a core has."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Dense, Pool
from nmc.ir.layers import Input, LayerGraph, Linear, Relu
from nmc.kernels.graph import execute_graph
from nmc.passes.simplify import relay_pooling
from nmc.passes.simplify.fuse_linear import FuseLinear
from nmc.passes.simplify.legalise_pooling import LegalisePooling
from nmc.passes.simplify.legalise_shortcut import LegaliseShortcut
from nmc.passes.simplify.relay_pooling import CONSTANT_AXONS, RelayPooling
from nmc.passes.simplify.rewrite import as_graph
from nmc.passes.simplify.split_concat import SplitConcat
from nmc.testing.builders import context_for, layer, small_target
from tests.passes.simplify.graphs import Builder, assert_same_values, new_context

RNG = np.random.default_rng(5)
SHAPE = (3, 8, 8)


def graph(*, relu: bool = True) -> LayerGraph:
    pool = Linear(Pool(np.full(3, 0.25), SHAPE, (2, 2), (2, 2)), np.zeros(3))
    dense = Linear(Dense(RNG.normal(size=(4, 48)), (3, 4, 4), (4,)), np.zeros(4))
    layers = [
        layer("x", Input(), (), SHAPE),
        layer("r", Relu(), ("x",), SHAPE),
        layer("p", pool, ("r" if relu else "x",), (3, 4, 4)),
        layer("y", dense, ("p",), (4,)),
    ]
    return LayerGraph("g", tuple(layers if relu else [layers[0], *layers[2:]]), ("y",))


def run(program: LayerGraph, in_axons: int) -> LayerGraph:
    x = RNG.normal(size=(5, *SHAPE)).astype(np.float32)
    target = small_target()
    target = replace(target, core=replace(target.core, in_axons=in_axons))
    context = context_for(program, x, target)
    after = FuseLinear().run(RelayPooling().run(program, context), context)
    wanted = execute_graph(program, x, [program.output])[program.output]
    got = execute_graph(after, x, [after.output])[after.output]
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    return after


def relus(program: LayerGraph) -> list[str]:
    return [entry.name for entry in program.layers if isinstance(entry.op, Relu)]


def test_a_pooling_that_fits_is_composed() -> None:
    assert relus(run(graph(), 3 * 64 + 4)) == ["r"]


def test_a_pooling_that_does_not_fit_becomes_a_population_under_its_own_name() -> None:
    after = run(graph(), 3 * 64 + 3)
    assert relus(after) == ["r", "p"]
    assert after.by_name["p"].origin.node == "node p"


def test_a_pooling_of_signed_values_is_never_rectified() -> None:
    assert relus(run(graph(relu=False), 50)) == []


def test_borders_of_their_own_are_relayed_before_they_become_single_synapses(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder((4, 6, 6))
    pooled = build.pool(build.relu(build.conv("x", 4, (1, 1))), (3, 3), (1, 1), (1, 1, 1, 1), name="pool")
    program = LegalisePooling().run(build.graph(build.conv(pooled, 8, (1, 1))), new_context())
    context = context_for(program, np.zeros((1, 4, 6, 6), np.float32))
    assert RelayPooling().run(program, context) is program
    monkeypatch.setattr(relay_pooling, "SINGLE_SYNAPSES", 4 * 8 * 36 * 7)
    relayed = RelayPooling().run(program, context)
    assert relus(relayed)[1:] == ["pool"]
    assert_same_values(program, relayed)


def test_parts_of_a_join_are_relayed_where_the_layer_behind_the_join_is_too_large() -> None:
    build = Builder((3, 8, 8))
    parts = [build.relu(build.conv("x", 4, (1, 1)), name=f"part{number}") for number in range(3)]
    pooled = build.pool(build.concat(0, *parts), (2, 2), (2, 2))
    program = build.graph(build.conv(pooled, 5, (1, 1)))
    context = context_for(program, np.zeros((1, 3, 8, 8), np.float32))
    for step in (SplitConcat(), LegalisePooling(), LegaliseShortcut()):
        program = as_graph(step.run(program, context))

    def relayed(in_axons: int) -> LayerGraph:
        target = replace(context.target, core=replace(context.target.core, in_axons=in_axons))
        return as_graph(RelayPooling().run(program, replace(context, target=target)))

    # Twelve channels, four places each, and the axons of the bias.
    assert relayed(12 * 4 + CONSTANT_AXONS) is program
    after = relayed(12 * 4 + CONSTANT_AXONS - 1)
    assert len(relus(after)) == len(relus(program)) + 3
    assert_same_values(program, after)


def test_a_graph_that_fits_is_the_same_object() -> None:
    program = graph()
    x = np.zeros((1, *SHAPE), np.float32)
    assert RelayPooling().run(program, context_for(program, x)) is program
