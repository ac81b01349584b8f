"""Windows follow the longest path, and delays match at every join."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.reference import encode
from nmc.ir.verify import verify_program
from nmc.kernels.layerwise import execute_network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.align.host_input import HostInput
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.testing.builders import context_for, residual_graph, small_target

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
