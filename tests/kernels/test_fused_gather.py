"""Layers that add up the rows of those that spiked are the tables step by step, and are taken where few spike."""

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Dense, Skip
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import IF, LIF, Integrator, Reset, Source
from nmc.ir.origin import Origin
from nmc.kernels.fused_gather import chosen
from nmc.kernels.fused_run import execute_fused
from nmc.kernels.mapped import execute_steps
from nmc.kernels.mapped_tables import build_tables
from nmc.kernels.tiers import available_tiers
from tests.property.random_mapping import random_mapping

ORIGIN = Origin("node", "Conv", "y")
TIERS = available_tiers()
ZERO = np.zeros((), dtype=np.int64)


def network_of(heard, channels, side=5, timesteps=11, largest=60, threshold=400, model="lif", stride=1, seed=0):
    """An input, two layers of which the second can add up rows, a third that skips the second, and a read-out."""
    rng = np.random.default_rng(seed)
    out = -(-side // stride)

    def conv(source, target, kernel, most, stride=1):
        pads = (kernel // 2,) * 4
        return Conv2d(rng.integers(-most, most + 1, (target, *source[:1], kernel, kernel)), source, (stride,) * 2, pads)

    def neuron(shape):
        bar, reset = (
            rng.integers(threshold // 2, threshold, (shape[0], 1, 1)),
            Reset.ZERO if seed % 2 else Reset.SUBTRACT,
        )
        if model == "if":
            return IF(bar, rng.integers(-9, 10, (shape[0], 1, 1)), np.zeros((shape[0], 1, 1), np.int64), reset=reset)
        return LIF(
            bar, rng.integers(-9, 10, (shape[0], 1, 1)), ZERO, rng.integers(0, 99, (shape[0], 1, 1)), reset=reset
        )

    shapes = {"in": (1, side, side), "a": (heard, side, side), "b": (channels, out, out), "c": (channels, out, out)}
    populations = [Population("in", shapes["in"], Source(8), ORIGIN, on_host=True)]
    for number, name in enumerate(("a", "b", "c"), start=1):
        populations.append(Population(name, shapes[name], neuron(shapes[name]), ORIGIN, start=number))
    populations.append(Population("out", (3,), Integrator(ZERO, ZERO, ZERO), ORIGIN, start=4))
    shift = np.asarray(-1)
    projections = (
        Projection("in>a", "in", "a", conv(shapes["in"], heard, 3, 40), ORIGIN),
        Projection("a>b", "a", "b", conv(shapes["a"], channels, 3, largest, stride), ORIGIN, shift=shift),
        Projection("b>c", "b", "c", conv(shapes["b"], channels, 1, largest), ORIGIN),
        Projection("a>c", "b", "c", Skip(rng.integers(1, 40, channels), shapes["b"]), ORIGIN),
        Projection(
            "c>out", "c", "out", Dense(rng.integers(-5, 6, (3, channels * out * out)), shapes["c"], (3,)), ORIGIN
        ),
    )
    scales = {population.name: np.ones(()) for population in populations}
    spec, output = InputSpec("in", shapes["in"], 1.0, 0, 255), OutputSpec("out", np.ones(()), (3,))
    return Network("gather", tuple(populations), projections, (spec,), (output,), timesteps, scales)


def inputs_of(network, count=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *network.input.shape))


def assert_equal(one, other):
    for name in ("messages", "synops", "fired", "changed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name, values in one.readouts.items():
        np.testing.assert_array_equal(values, other.readouts[name])


FORMS = [
    {"heard": 3, "channels": 32},
    {"heard": 20, "channels": 40, "channels_gather": False},
    {"heard": 40, "channels": 64, "stride": 2, "seed": 1},
    {"heard": 70, "channels": 96, "model": "if", "side": 3},
    {"heard": 33, "channels": 32, "model": "if", "timesteps": 16, "seed": 3},
    {"heard": 128, "channels": 64, "side": 3, "timesteps": 3, "largest": 127, "threshold": 9000},
]


@pytest.mark.parametrize("tiers", [TIERS[:1], pytest.param(TIERS[1:], marks=pytest.mark.slow)], ids=["first", "others"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_added_up_are_the_tables_step_by_step(form, tiers):
    form = dict(form)
    can = form.pop("channels_gather", True)
    network = network_of(**form)
    inputs = inputs_of(network)
    program = build_tables(random_mapping(network, form.get("seed", 0)))
    steps = execute_steps(program, inputs, keep_messages=True)
    assert program.fused is not None
    slots = program.slots_by_population["b"]
    assert 0 < steps.fired[slots].sum() < steps.messages[:, :, slots].size
    assert set(program.gathers) == ({2, 3} if can else set())
    for tier in tiers:
        assert_equal(execute_fused(program.fused, inputs, tier, keep_messages=True, gathered=program.gathers), steps)
        assert_equal(execute_fused(program.fused, inputs, tier, keep_messages=True, gathered=()), steps)
        assert_equal(execute_fused(program.fused, inputs, tier, keep_messages=True, threads=2), steps)


def test_sums_that_16_bits_do_not_hold_are_added_in_32():
    network = network_of(128, 64, side=3, largest=127)
    plans = build_tables(random_mapping(network, 0)).gathers
    assert not plans[2].narrow
    assert plans[3].narrow


def test_weights_that_are_no_bytes_are_not_gathered():
    network = network_of(4, 32, largest=200)
    assert 2 not in build_tables(random_mapping(network, 0)).gathers


def test_few_spikes_and_many_channels_make_rows_faster():
    program = build_tables(random_mapping(network_of(64, 128, side=3), 0))
    names = [population.name for population in program.network.populations]
    for tier in TIERS:
        assert set(chosen(program.fused, tier, dict.fromkeys(names, 0.01))) >= {2}
        assert not chosen(program.fused, TIERS[0], dict.fromkeys(names, 0.9))


def test_a_thread_chooses_after_its_first_sample():
    network = network_of(64, 128, side=3, threshold=60000)
    program, inputs = build_tables(random_mapping(network, 0)), inputs_of(network, 3)
    run = execute_fused(program.fused, inputs, TIERS[0], keep_messages=True, threads=1)
    assert_equal(run, execute_steps(program, inputs, keep_messages=True))
    (worker,) = program.fused.spare
    assert 2 in worker.gatherer.plans
    assert run.fired[program.slots_by_population["a"]].sum() > 0
