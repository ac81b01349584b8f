"""The mapped kernel's arithmetic at the edges: widths, wraps, overflow, windows, threads."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.neurons import IF, Burst, Reset, SigmaDelta
from nmc.kernels import mapped
from nmc.kernels.mapped import execute_mapped
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime.simulator import simulate
from nmc.testing.random_networks import random_inputs, random_network
from tests.kernels.loop_networks import RULES, loop_inputs, loop_network
from tests.kernels.mapped_programs import chain, graded_chain, integrator, lif, one_core_each
from tests.property.random_mapping import random_mapping


def same(a, b):
    names = ("messages", "potentials", "synops", "fired", "changed")
    read = a.readouts.keys() == b.readouts.keys() and all(
        np.array_equal(a.readouts[n], b.readouts[n]) for n in a.readouts
    )
    return read and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names) and a.overflows == b.overflows


@pytest.mark.parametrize("kind", ["rate", "lif-leak", "reset-zero", "any"])
def test_narrow_and_wide_integers_agree(kind, monkeypatch):
    checked = 0
    for seed in range(8):
        network = random_network(seed, kind=kind)
        program = build_tables(random_mapping(network, seed))
        inputs = random_inputs(network, 2, seed)
        if not mapped._fits_narrow(program, int(np.abs(inputs).max())):
            continue
        narrow = execute_mapped(program, inputs, keep_messages=True, keep_potentials=True)
        with monkeypatch.context() as patch:
            patch.setattr(mapped, "_fits_narrow", lambda program, largest: False)
            wide = execute_mapped(program, inputs, keep_messages=True, keep_potentials=True)
        assert same(narrow, wide)
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["lif", "leak", "rest", "if"])
def test_narrow_and_wide_integers_agree_for_every_rule(kind, rule, monkeypatch):
    checked = 0
    for seed in range(6):
        program, inputs = build_tables(random_mapping(loop_network(seed, kind, rule), seed)), loop_inputs(seed)
        if mapped._fits_narrow(program, int(np.abs(inputs).max())):
            narrow = execute_mapped(program, inputs, keep_messages=True, keep_potentials=True)
            with monkeypatch.context() as patch:
                patch.setattr(mapped, "_fits_narrow", lambda program, largest: False)
                wide = execute_mapped(program, inputs, keep_messages=True, keep_potentials=True)
            assert same(narrow, wide)
            checked += 1
    assert checked >= 2


def test_bursts_and_sigma_delta_are_not_taken_for_single_spikes():
    """Largest messages count in the proof of the narrow type."""
    weight = np.full((1, 40), 30000)
    single = chain([np.eye(40, dtype=int), weight], [lif(1), integrator()])
    assert mapped._fits_narrow(build_tables(one_core_each(single)), 1)
    burst = chain([np.eye(40, dtype=int), weight], [lif(1, fire=Burst(900)), integrator()])
    assert not mapped._fits_narrow(build_tables(one_core_each(burst)), 1)
    zero = np.zeros((), dtype=np.int64)
    delta = chain([np.eye(40, dtype=int), weight], [SigmaDelta(zero + 1, zero, zero), integrator()])
    assert not mapped._fits_narrow(build_tables(one_core_each(delta)), 1)


def test_results_and_counts_do_not_depend_on_threads():
    network = random_network(11)
    program = build_tables(random_mapping(network, 11))
    inputs = random_inputs(network, 9, 2)
    runs = [execute_mapped(program, inputs, keep_messages=True, keep_potentials=True, threads=n) for n in (1, 2, 5)]
    assert same(runs[0], runs[1]) and same(runs[0], runs[2])


def test_samples_do_not_see_each_other():
    network = random_network(12, kind="lif-leak")
    program = build_tables(random_mapping(network, 12))
    inputs = random_inputs(network, 6, 2)
    together = execute_mapped(program, inputs, keep_potentials=True, threads=1)
    for i in range(6):
        alone = execute_mapped(program, inputs[i : i + 1], keep_potentials=True)
        assert np.array_equal(alone.potentials[0], together.potentials[i])


def test_no_samples():
    program = build_tables(random_mapping(random_network(1), 1))
    shape = program.network.by_name["input"].shape
    run = execute_mapped(program, np.zeros((0, *shape), dtype=np.int64))
    assert all(len(values) == 0 for values in run.readouts.values()) and run.fired.sum() == 0


def potentials(network, sample, name):
    run = simulate(one_core_each(network), np.array([sample]), trace=frozenset({"messages", "potentials"}))
    wanted = reference.run(network, np.array(sample))
    for population, values in wanted.potentials.items():
        assert np.array_equal(values, run.trace.potentials[population][0])
    return run.trace.potentials[name][0]


def test_u_wraps_once_and_v_saturates():
    # 131073 << 6 = 2^23 + 64 wraps to -(2^23 - 64); the next step saturates v at -(2^23 - 1).
    network = chain([np.array([[131073]])], [lif(131071)], timesteps=3)
    assert potentials(network, [1], "p0").reshape(-1).tolist() == [-(2**23) + 64, -(2**23) + 1, -(2**23) + 1]
    # Exactly 2^23 does not wrap: u is as large, v saturates just below and fires at the strict bar.
    network = chain([np.array([[131072]])], [replace(lif(131071), reset=Reset.ZERO)], timesteps=1)
    assert potentials(network, [1], "p0").reshape(-1).tolist() == [0]


def test_decay_truncates_towards_zero():
    network = chain([np.array([[-1], [1]])], [lif(131071, du=2047, dv=0)], timesteps=4)
    # u: 64, 96, 112, 120 on both sides of zero, none rounded away from it.
    assert potentials(network, [1], "p0")[:, 1].tolist() == [64, 160, 272, 392]
    assert potentials(network, [1], "p0")[:, 0].tolist() == [-64, -160, -272, -392]


def test_if_counts_in_any_range():
    neuron = IF(np.asarray(2**40), np.asarray(2**39), np.asarray(1), Reset.SUBTRACT)
    network = chain([np.array([[2]])], [neuron], timesteps=5)
    # The bar is reached, not crossed, where v equals it: >= fires.
    got = potentials(network, [2**20], "p0").reshape(-1)
    assert len(set(got.tolist())) > 1


def test_shift_floors_and_a_negative_shift_multiplies():
    network = chain([np.array([[3], [-3]])], [integrator()], timesteps=1, shifts=[np.array([1, -2])], biases=[[0, 0]])
    # 9 >> 1 = 4 and -9 << 2 = -36, each times 64.
    assert potentials(network, [3], "p0").tolist() == [[256, -2304]]
    network = chain([np.array([[-3], [-3]])], [integrator()], timesteps=1, shifts=[np.array([1, 0])], biases=[[0, 4]])
    # floor(-9 / 2) = -5; the bias is added before the shift.
    assert potentials(network, [3], "p0").tolist() == [[-320, -320]]


def test_sums_beyond_31_bits_are_counted_and_exact():
    weight = [np.array([[2**20], [2**10]]), np.array([[2**12, 1]])]
    network = graded_chain(weight)
    routed = one_core_each(network)
    # 2^20 * 2^11 = 2^31 overflows; the next sum, 2^43 + 2^21, does too.
    run = simulate(routed, np.array([[2**11]]))
    assert run.readout.tolist() == [[2**43 + 2**21]]
    assert run.counters.overflows == 2
    run = simulate(routed, np.array([[2**11 - 1]]))
    assert run.counters.overflows == 1
    assert simulate(one_core_each(graded_chain(weight, signed=True)), np.array([[-(2**11)]])).counters.overflows == 1


def test_messages_outside_the_window_are_lost():
    network = chain([np.array([[8]]), np.array([[4]])], [lif(1), integrator()], timesteps=4)
    routed = one_core_each(network)
    last = routed.clusters[-1]
    late = replace(last, axons=(replace(last.axons[0], delay=3),))
    run = simulate(replace(routed, clusters=(*routed.clusters[:-1], late)), np.array([[1]]), curve=True)
    on_time = simulate(routed, np.array([[1]]), curve=True)
    assert on_time.curves[0].reshape(-1).tolist() == [256, 512, 768, 1024]
    # Two steps late: what would arrive after the window is neither integrated nor counted as work.
    assert run.curves[0].reshape(-1).tolist() == [0, 0, 256, 512]
    assert on_time.counters.synops - run.counters.synops == 2
    forever = replace(last, axons=(replace(last.axons[0], delay=1000),))
    assert not simulate(replace(routed, clusters=(*routed.clusters[:-1], forever)), np.array([[1]])).readout.any()
