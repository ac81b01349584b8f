from collections import Counter

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.connectivity import Conv2d
from nmc.ir.neurons import IF, LIF, NO_MEMORY, Burst, GradedReLU, Integrator, Reset, SigmaDelta, Signed, Source
from nmc.ir.verify import verify_program
from nmc.testing.random_networks import KINDS, random_inputs, random_network
from nmc.testing.random_projections import DELTA_LIMIT, GRADED_LIMIT, SUM_LIMIT

SEEDS = range(100)


@pytest.fixture(scope="module")
def networks():
    return [random_network(seed) for seed in SEEDS]


def fractions(network):
    """Messages per neuron and step by population that computes messages, on fresh inputs."""
    traces = [reference.run(network, x) for x in random_inputs(network, 3, 1234)]
    models = (LIF, IF, GradedReLU, SigmaDelta)
    return {
        p.name: np.mean([np.count_nonzero(t.messages[p.name]) / t.messages[p.name].size for t in traces])
        for p in network.populations
        if isinstance(p.neuron, models) and p.name != network.output.population
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
            if p.name in network.recurrent:
                assert p.delay <= 4
                continue
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
        trace = reference.run(network, random_inputs(network, 1, 77)[0])
        for population in network.populations:
            limit = GRADED_LIMIT if network.is_graded else SUM_LIMIT
            if isinstance(population.neuron, SigmaDelta):
                limit = DELTA_LIMIT
                assert np.abs(trace.potentials[population.name]).max() < DELTA_LIMIT
            for step in range(network.timesteps):
                assert np.abs(received(network, population, trace, step)).max() < limit


def received(network, population, trace, step):
    """The sums that a population receives in a step of its window."""
    total = np.zeros(population.shape, dtype=np.int64)
    for p in network.incoming[population.name]:
        then = step + population.start - p.delay - network.by_name[p.source].start
        if 0 <= then < network.timesteps:
            total += reference.projected(p, trace.messages[p.source][then]).reshape(population.shape)
    return total


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
                seen["sent once"] += n.once
            if isinstance(n, LIF):
                seen["u leak"] += n.du != NO_MEMORY
                seen["v leak"] += n.dv != 0
                seen["zero"] += n.reset is Reset.ZERO
                seen["thresholds"] += n.threshold.size > 1
                seen["refractory"] += n.refractory > 0
            if isinstance(n, LIF | IF):
                model, fire = type(n).__name__, n.fire
                seen[f"{model} {type(fire).__name__} {n.reset}"] += 1
                if isinstance(fire, Signed):
                    seen["guarded" if fire.guarded else "not guarded"] += 1
                if isinstance(fire, Burst):
                    seen["large bursts"] += fire.levels > 3
            if isinstance(n, SigmaDelta):
                seen["rectified deltas" if n.rectify else "linear deltas"] += 1
                seen["shifted deltas" if n.shift.any() else "deltas without shift"] += 1
                seen["deltas beside spikes"] += isinstance(
                    network.by_name[network.output.population].neuron, Integrator
                )
        for q in network.projections:
            if q.name in network.recurrent:
                seen["self loop" if q.source == q.target else "loop over two"] += 1
                seen[f"loop delay {q.delay}"] += 1
    names = ["Dense", "Conv2d", "Pool", "Skip", "Sparse", "LIF", "IF", "GradedReLU", "Graded", "Integrator", "Source"]
    names += ["stride", "dilation", "depthwise", "groups", "joined", "signed", "zero", "thresholds", "split"]
    names += ["uneven pads", "u leak", "v leak", "bias input", "negative shift", "shift per channel", "projection bias"]
    names += ["refractory", "guarded", "not guarded", "large bursts", "sent once", "self loop", "loop over two"]
    names += [f"{m} {f} {r}" for m in ("LIF", "IF") for f in ("Binary", "Burst", "Signed") for r in Reset]
    names += ["rectified deltas", "linear deltas", "shifted deltas", "deltas without shift", "deltas beside spikes"]
    names += [f"loop delay {steps}" for steps in (1, 2, 3, 4)]
    assert {name: seen[name] for name in names if seen[name] < 3} == {}


def test_every_message_that_a_rule_allows_is_sent(networks):
    """Spikes taken back, bursts of more than one, changes of both signs."""
    seen = Counter()
    for network in networks:
        trace = reference.run(network, random_inputs(network, 1, 5)[0])
        for p in network.populations:
            sent = trace.messages[p.name]
            if isinstance(p.neuron, LIF | IF):
                seen[type(p.neuron.fire).__name__, "below"] += bool(np.any(sent < 0))
                seen[type(p.neuron.fire).__name__, "above"] += bool(np.any(sent > 1))
            elif isinstance(p.neuron, SigmaDelta):
                seen["delta", "below"] += bool(np.any(sent < 0))
                seen["delta", "above"] += bool(np.any(sent > 1))
    assert min(seen["Signed", "below"], seen["Burst", "above"], seen["delta", "below"], seen["delta", "above"]) >= 5
    assert seen["Binary", "below"] == seen["Binary", "above"] == seen["Burst", "below"] == seen["Signed", "above"] == 0


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


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_well_formed(kind):
    for seed in range(3):
        verify_program(random_network(seed, kind=kind))


def test_new_kinds_keep_their_word():
    for seed in range(2):
        hidden = {
            kind: [p.neuron for p in random_network(seed, kind=kind).populations if isinstance(p.neuron, LIF | IF)]
            for kind in ("signed", "ternary", "burst", "refractory", "if")
        }
        assert all(isinstance(n.fire, Signed) for kind in ("signed", "ternary") for n in hidden[kind])
        assert all(n.reset is Reset.ZERO and not n.fire.guarded for n in hidden["ternary"])
        assert all(isinstance(n.fire, Burst) for n in hidden["burst"])
        assert all(n.refractory >= 1 for n in hidden["refractory"])
        assert all(isinstance(n, IF) for n in hidden["if"])
        deltas = random_network(seed, kind="sigma-delta")
        assert all(isinstance(p.neuron, SigmaDelta) for p in deltas.populations[1:])
        assert not deltas.by_name[deltas.output.population].neuron.rectify
        assert random_network(seed, kind="recurrent").recurrent


def test_kinds_keep_their_word():
    for seed in range(6):
        for n in (p.neuron for p in random_network(seed, kind="reset-zero").populations if isinstance(p.neuron, LIF)):
            assert n.reset is Reset.ZERO and n.du == NO_MEMORY and n.dv == 0
        assert random_network(seed, kind="graded").is_graded
        assert not random_network(seed, kind="rate").is_graded
    with pytest.raises(ValueError, match="not one of"):
        random_network(0, kind="analog")
