"""Windows follow the longest path, and delays match at every join."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.compiler.prove_network import StageProofs
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network
from nmc.ir.reference import encode
from nmc.ir.verify import verify_program
from nmc.kernels.layerwise import execute_network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.align.host_input import HostInput
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.simplify import simplify_passes
from nmc.passes.simplify.rewrite import as_graph
from nmc.testing.builders import context_for, residual_graph, small_target
from tests.passes.simplify.graphs import Builder

RNG = np.random.default_rng(4)
X = np.random.default_rng(3).uniform(size=(8, 2, 6, 6)).astype(np.float32)


def converted():
    graph = residual_graph()
    return ConvertRate(8).run(graph, context_for(graph, X))


def test_windows_and_the_delay_of_the_skip() -> None:
    graph = residual_graph()
    network = AlignWindows().run(converted(), context_for(graph, X))
    assert {p.name: p.start for p in network.populations} == {
        "input": 0,
        "stem_relu": 1,
        "first_relu": 2,
        "sum_relu": 3,
        "logits": 4,
    }
    delays = {(p.source, p.target): p.delay for p in network.projections}
    assert delays["stem_relu", "sum_relu"] == 2
    assert all(delay == 1 for edge, delay in delays.items() if edge != ("stem_relu", "sum_relu"))
    assert network.pipeline_steps == 4
    assert network.timesteps_total == 12


def test_aligning_twice_changes_nothing() -> None:
    context = context_for(residual_graph(), X)
    once = AlignWindows().run(converted(), context)
    twice = AlignWindows().run(once, context)
    assert [p.start for p in once.populations] == [p.start for p in twice.populations]
    assert [p.delay for p in once.projections] == [p.delay for p in twice.projections]


def test_a_skip_longer_than_the_chip_can_wait_is_an_error() -> None:
    context = context_for(residual_graph(), X, small_target(delay_max=1))
    AlignWindows().run(converted(), context)
    with pytest.raises(NmcError, match="must wait 2 steps") as caught:
        context.diagnostics.raise_errors(ExitCode.MODEL)
    assert caught.value.diagnostics[0].slug == "delay-too-long"


def test_a_skip_waits_in_two_places_where_one_is_too_short() -> None:
    build = Builder((2, 4, 4))
    first = build.relu(build.conv("x", 2, (1, 1)), name="first")
    early = build.relu(build.conv(first, 2, (1, 1)), name="early")
    value = first
    for _ in range(7):
        value = build.relu(build.conv(value, 2, (1, 1)))
    graph = build.graph(build.dense(build.reshape(build.relu(build.sum(value, build.conv(early, 2, (1, 1))))), 3))
    x = RNG.random((4, 2, 4, 4)).astype(np.float32)

    def aligned(delay_max: int) -> Network:
        context = context_for(graph, x, small_target(delay_max=delay_max))
        simple = graph
        for step in simplify_passes():
            simple = as_graph(step.run(simple, context))
        before = ConvertGraded().run(simple, context)
        network = AlignWindows().run(before, context)
        verify_program(network)
        prove = StageProofs(x, x, context.target)
        if not context.diagnostics.errors:
            prove.after(AlignWindows(), before, network)
            done = QuantizeGraded().run(network, context)
            prove.after(QuantizeGraded(), network, done)
        return network

    free, tight, short = aligned(62), aligned(4), aligned(3)
    assert free.by_name["early"].start == 2 and max(p.delay for p in free.projections) == 7
    assert tight.by_name["early"].start == 5 and max(p.delay for p in tight.projections) == 4
    assert free.pipeline_steps == tight.pipeline_steps
    for network, fits in ((tight, True), (short, False)):
        assert (max(p.delay for p in network.projections) <= (4 if fits else 3)) is fits


def test_host_input_moves_the_first_layer_and_changes_no_result() -> None:
    context = context_for(residual_graph(), X)
    network = AlignWindows().run(converted(), context)
    hosted = HostInput().run(network, context)
    assert [p.name for p in hosted.populations if p.on_host] == ["input", "stem_relu"]
    inputs = encode(network, X)
    np.testing.assert_array_equal(execute_network(network, inputs).readout, execute_network(hosted, inputs).readout)
    assert replace(hosted, populations=network.populations).by_name.keys() == network.by_name.keys()


def waits(choice: str) -> dict[str, tuple[int, int]]:
    context = context_for(residual_graph(), X)
    network = AlignWindows(choice).run(converted(), context)
    verify_program(network)
    return {p.name: (p.start, p.wait) for p in network.populations}


def test_everybody_waits_but_the_ends() -> None:
    assert waits("1") == {
        "input": (0, 0),
        "stem_relu": (1, 1),
        "first_relu": (3, 1),
        "sum_relu": (5, 1),
        "logits": (7, 0),
    }


def test_auto_waits_inside_the_branch() -> None:
    found = waits("auto")
    assert {name for name, (_, wait) in found.items() if wait} == {"first_relu"}
    assert found["sum_relu"] == (4, 0)


def test_auto_waits_every_other_layer_of_a_chain() -> None:
    network = converted()
    chain = tuple(p for p in network.projections if p.name != "stem_relu>sum_relu#1")
    context = context_for(residual_graph(), X)
    found = AlignWindows("auto").run(replace(network, projections=chain), context)
    assert [p.name for p in found.populations if p.wait] == ["stem_relu", "sum_relu"]


def test_another_choice_is_refused() -> None:
    with pytest.raises(NmcError, match="'2'") as caught:
        waits("2")
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.diagnostics[0].slug == "wait-unknown"
