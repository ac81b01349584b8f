"""One population at a time, in the kernels of the simulator, sends what the whole network's does."""

import numpy as np
import pytest

from nmc.ir.neurons import Integrator
from nmc.kernels import calibrate_respond
from nmc.kernels.calibrate_respond import respond
from nmc.kernels.layerwise import LaidPopulation, execute_network, joined_channels_last
from nmc.kernels.propagate import to_channels_last
from nmc.kernels.schedule import lag
from nmc.testing.random_networks import random_inputs, random_network
from nmc.testing.waiting import with_waits
from tests.kernels.rate_networks import rate_inputs, rate_network


def responses(network, inputs):
    """By population: what `respond` says, and what the network really sends."""
    run, flat = execute_network(network, inputs, keep=True), joined_channels_last(network, inputs)
    sent = {p.name: list(to_channels_last(run.messages[p.name], p.shape)) for p in network.populations}
    for population in network.populations:
        matched = all(lag(network, p) == 0 for p in network.incoming[population.name])
        if matched and not isinstance(population.neuron, Integrator):
            yield sent[population.name], respond(network, population, sent, flat)


@pytest.mark.parametrize("seed", range(12))
def test_every_population_of_a_rate_network(seed):
    network = rate_network(seed)
    for wanted, got in responses(network, rate_inputs(network, seed)):
        np.testing.assert_array_equal(np.stack(got), np.stack(wanted))


@pytest.mark.parametrize("kind", ["rate", "signed", "burst", "lif-leak", "reset-zero", "refractory"])
def test_every_sort_of_neuron_waiting_or_not(kind):
    for seed in range(3):
        network = with_waits(random_network(seed, kind=kind), seed)
        for wanted, got in responses(network, random_inputs(network, 2, seed)):
            np.testing.assert_array_equal(np.stack(got), np.stack(wanted))


def test_most_populations_go_through_the_kernels_of_the_simulator(monkeypatch):
    slow = []

    def laid(population, *rest):
        slow.append(population.name)
        return LaidPopulation(population, *rest)

    monkeypatch.setattr(calibrate_respond, "LaidPopulation", laid)
    asked = sum(len(list(responses(network, rate_inputs(network, 0)))) for network in map(rate_network, range(12)))
    assert len(slow) < asked / 2
