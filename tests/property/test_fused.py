"""Whole layers in vectors are the tables step by step: every message, read-out and count, in every tier."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.neurons import IF, LIF, Reset
from nmc.kernels.fire_rules import Cells, cells_of
from nmc.kernels.fused_run import execute_fused
from nmc.kernels.mapped import execute_mapped, execute_steps
from nmc.kernels.mapped_tables import build_tables
from nmc.kernels.neurons import model_of
from nmc.kernels.tiers import available_tiers
from nmc.testing.random_networks import random_inputs, random_network
from nmc.testing.waiting import with_waits
from tests.kernels.mapped_programs import graded_chain, one_core_each
from tests.kernels.rate_networks import rate_inputs, rate_network
from tests.property.random_mapping import random_mapping

TIERS = available_tiers()
SEEDS = {
    "rate": (2,),
    "lif-leak": (2, 4),
    "reset-zero": (2,),
    "if": (3, 4),
    "signed": (1, 3),
    "ternary": (0, 3),
    "burst": (0, 3),
    "refractory": (0, 1, 4),
}
"""Random networks that fit bytes and 32 bits."""


def assert_equal(one, other):
    for name in ("messages", "synops", "fired", "changed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.overflows == other.overflows
    assert set(one.readouts) == set(other.readouts)
    for name, values in one.readouts.items():
        np.testing.assert_array_equal(values, other.readouts[name])


@pytest.mark.parametrize("seed", range(24))
def test_every_tier_is_the_tables_step_by_step(seed):
    network = rate_network(seed)
    program, inputs = build_tables(random_mapping(network, seed)), rate_inputs(network, seed)
    steps = execute_steps(program, inputs, keep_messages=True)
    # Some need more than bytes or 24 bits; how few, the next test says.
    for tier in TIERS if program.fused is not None else ():
        assert_equal(execute_fused(program.fused, inputs, tier, keep_messages=True), steps)
    for index, sample in enumerate(inputs):
        trace = reference.run(network, sample)
        for name, messages in trace.messages.items():
            slots = program.slots_by_population[name]
            flat = messages.reshape(len(messages), -1)[:, program.neurons[slots]]
            np.testing.assert_array_equal(steps.messages[index][:, slots], flat)


def test_most_rate_networks_are_fused():
    fused = [build_tables(random_mapping(rate_network(seed), seed)).fused is not None for seed in range(24)]
    assert sum(fused) >= 18


@pytest.mark.parametrize("seed", range(15))
def test_random_networks_whichever_way_they_run(seed):
    network = random_network(seed, kind="rate")
    program, inputs = build_tables(random_mapping(network, seed)), random_inputs(network, 3, seed)
    assert_equal(
        execute_mapped(program, inputs, keep_messages=True, threads=2),
        execute_steps(program, inputs, keep_messages=True),
    )


SORTS = [(kind, seed) for kind, seeds in SEEDS.items() for seed in seeds]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(("kind", "seed"), SORTS)
def test_every_neuron_in_vectors_is_the_tables_step_by_step(kind, seed, waits):
    network = random_network(seed, kind=kind)
    network = with_waits(network, seed) if waits else network
    program, inputs = build_tables(random_mapping(network, seed)), random_inputs(network, 2, seed)
    assert program.fused is not None
    steps = execute_steps(program, inputs, keep_messages=True)
    # The neurons of all tiers are the same code: other tests go through their sums.
    for tier in (TIERS[0], TIERS[-1]):
        assert_equal(execute_fused(program.fused, inputs, tier, keep_messages=True), steps)


def test_those_networks_have_all_sorts_of_neurons():
    sorts, waiting = set(), 0
    for kind, seed in SORTS:
        network = random_network(seed, kind=kind)
        for population in with_waits(network, seed).populations:
            waiting += population.wait > 0
            neuron = population.neuron
            if isinstance(neuron, LIF | IF):
                sorts.add((cells_of(model_of(neuron)), neuron.reset))
    plain = {Cells(rule, leaky, ()) for rule in ((), (1,), (1, 1)) for leaky in ((), (1,))}
    assert {cells for cells, _ in sorts} >= plain and waiting > 10
    assert any(cells.rests for cells, _ in sorts) and {reset for _, reset in sorts} == set(Reset)


VALUES = [("graded", seed) for seed in (6, 9, 10)] + [("sigma-delta", seed) for seed in (0, 2, 3, 13)]


@pytest.mark.parametrize(("kind", "seed"), VALUES)
def test_values_as_words_are_the_tables_step_by_step(kind, seed):
    network = random_network(seed, kind=kind)
    program, inputs = build_tables(random_mapping(network, seed)), random_inputs(network, 3, seed)
    assert program.fused is not None
    steps = execute_steps(program, inputs, keep_messages=True)
    for tier in (TIERS[0], TIERS[-1]):
        assert_equal(execute_fused(program.fused, inputs, tier, keep_messages=True), steps)


@pytest.mark.parametrize(("first", "second"), [(60, 1), (1, 30_001)], ids=["message", "sum"])
def test_samples_whose_values_do_not_fit_go_step_by_step(first, second):
    network = graded_chain([np.full((3, 4), first), np.full((2, 3), second)])
    network = replace(network, inputs=(replace(network.input, low=0, high=20_000),))
    program = build_tables(one_core_each(network))
    small, large = np.array([[1, 0, 0, 0]]), np.array([[9, 10_000, 10_000, 10_000]])
    inputs = np.concatenate([small, large, small])
    assert program.fused is not None and program.fused.takes(inputs)
    with pytest.raises(OverflowError):
        execute_fused(program.fused, inputs, TIERS[0])
    run = execute_mapped(program, inputs, keep_messages=True, threads=2)
    assert_equal(run, execute_steps(program, inputs, keep_messages=True))
    # The others stay in their layers.
    alone = execute_fused(program.fused, small, TIERS[0], keep_messages=True)
    assert_equal(alone, execute_steps(program, small, keep_messages=True))


def small():
    return rate_network(
        next(s for s in range(40) if build_tables(random_mapping(rate_network(s), s)).fused), rules=True
    )


def test_inputs_beyond_the_bounds_go_step_by_step():
    network = small()
    program = build_tables(random_mapping(network, 1))
    inputs = rate_inputs(network, 1)
    assert program.fused is not None and program.fused.takes(inputs)
    inputs[0] = network.input.high + 1
    assert not program.fused.takes(inputs)
    assert not program.fused.takes(inputs[:0])
    assert len(execute_mapped(program, inputs).fired) == len(program.neurons)


def broken(routed, change):
    """The mapping with one cluster's axons changed."""
    number, cluster = next((i, c) for i, c in enumerate(routed.clusters) if c.axons)
    clusters = list(routed.clusters)
    clusters[number] = replace(cluster, axons=change(cluster.axons))
    return replace(routed, clusters=tuple(clusters))


@pytest.mark.parametrize(
    "change",
    [
        lambda axons: axons[1:],
        lambda axons: (*axons, axons[0]),
        lambda axons: (replace(axons[0], delay=axons[0].delay + 1), *axons[1:]),
        lambda axons: (
            (replace(axons[0], region=axons[0].region[:1]), *axons[1:]) if len(axons[0].region) > 1 else axons[1:]
        ),
    ],
    ids=["lost", "double", "late", "partly"],
)
def test_a_mapping_that_is_not_the_network_is_never_fused(change):
    network = small()
    routed = random_mapping(network, 1)
    assert build_tables(routed).fused is not None
    assert build_tables(broken(routed, change)).fused is None


def test_a_lost_route_and_a_lost_slice_are_seen():
    routed = random_mapping(small(), 1)
    assert build_tables(replace(routed, routes=routed.routes[1:])).fused is None
    used = max(routed.clusters, key=lambda c: len(c.slices))
    doubled = replace(used, slices=(*used.slices, used.slices[0]), origins=(*used.origins, used.origins[0]))
    clusters = tuple(doubled if c is used else c for c in routed.clusters)
    assert build_tables(replace(routed, clusters=clusters)).fused is None
