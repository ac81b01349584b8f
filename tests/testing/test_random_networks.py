from collections import Counter

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.connectivity import Conv2d
from nmc.ir.neurons import IF, LIF, NO_MEMORY, GradedReLU, Reset, Source
from nmc.testing.random_networks import GRADED_LIMIT, KINDS, SUM_LIMIT, random_inputs, random_network

SEEDS = range(100)


@pytest.fixture(scope="module")
def networks():
    return [random_network(seed) for seed in SEEDS]


def fractions(network):
    """Messages per neuron and step by population that computes messages, on fresh inputs."""
    traces = [reference.run(network, x) for x in random_inputs(network, 3, 1234)]
    models = (LIF, IF, GradedReLU)
    return {
        p.name: np.mean([np.count_nonzero(t.messages[p.name]) / t.messages[p.name].size for t in traces])
        for p in network.populations
        if isinstance(p.neuron, models)
    }


def test_populations_fire_neither_never_nor_always(networks):
    inside = [all(0.01 <= r <= 0.9 for r in fractions(network).values()) for network in networks]
    assert sum(inside) >= 80


def test_sizes_delays_and_windows(networks):
    for network in networks:
        assert 50 <= sum(p.neurons for p in network.populations) <= 400
        assert 1 <= network.timesteps <= 16
        for p in network.projections:
            assert 1 <= p.delay <= 8
            assert network.by_name[p.target].start == network.by_name[p.source].start + p.delay
            weight = p.connectivity.weight
            assert weight.dtype == np.int64 and np.all(weight % 2 == 0) and np.abs(weight).max() <= 254


def test_parameters_fit_the_hardware_format(networks):
    for network in networks:
        for population in network.populations:
            neuron = population.neuron
            if isinstance(neuron, LIF):
                assert neuron.threshold.min() >= 1 and neuron.threshold.max() <= 131071
                assert np.abs(neuron.bias_mant).max() <= 4095
                assert neuron.bias_exp.min() >= 0 and neuron.bias_exp.max() <= 7


def test_sums_stay_inside_their_limits(networks):
    for network in networks:
        limit = GRADED_LIMIT if network.is_graded else SUM_LIMIT
        trace = reference.run(network, random_inputs(network, 1, 77)[0])
        for population in network.populations:
            for step in range(network.timesteps):
                parts = [
                    reference.projected(p, trace.messages[p.source][step]).reshape(-1)
                    for p in network.incoming[population.name]
                ]
                if parts:
                    assert np.abs(sum(parts)).max() < limit


def test_every_feature_occurs(networks):
    seen = Counter()
    for network in networks:
        seen["bias input"] += network.input.mode == "bias"
        seen["split"] += network.input.split_sign
        for q in network.projections:
            c = q.connectivity
            seen[type(c).__name__] += 1
            seen["negative shift"] += bool(np.any(q.shift < 0))
            seen["shift per channel"] += q.shift.ndim == 1
            seen["projection bias"] += q.bias is not None
            if isinstance(c, Conv2d):
                seen["stride"] += c.stride != (1, 1)
                seen["dilation"] += c.dilation != (1, 1)
                seen["depthwise"] += c.groups == c.in_shape[0] > 1
                seen["groups"] += 1 < c.groups < c.in_shape[0]
                seen["uneven pads"] += c.pads[:2] != c.pads[2:]
        for p in network.populations:
            n = p.neuron
            seen[type(n).__name__] += 1
            seen["joined"] += len(network.incoming[p.name]) > 1
            if isinstance(n, Source):
                seen["signed"] += n.signed
            if isinstance(n, LIF):
                seen["u leak"] += n.du != NO_MEMORY
                seen["v leak"] += n.dv != 0
                seen["zero"] += n.reset is Reset.ZERO
                seen["thresholds"] += n.threshold.size > 1
    names = ["Dense", "Conv2d", "Pool", "Skip", "Sparse", "LIF", "IF", "GradedReLU", "Graded", "Integrator", "Source"]
    names += ["stride", "dilation", "depthwise", "groups", "joined", "signed", "zero", "thresholds", "split"]
    names += ["uneven pads", "u leak", "v leak", "bias input", "negative shift", "shift per channel", "projection bias"]
    assert {name: seen[name] for name in names if seen[name] < 3} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_means_one_network(kind):
    a, b = random_network(5, kind=kind), random_network(5, kind=kind)
    assert [p.shape for p in a.populations] == [p.shape for p in b.populations]
    for p, q in zip(a.projections, b.projections, strict=True):
        assert np.array_equal(p.connectivity.weight, q.connectivity.weight)
    x = random_inputs(a, 4, 9)
    assert np.array_equal(x, random_inputs(b, 4, 9))
    assert x.shape == (4, *a.by_name[a.input.population].shape)
    assert x.min() >= min(a.input.low, 0) and x.max() <= a.input.high


def test_kinds_keep_their_word():
    for seed in range(6):
        for n in (p.neuron for p in random_network(seed, kind="reset-zero").populations if isinstance(p.neuron, LIF)):
            assert n.reset is Reset.ZERO and n.du == NO_MEMORY and n.dv == 0
        assert random_network(seed, kind="graded").is_graded
        assert not random_network(seed, kind="rate").is_graded
    with pytest.raises(ValueError, match="not one of"):
        random_network(0, kind="analog")
