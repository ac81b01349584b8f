"""Populations that wait: every executor does what the reference says."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.backends.loihi.emit import emit_program
from nmc.backends.loihi.emit_processes import microcode
from nmc.backends.loihi.lava_run import TRACES, Job, run_programs
from nmc.ir import reference
from nmc.ir.connectivity import Skip
from nmc.ir.diagnostic import NmcError
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import IF, Integrator, Source
from nmc.ir.origin import Origin
from nmc.ir.verify import verify_program
from nmc.kernels.layerwise import execute_network
from nmc.testing.random_networks import KINDS, random_inputs, random_network
from nmc.testing.waiting import with_waits
from tests.differential.test_lava import differences as lava_differences
from tests.property.random_mapping import random_mapping
from tests.property.test_mapped_is_reference import differences

WAITING = tuple(kind for kind in KINDS if kind not in ("graded", "sigma-delta", "recurrent"))
CASES = [(kind, seed) for seed in (3, 4) for kind in WAITING]


def waiting(kind: str, seed: int) -> Network:
    network = with_waits(random_network(seed, kind=kind), seed)
    verify_program(network)
    return network


def test_the_cases_do_wait() -> None:
    networks = [waiting(*case) for case in CASES]
    assert sum(any(p.wait for p in network.populations) for network in networks) > len(CASES) // 2


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_layers_and_mapping_wait_like_the_reference(kind: str, seed: int) -> None:
    network = waiting(kind, seed)
    inputs = random_inputs(network, 2, seed)
    run = execute_network(network, inputs, keep=True)
    for index, sample in enumerate(inputs):
        wanted = reference.run(network, sample)
        assert np.array_equal(wanted.readout, run.readout[index])
        for name, messages in wanted.messages.items():
            assert np.array_equal(messages, run.messages[name][index])
        for name, potentials in run.potentials.items():
            assert np.array_equal(wanted.potentials[name], potentials[index])
    assert differences(random_mapping(network, seed), inputs) == []


@pytest.mark.parametrize(("wait", "sent", "held"), [(0, [0, 1, 1], [3, 2, 1]), (1, [1, 1, 0], [2, 1, 1])])
def test_a_neuron_by_hand(wait: int, sent: list[int], held: list[int]) -> None:
    origin = Origin("n", "Conv", "y")
    one = np.ones(1, dtype=np.int64)
    neuron = IF(4 * one, 0 * one, 0 * one)
    source = Population("input", (1,), Source(8), origin)
    target = Population("target", (1,), neuron, origin, start=1, wait=wait)
    readout = Population("output", (1,), Integrator(0 * one, 0 * one, 0 * one), origin, start=2 + wait)
    projections = (
        Projection("a", "input", "target", Skip(one, (1,)), origin),
        Projection("b", "target", "output", Skip(one, (1,)), origin),
    )
    spec = InputSpec("input", (1,), 1.0, 0, 255)
    outputs = (OutputSpec("output", np.ones(()), (1,)),)
    network = Network("n", (source, target, readout), projections, (spec,), outputs, 3, {})
    verify_program(network)
    trace = reference.run(network, np.array([3]))
    assert trace.messages["target"].reshape(-1).tolist() == sent
    assert trace.potentials["target"].reshape(-1).tolist() == held
    assert trace.readout.tolist() == [64 * sum(sent)]
    assert network.timesteps_total == 3 + 2 + wait


@pytest.mark.parametrize("change", ["negative", "input", "unmatched"])
def test_wrong_waits_are_found(change: str) -> None:
    network = waiting(*CASES[0])
    place = {"negative": 1, "input": 0, "unmatched": 1}[change]
    wait = -1 if change == "negative" else network.populations[place].wait + 1
    populations = list(network.populations)
    populations[place] = replace(populations[place], wait=wait)
    with pytest.raises(NmcError, match=r"wait|delivers"):
        verify_program(replace(network, populations=tuple(populations)))


@pytest.mark.lava
@pytest.mark.slow
def test_lava_waits_like_the_reference() -> None:
    cases = [(network, random_inputs(network, 2, 1)) for network in (waiting(*case) for case in CASES[: len(WAITING)])]
    jobs = [Job(emit_program(network), network, inputs, TRACES) for network, inputs in cases]
    for (network, inputs), done in zip(cases, run_programs(jobs), strict=True):
        traces = tuple(reference.run(network, sample) for sample in inputs)
        assert lava_differences(done, traces) == []
        if any(p.wait for p in network.populations):
            assert any("waiting" in word for word in microcode(network))
