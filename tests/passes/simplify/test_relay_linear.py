"""A linear value that many ReLUs read gets neurons of its own, where that costs no step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import Target
from nmc.ir.layers import Identity, Input, LayerGraph, Linear, Quantize, Relu
from nmc.ir.network import Network
from nmc.ir.verify import verify_program
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.simplify import simplify_passes
from nmc.passes.simplify.compose import synapse_bound
from nmc.passes.simplify.fold_batchnorm import FoldBatchnorm
from nmc.passes.simplify.relay_linear import RelayLinear
from nmc.passes.simplify.rewrite import as_graph, rebuilt
from nmc.testing.builders import context_for, small_target
from tests.passes.simplify.graphs import Builder, assert_same_values
from tests.passes.simplify.test_split_concat import dense_block


def residual(blocks: int) -> LayerGraph:
    """Norm, ReLU and convolution, added to what they read: residual blocks of pre-activations."""
    build = Builder((8, 6, 6))
    value = build.conv("x", 8, pads=(1, 1, 1, 1))
    for _ in range(blocks):
        value = build.sum(value, build.conv(build.relu(build.norm(value)), 8, pads=(1, 1, 1, 1)))
    return build.graph(build.dense(build.reshape(build.relu(build.norm(value))), 3))


def simplified(graph: LayerGraph, relay: bool, target: Target | None = None) -> LayerGraph:
    context = context_for(graph, np.zeros((1, *graph.input.shape), np.float32), target)
    after = graph
    for step in simplify_passes(relay_linear=relay):
        changed = step.run(after, context)
        assert isinstance(changed, LayerGraph)
        after = changed
    assert not context.diagnostics.errors
    verify_program(after)
    assert_same_values(graph, after)
    return after


def relays(graph: LayerGraph) -> list[str]:
    return [layer.name for layer in graph.layers if isinstance(layer.op, Identity)]


def synapses(graph: LayerGraph) -> int:
    return sum(synapse_bound(layer.op.connectivity) for layer in graph.layers if isinstance(layer.op, Linear))


def aligned(graph: LayerGraph) -> Network:
    context = context_for(graph, np.random.default_rng(1).random((4, *graph.input.shape)).astype(np.float32))
    return AlignWindows().run(ConvertGraded().run(graph, context), context)


@pytest.mark.parametrize("graph", [dense_block(8), residual(8)], ids=["dense", "residual"])
def test_relays_save_synapses_and_cost_no_step(graph: LayerGraph) -> None:
    composed, relayed = simplified(graph, relay=False), simplified(graph, relay=True)
    assert not relays(composed) and len(relays(relayed)) >= 4
    assert synapses(relayed) < 0.7 * synapses(composed)
    before, after = aligned(composed), aligned(relayed)
    assert after.pipeline_steps == before.pipeline_steps
    assert max(p.delay for p in after.projections) <= max(p.delay for p in before.projections)


def tangle(seed: int) -> LayerGraph:
    """Convolutions, norms, ReLUs, sums and joins that read what came shortly before."""
    build = Builder((4, 5, 5), seed)
    values = [build.conv("x", 4, pads=(1, 1, 1, 1)), "x"]

    def any_value() -> str:
        return values[int(build.rng.integers(max(0, len(values) - 10), len(values)))]

    for kind in build.rng.integers(0, 6, 30):
        match int(kind):
            case 0:
                made = build.conv(any_value(), 4, pads=(1, 1, 1, 1))
            case 1:
                made = build.relu(any_value())
            case 2:
                made = build.norm(any_value())
            case 3:
                made = build.sum(any_value(), any_value())
            case 4:
                made = build.conv(build.relu(build.concat(0, any_value(), any_value())), 4, (1, 1))
            case _:
                made = build.conv(build.relu(build.norm(any_value())), 4, pads=(1, 1, 1, 1))
        values.append(made)
    graph = build.graph(build.dense(build.reshape(build.relu(build.sum(*values[-6:]))), 3))
    return rebuilt(graph, graph.layers)


def test_tangled_networks_keep_their_values_and_their_depth() -> None:
    found = 0
    for seed in range(24):
        composed, relayed = simplified(tangle(seed), relay=False), simplified(tangle(seed), relay=True)
        assert aligned(relayed).pipeline_steps == aligned(composed).pipeline_steps
        found += bool(relays(relayed))
    assert found >= 3


def test_every_relay_is_a_linear_value_and_says_which_tensor_it_is() -> None:
    graph = simplified(dense_block(8), relay=True)
    for name in relays(graph):
        layer = graph.by_name[name]
        assert name == f"{layer.origin.node}/relay" and layer.origin.output == f"{layer.origin.node}:0"
        assert not isinstance(graph.by_name[layer.inputs[0]].op, Relu | Input)
        assert len(graph.users[name]) >= 2


def test_few_readers_compose() -> None:
    for graph in (dense_block(2), residual(2)):
        assert not relays(simplified(graph, relay=True))


def test_readers_that_are_waited_for_compose() -> None:
    """Readers side by side have no step to spare: a relay would make every output later."""
    build = Builder((8, 6, 6))
    shared = build.conv("x", 8, pads=(1, 1, 1, 1))
    parts = [build.relu(build.norm(shared)) for _ in range(8)]
    graph = build.graph(build.dense(build.reshape(build.sum(*parts)), 3))
    assert not relays(simplified(graph, relay=True))


def test_a_value_that_costs_no_more_than_a_relay_composes() -> None:
    build = Builder((8, 6, 6))
    shared = build.norm(build.relu("x"))
    value = build.relu(build.norm(shared))
    for _ in range(6):
        value = build.relu(build.conv(build.sum(value, build.relu(build.norm(shared))), 8, pads=(1, 1, 1, 1)))
    assert not relays(simplified(build.graph(build.dense(build.reshape(value), 3)), relay=True))


def test_an_output_and_a_reader_across_channels_read_it_too() -> None:
    build = Builder((8, 6, 6))
    shared = build.conv("x", 8, pads=(1, 1, 1, 1), name="shared")
    value = build.relu(shared, name="first")
    for _ in range(6):
        value = build.relu(build.conv(build.sum(value, build.relu(build.norm(shared))), 8, pads=(1, 1, 1, 1)))
    late = build.relu(build.sum(value, build.conv(shared, 8, pads=(1, 1, 1, 1), name="late")))
    build.dense(build.reshape(late), 3, name="y")
    graph = replace(build.graph(), outputs=("y", "shared"), output_names=("y", "shared"))
    after = simplified(graph, relay=True)
    assert relays(after) == ["shared/relay"]
    assert after.outputs[1] == "shared" and set(after.users["shared"]) == {"first", "shared/relay"}
    assert after.by_name["late"].inputs == ("shared/relay",)


def test_a_relay_has_the_steps_of_its_value() -> None:
    graph = dense_block(8)
    code = Quantize(0.5, 3, -128, 127)
    source = relays(simplified(graph, relay=True))[0].removesuffix("/relay")
    after = simplified(replace(graph, codes={source: code}), relay=True)
    assert after.codes[f"{source}/relay"] == code


def test_without_graded_messages_nothing_changes() -> None:
    graph = residual(8)
    context = context_for(graph, np.zeros((1, *graph.input.shape), np.float32))
    linear = as_graph(FoldBatchnorm().run(graph, context))
    assert RelayLinear().run(linear, replace(context, target=small_target(graded_bits=0))) is linear
    assert relays(as_graph(RelayLinear().run(linear, context)))
