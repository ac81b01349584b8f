"""Every neuron model, firing rule and loop: both executors are the reference, bit for bit."""

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.connectivity import size
from nmc.ir.verify import verify_program
from nmc.kernels.layerwise import execute_network, message_rates
from nmc.runtime.simulator import simulate
from tests.kernels.loop_networks import NEURONS, RULES, loop_inputs, loop_network
from tests.property.random_mapping import random_mapping

CASES = [(kind, rule, seed) for kind in NEURONS[:4] for rule in RULES for seed in range(5)]
CASES += [(kind, "binary", seed) for kind in ("delta", "mixed") for seed in range(15)]


@pytest.mark.parametrize("kind,rule,seed", CASES)
def test_both_executors_are_the_reference(kind, rule, seed):
    network, inputs = loop_network(seed, kind, rule), loop_inputs(seed)
    verify_program(network)
    layers = execute_network(network, inputs, counts=True, keep=True, threads=1)
    mapped = simulate(random_mapping(network, seed), inputs, trace=frozenset({"messages", "potentials"}))
    for index, sample in enumerate(inputs):
        wanted = reference.run(network, sample)
        for name, messages in wanted.messages.items():
            np.testing.assert_array_equal(layers.messages[name][index], messages, err_msg=name)
            np.testing.assert_array_equal(layers.counts[name][index], messages.sum(axis=0), err_msg=name)
            np.testing.assert_array_equal(mapped.trace.messages[name][index], messages, err_msg=name)
        assert set(layers.potentials) == set(wanted.potentials) == set(mapped.trace.potentials)
        for name, potentials in wanted.potentials.items():
            np.testing.assert_array_equal(layers.potentials[name][index], potentials, err_msg=name)
            np.testing.assert_array_equal(mapped.trace.potentials[name][index], potentials, err_msg=name)
        np.testing.assert_array_equal(layers.readout[index], wanted.readout)
        np.testing.assert_array_equal(mapped.readout[index], wanted.readout)


@pytest.mark.parametrize("kind,rule", [("lif", "signed"), ("if", "burst"), ("delta", "binary"), ("mixed", "binary")])
def test_events_of_any_message_are_counted_once(kind, rule):
    """A spike for every non-zero message, a synaptic operation for every weight that it meets in a window."""
    for seed in range(4):
        network, inputs = loop_network(seed, kind, rule), loop_inputs(seed, 1)
        messages = reference.run(network, inputs[0]).messages
        counters = simulate(random_mapping(network, seed), inputs).counters
        spikes = {name: int(np.count_nonzero(sent)) for name, sent in messages.items()}
        assert dict(counters.spikes_by_population) == spikes
        synops = 0
        for projection in network.projections:
            source = network.by_name[projection.source]
            target = network.by_name[projection.target]
            _, columns, _ = projection.connectivity.synapses()
            fan_out = np.bincount(columns, minlength=size(source.shape))
            for step, sent in enumerate(messages[source.name]):
                arrives = source.start + step + projection.delay - target.start
                if 0 <= arrives < network.timesteps:
                    synops += int(fan_out[np.flatnonzero(sent)].sum())
        assert counters.synops == synops


@pytest.mark.parametrize("kind", NEURONS)
def test_the_networks_are_lively(kind):
    networks = [loop_network(seed, kind, rule) for seed in range(4) for rule in RULES]
    rates = [message_rates(network, loop_inputs(0)) for network in networks]
    hidden = [rate for found in rates for name, rate in found.items() if name.startswith("p")]
    assert np.mean([0.02 < rate < 0.98 for rate in hidden]) > 0.5
    assert sum(bool(network.recurrent) for network in networks) >= len(networks) - 1


def test_every_kind_of_message_occurs():
    found = []
    for seed in range(6):
        for rule in RULES:
            for kind in ("lif", "if", "delta"):
                run = execute_network(loop_network(seed, kind, rule), loop_inputs(seed, 1), keep=True)
                found += [sent.reshape(-1) for sent in run.messages.values()]
    values = np.unique(np.concatenate(found))
    assert {-1, 0, 1, 2, 7} <= set(values.tolist())
    assert values.max() > 127 and values.min() < -128
