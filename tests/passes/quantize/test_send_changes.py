"""Sigma-delta networks say what the graded networks say that they were made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.layers import LayerGraph
from nmc.ir.network import Network
from nmc.ir.neurons import SigmaDelta
from nmc.ir.reference import decode, encode
from nmc.ir.verify import verify_program
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import NetworkRun, execute_network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.base import Context
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.quantize.send_changes import SendChanges
from nmc.testing.builders import context_for, residual_graph

X = np.random.default_rng(3).uniform(size=(24, 2, 6, 6)).astype(np.float32)
RESIDUAL = residual_graph(4)


def graded(graph: LayerGraph = RESIDUAL) -> tuple[Network, Context]:
    context = context_for(graph, X)
    return QuantizeGraded().run(AlignWindows().run(ConvertGraded().run(graph, context), context), context), context


def sigma_delta(timesteps: int = 3, threshold: int = 1) -> tuple[Network, Network]:
    network, context = graded()
    changing = SendChanges(timesteps, threshold).run(network, context)
    verify_program(changing)
    assert not context.diagnostics.errors
    return network, changing


def executed(network: Network) -> NetworkRun:
    return execute_network(network, encode(network, X), keep=True)


def test_messages_add_up_to_the_graded_ones_where_one_projection_arrives() -> None:
    network, changing = sigma_delta()
    before, after = executed(network), executed(changing)
    first = next(p.name for p in network.populations if len(network.incoming[p.name]) == 1)
    np.testing.assert_array_equal(after.messages[first].sum(axis=1), before.messages[first][:, 0])


def test_each_activation_is_rounded_once() -> None:
    """Of sums of several projections, graded neurons floor each; that is at most a unit apart per layer."""
    network, changing = sigma_delta()
    before, after = executed(network), executed(changing)
    for population in network.populations:
        if len(network.incoming[population.name]) == 2:
            apart = after.messages[population.name].sum(axis=1) - before.messages[population.name][:, 0]
            assert 0 < np.abs(apart).max() <= 2
    exact = execute_graph(RESIDUAL, X, ["logits"])["logits"]

    def error(network: Network, run: NetworkRun) -> float:
        return float(np.square(decode(network, run.readout) - exact).mean())

    assert error(changing, after) < 1.02 * error(network, before)


def test_what_stands_still_sends_nothing() -> None:
    _, changing = sigma_delta(timesteps=4)
    for name, messages in executed(changing).messages.items():
        assert messages[:, 0].any() and not messages[:, 1:].any(), name


@pytest.mark.parametrize("timesteps", [1, 2, 7])
def test_the_answer_does_not_depend_on_the_steps(timesteps: int) -> None:
    _, changing = sigma_delta(timesteps)
    run = execute_network(changing, encode(changing, X))
    _, other = sigma_delta(3)
    np.testing.assert_array_equal(run.readout, execute_network(other, encode(other, X)).readout)
    # Values are read as of rate codes: scale * messages / timesteps.
    name = changing.populations[1].name
    np.testing.assert_allclose(changing.scales[name] / timesteps, other.scales[name] / 3)


def test_small_changes_may_be_kept_back() -> None:
    _, exact = sigma_delta()
    _, coarse = sigma_delta(threshold=200)
    counts = [sum(np.count_nonzero(m) for m in executed(n).messages.values()) for n in (exact, coarse)]
    assert counts[1] < 0.95 * counts[0]
    assert all(int(p.neuron.threshold) == 200 for p in coarse.populations if isinstance(p.neuron, SigmaDelta))


def test_sums_that_may_overflow_are_errors() -> None:
    network, context = graded()
    huge = tuple(replace(p, shift=p.shift - 18) for p in network.projections)
    SendChanges().run(replace(network, projections=huge), context)
    assert any(d.slug == "accumulator-overflow" for d in context.diagnostics.errors)


def test_the_bias_of_a_left_shifted_sum_is_shifted_too() -> None:
    network, context = graded()
    # Fewer weight bits, so to speak: every stored weight and bias eight times smaller, and a left shift more.
    coarse = replace(
        network,
        projections=tuple(
            replace(
                p,
                connectivity=p.connectivity.with_weight(p.connectivity.weight >> 3),
                shift=np.full(p.connectivity.out_shape[0], -3),
                bias=None if p.bias is None else p.bias >> 8,
            )
            for p in network.projections
            if p.target == "stem_relu"
        )
        + tuple(p for p in network.projections if p.target != "stem_relu"),
    )
    before, after = executed(coarse), executed(SendChanges(3).run(coarse, context))
    assert np.any(next(p.bias for p in coarse.projections if p.target == "stem_relu"))
    np.testing.assert_array_equal(after.messages["stem_relu"].sum(axis=1), before.messages["stem_relu"][:, 0])
