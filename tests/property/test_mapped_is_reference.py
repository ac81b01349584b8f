"""The mapping executes what the reference interpreter says, bit for bit, however it is cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmc.ir import reference
from nmc.ir.neurons import LIF
from nmc.kernels.layerwise import execute_network
from nmc.runtime.simulator import simulate
from nmc.testing.random_networks import KINDS, random_inputs, random_network
from tests.passes.targets import chip, mapped, tight
from tests.property.random_mapping import random_mapping

EVERYTHING = frozenset({"messages", "potentials"})


def differences(routed, inputs, **options):
    """What the mapping computes differently, by sample."""
    network = routed.network
    run = simulate(routed, inputs, trace=EVERYTHING, **options)
    wrong = []
    for i, sample in enumerate(inputs):
        wanted = reference.run(network, sample)
        if not np.array_equal(wanted.readout, run.readout[i]):
            wrong.append((i, "readout"))
        assert set(wanted.messages) == set(run.trace.messages)
        assert set(wanted.potentials) == set(run.trace.potentials)
        wrong += [(i, n, "m") for n, m in wanted.messages.items() if not np.array_equal(m, run.trace.messages[n][i])]
        wrong += [
            (i, n, "v") for n, v in wanted.potentials.items() if not np.array_equal(v, run.trace.potentials[n][i])
        ]
    return wrong


@pytest.mark.parametrize("seed", range(100))
def test_hundred_random_networks(seed):
    network = random_network(seed)
    assert differences(random_mapping(network, seed), random_inputs(network, 2, seed)) == []


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**20), st.sampled_from(KINDS), st.integers(0, 2**20), st.integers(1, 9), st.integers(1, 2))
def test_any_cut_of_any_network(seed, kind, cut, cores, threads):
    network = random_network(seed, kind=kind)
    routed = random_mapping(network, cut, cores)
    assert differences(routed, random_inputs(network, 2, cut), threads=threads) == []


@pytest.mark.parametrize("seed", range(20))
def test_layers_on_the_host(seed):
    network = random_network(seed)
    first = [p.name for p in network.populations[1:3]]
    populations = tuple(replace(p, on_host=p.name in first) for p in network.populations)
    routed = random_mapping(replace(network, populations=populations), seed)
    assert differences(routed, random_inputs(network, 2, seed)) == []


@pytest.mark.parametrize("seed", range(2 * len(KINDS)))
def test_several_inputs(seed):
    """Each input reaches its own population, in the mapping and layer by layer."""
    network = random_network(seed, kind=KINDS[seed % len(KINDS)], inputs=2 + seed % 2)
    inputs = random_inputs(network, 2, seed)
    assert len(network.inputs) == 2 + seed % 2 and inputs.shape[1:] == network.input_shape
    assert differences(random_mapping(network, seed), inputs) == []
    run = execute_network(network, inputs, keep=True)
    for i, sample in enumerate(inputs):
        wanted = reference.run(network, sample)
        assert np.array_equal(wanted.readout, run.readout[i])
        assert all(np.array_equal(m, run.messages[n][i]) for n, m in wanted.messages.items())


@pytest.mark.parametrize("seed", range(6))
def test_each_input_matters(seed):
    """Other values of one input alone change what its population sends, and nothing before the others join."""
    network = random_network(seed, kind="rate", inputs=2)
    inputs = random_inputs(network, 2, seed)
    first, second = (network.input_places[spec.population] for spec in network.inputs)
    mixed = inputs[0].copy()
    mixed[second] = inputs[1][second]
    run = simulate(random_mapping(network, seed), np.stack([inputs[0], mixed]), trace=EVERYTHING).trace.messages
    names = [spec.population for spec in network.inputs]
    assert np.array_equal(run[names[0]][0], run[names[0]][1]) and not np.array_equal(run[names[1]][0], run[names[1]][1])
    assert first.stop <= second.start


@pytest.mark.parametrize("seed", range(6))
def test_several_inputs_through_the_passes(seed):
    network = random_network(seed, inputs=2)
    limits = {"neurons": 32, "in_axons": 900, "out_axons": None, "synapse_bits": 200000, "threshold_profiles": None}
    routed = mapped(network, tight(**limits), partitioner="tiles", chips=4)
    assert differences(routed, random_inputs(network, 2, seed)) == []


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("partitioner", ["tiles", "greedy"])
def test_mappings_of_the_passes(seed, partitioner):
    network = random_network(seed)
    limits = {"neurons": 32, "in_axons": 400, "out_axons": None, "synapse_bits": 120000, "threshold_profiles": None}
    routed = mapped(network, tight(**limits), partitioner=partitioner, chips=4)
    assert routed.cores_used >= 2
    assert differences(routed, random_inputs(network, 2, seed)) == []


def extreme(neuron):
    """The neuron with parameters at the ends of their ranges: states saturate and wrap."""
    return replace(
        neuron, threshold=np.asarray(131071), v0=np.asarray(-(2**23) + 1), bias_mant=neuron.bias_mant * 0 + 4095
    )


@pytest.mark.parametrize("seed", range(10))
def test_wrap_and_saturation(seed):
    network = random_network(seed, kind="lif-leak")
    populations = tuple(
        replace(p, neuron=extreme(p.neuron)) if isinstance(p.neuron, LIF) and i % 2 else p
        for i, p in enumerate(network.populations)
    )
    # Sums shifted far to the left leave the 24 bits of u, and some the 32 bits of a machine word.
    shift = {q.name: np.asarray(-12 - 6 * (i % 3)) for i, q in enumerate(network.projections)}
    projections = tuple(replace(q, shift=shift[q.name]) for q in network.projections)
    network = replace(network, populations=populations, projections=projections)
    inputs = random_inputs(network, 2, seed)
    assert differences(random_mapping(network, seed), inputs) == []


def test_small_chip_and_real_router():
    network = random_network(3, kind="rate")
    limits = chip().core
    routed = mapped(network, chip(replace(limits, out_axons=None, in_axons=None, synapse_bits=None)), chips=8)
    assert differences(routed, random_inputs(network, 3, 1)) == []
