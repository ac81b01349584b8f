"""Neurons that hear too much get partial sums from relays: the same integers, one step later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import CoreLimits, Target
from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip, sparse_from_synapses
from nmc.ir.network import Network
from nmc.ir.neurons import GradedReLU
from nmc.ir.reference import encode, run
from nmc.ir.verify import verify_program
from nmc.kernels.layerwise import execute_network
from nmc.passes.check import mapping_diagnostics
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.feasibility import exceeded_by_one, feasibility, widest_demand
from nmc.passes.partition.partial_sums import cuts, largest_sum, measured_sum
from nmc.passes.partition.split_fan_in import SplitFanIn
from nmc.runtime.error_model import error_bounds
from nmc.runtime.simulator import simulate
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL, Build, weights
from tests.passes.targets import chip, context, mapped


def graded_chip(in_axons: int, bits: int = 24, **limits: int | None) -> Target:
    made = chip(CoreLimits(neurons=64, in_axons=in_axons, **limits), chips_max=99)
    return replace(made, messages=replace(made.messages, graded_bits=bits))


def split(network: Network, target: Target, inputs: np.ndarray | None = None) -> Network:
    made = SplitFanIn().run(network, context(target, inputs=inputs))
    verify_program(made)
    return made


def samples(network: Network, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(7)
    spec = network.input
    return rng.integers(spec.low, spec.high + 1, (count, *network.input_shape))


def same(network: Network, other: Network) -> None:
    """Every message, potential and read-out of ``network`` is in ``other``."""
    for sample in samples(network):
        wanted, got = run(network, sample), run(other, sample)
        for name, messages in wanted.messages.items():
            np.testing.assert_array_equal(messages, got.messages[name], err_msg=name)
        for name, potentials in wanted.potentials.items():
            np.testing.assert_array_equal(potentials, got.potentials[name], err_msg=name)
        for a, b in zip(wanted.readouts, got.readouts, strict=True):
            np.testing.assert_array_equal(a, b)


OPERATORS = {
    "conv": lambda rng: Conv2d(weights(rng, 4, 6, 3, 3, zeros=0.2), (6, 7, 5), (2, 1), (1, 0, 1, 1)),
    "grouped": lambda rng: Conv2d(weights(rng, 6, 4, 2, 3), (8, 5, 6), (1, 2), (0, 1, 0, 1), (2, 1), groups=2),
    "matrix": lambda rng: Dense(weights(rng, 5, 24, zeros=0.3), (24,), (5,)),
    "matrix of a map": lambda rng: Dense(weights(rng, 5, 48, zeros=0.3), (6, 4, 2), (5,)),
    "matrix of a prime": lambda rng: Dense(weights(rng, 6, 13), (13,), (6,)),
    "pool": lambda rng: Pool(np.array([2, 4, 6]), (3, 6, 6), (3, 3), (2, 2), (1, 1, 0, 0)),
    "skip": lambda rng: Skip(np.array([2, 0, 6]), (3, 2, 2)),
    "sparse": lambda rng: sparse_from_synapses(
        rng.integers(0, 9, 60), rng.integers(0, 30, 60), weights(rng, 60), (30,), (9,)
    ),
}


@pytest.mark.parametrize("kind", OPERATORS)
def test_two_steps_are_the_operator(kind):
    rng = np.random.default_rng(1)
    operator = OPERATORS[kind](rng)
    matrix = dense(operator)
    found = list(cuts(operator, 2))
    assert found or kind == "skip"
    for cut in found:
        parts, total = dense(cut.parts), dense(cut.total)
        np.testing.assert_array_equal(total @ parts, matrix)
        # No synapse is made twice, and none is new.
        assert np.count_nonzero(parts) == np.count_nonzero(matrix)
        assert set(np.unique(total)) <= {0, 1} and (np.count_nonzero(total, axis=0) <= 1).all()
        per_relay = parts.shape[0] // len(cut.channel)
        per_output = matrix.shape[0] // operator.out_shape[0]
        relays, outputs = np.nonzero(total.T)
        np.testing.assert_array_equal(cut.channel[relays // per_relay], outputs // per_output)


def dense(operator) -> np.ndarray:
    target, source, weight = operator.synapses()
    made = np.zeros((int(np.prod(operator.out_shape)), int(np.prod(operator.in_shape))), dtype=np.int64)
    np.add.at(made, (target, source), weight)
    return made


@pytest.mark.parametrize("kind", OPERATORS)
def test_bounds_hold_and_are_reached(kind):
    rng = np.random.default_rng(2)
    operator = OPERATORS[kind](rng)
    for cut in list(cuts(operator, 2))[:2]:
        matrix = dense(cut.parts)
        extremes = np.where(matrix > 0, 5, -3), np.where(matrix > 0, -3, 5)
        most = max(int(np.abs((matrix * e).sum(axis=1)).max()) for e in extremes)
        # The worst channel of a kernel may see all of it at no place.
        assert largest_sum(cut.parts, -3, 5) >= most
        assert largest_sum(cut.parts, -3, 5) == most or isinstance(operator, Conv2d)
        shape = operator.in_shape
        messages = rng.integers(-9, 9, (4, *shape))
        flat = np.moveaxis(messages, 1, -1).reshape(4, -1)
        sums = messages.reshape(4, -1) @ dense(cut.parts).T
        assert measured_sum(cut, flat) == np.abs(sums).max()


@pytest.mark.parametrize("in_axons", [10, 30])
@pytest.mark.parametrize("name", SMALL)
def test_the_same_integers(name, in_axons):
    network, target = SMALL[name](), graded_chip(in_axons)
    made = split(network, target)
    assert len(made.populations) > len(network.populations) or in_axons == 30
    same(network, made)
    model = DemandModel.of(made, target, {})
    names = {p.name for p in made.populations}
    assert {f.layer for f in feasibility(model) if "in_axons" in f.exceeded} == set()
    assert names >= {p.name for p in network.populations}


@pytest.mark.parametrize("seed", range(40))
def test_the_same_integers_in_random_networks(seed):
    network = random_network(seed)
    target = graded_chip(12)
    spec = network.input
    inputs = np.random.default_rng(seed).random((2, *spec.shape)).astype(np.float32) * spec.scale * spec.high
    made = split(network, target, inputs)
    for sample in encode(network, inputs):
        wanted, got = execute_network(network, sample[None]), execute_network(made, sample[None])
        for a, b in zip(wanted.readouts, got.readouts, strict=True):
            np.testing.assert_array_equal(a, b)


def test_random_networks_are_split_often():
    made = [len(split(random_network(seed), graded_chip(12)).populations) for seed in range(40)]
    before = [len(random_network(seed).populations) for seed in range(40)]
    assert sum(a > b for a, b in zip(made, before, strict=True)) >= 10


@pytest.mark.parametrize("name", ["conv", "residual", "grouped", "sparse"])
def test_what_is_split_is_mapped_and_runs(name):
    network, target = SMALL[name](), graded_chip(8 if name == "grouped" else 12)
    made = split(network, target)
    assert made is not network
    routed = mapped(made, target, partitioner="overlap", placer="row-major", chips=90)
    assert mapping_diagnostics(routed, target) == ()
    x = samples(network)
    wanted, got = execute_network(network, x), simulate(routed, x)
    np.testing.assert_array_equal(got.readout, wanted.readout)


def test_a_skip_beside_a_split_branch_waits_one_step_more():
    network = SMALL["residual"]()
    made = split(network, graded_chip(20))
    by_name = {p.name: p for p in made.projections}
    assert [p.name for p in made.populations if p.name not in network.by_name] == ["b/parts", "c/parts", "d/parts"]
    assert by_name["a>c#1"].delay == made.by_name["c"].start - made.by_name["a"].start == 4


def test_synapse_memory_of_one_neuron_is_split_too():
    rng = np.random.default_rng(0)
    network = Build((200,)).add("a", [("in", Dense(weights(rng, 3, 200), (200,), (3,)), 1)]).network()
    target = graded_chip(1000, synapse_bits=8000)
    model = DemandModel.of(network, target, {})
    assert exceeded_by_one(model, widest_demand(model, network.by_name["a"])) == ("synapse_bits",)
    made = split(network, target)
    same(network, made)
    assert not any(fit.exceeded for fit in feasibility(DemandModel.of(made, target, {})))


def test_targets_without_graded_messages_keep_the_network():
    network = SMALL["conv"]()
    binary = chip(CoreLimits(64, 10))
    binary = replace(binary, messages=replace(binary.messages, graded_bits=0))
    assert split(network, binary) is network
    assert split(network, graded_chip(1000)) is network


def test_sums_that_fit_no_message_are_not_sent():
    network = SMALL["conv"]()
    assert split(network, graded_chip(10, bits=6)) is network


def graded_net() -> Network:
    rng = np.random.default_rng(3)
    first = Conv2d(weights(rng, 8, 1, 3, 3), (1, 6, 6), pads=(1, 1, 1, 1))
    second = Conv2d(weights(rng, 4, 8, 3, 3), (8, 6, 6), pads=(1, 1, 1, 1))
    build = Build((1, 6, 6)).add("a", [("in", first, 1)], neuron=GradedReLU(), bias=rng.integers(-99, 99, 8))
    build.add("b", [("a", second, 1)], neuron=GradedReLU(), bias=rng.integers(-99999, 99999, 4))
    network = build.network(timesteps=1)
    shifted = tuple(replace(p, shift=np.arange(p.connectivity.out_shape[0]) % 5 + 8) for p in network.projections)
    return replace(network, projections=shifted, scales={"in": np.array(1.0), "a": np.ones(8), "b": np.ones(4)})


def test_graded_sums_are_rounded_once_and_not_in_parts():
    network = graded_net()
    inputs = np.random.default_rng(0).random((3, 1, 6, 6)).astype(np.float32)
    made = split(network, graded_chip(40), inputs)
    assert len(made.populations) == len(network.populations) + 1
    same(network, made)


def test_without_inputs_graded_sums_have_no_bound():
    network = graded_net()
    assert split(network, graded_chip(40)) is network
    inputs = np.ones((1, 1, 6, 6), dtype=np.float32)
    assert split(network, graded_chip(40, bits=12), inputs) is network


def test_the_note_says_what_was_added():
    network, target = SMALL["conv"](), graded_chip(30)
    noted = context(target)
    SplitFanIn().run(network, noted)
    texts = [d.message for d in noted.diagnostics.items if d.slug == "fan-in-split"]
    assert any(text.startswith("one neuron of 'b' hears more than a core can: 192 relay neurons") for text in texts)


@pytest.mark.parametrize("seed", range(3))
def test_layers_that_are_split_have_the_bounds_of_the_whole(seed):
    """Weights of both, and so the bounds on their errors, are the same numbers."""
    network = graded_net()
    made = split(network, graded_chip(40), np.random.default_rng(0).random((3, 1, 6, 6)).astype(np.float32))
    rng = np.random.default_rng(seed)
    noisy = tuple(
        replace(p, connectivity=p.connectivity.with_weight(p.connectivity.weight + rng.uniform(-1, 1)))
        for p in network.projections
    )
    spiking = replace(network, projections=noisy)
    wanted = {p.name: rng.normal(size=(5, *p.shape)) for p in network.populations}
    whole, parts = (error_bounds(n, spiking, wanted) for n in (network, made))
    assert set(parts) == set(whole)
    for name, bound in whole.items():
        assert parts[name] == pytest.approx(bound, rel=1e-9)
