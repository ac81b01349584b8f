"""Quantized networks: stored numbers are legal, bounds hold, meaning is kept."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import Target
from nmc.ir.network import Network
from nmc.ir.neurons import LIF, Integrator, Reset
from nmc.ir.reference import decode, encode, projected, run
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.quantize.correct_bias import CorrectBias
from nmc.passes.quantize.fixed_point import mantissa_and_exponent, weight_grid
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.quantize.quantize_rate import SUM_LIMIT, QuantizeRate
from nmc.testing.builders import context_for, residual_graph, small_target

RNG = np.random.default_rng(11)
X = RNG.uniform(size=(48, 2, 6, 6)).astype(np.float32)
GRAPH = residual_graph(4)
EXPECTED = execute_graph(GRAPH, X, ["logits"])["logits"]


def error(network: Network) -> float:
    got = decode(network, execute_network(network, encode(network, X)).readout)
    return float(np.sqrt(((got - EXPECTED) ** 2).mean() / EXPECTED.var()))


def rate(
    target: Target | None = None, *, timesteps: int = 32, bits: int | None = None, reset=Reset.SUBTRACT
) -> Network:
    context = context_for(GRAPH, X, target)
    network = AlignWindows().run(ConvertRate(timesteps, reset).run(GRAPH, context), context)
    return QuantizeRate(bits).run(network, context)


@pytest.mark.parametrize("bits", [None, 8, 6, 5, 4])
def test_stored_numbers_are_what_the_chip_stores(bits: int | None) -> None:
    network = rate(bits=bits)
    assert network.is_integer
    step = 2 if bits is None else 2 << (8 - bits)
    for projection in network.projections:
        weight = projection.connectivity.weight
        assert (weight % step == 0).all()
        assert np.abs(weight).max() <= 254
    for population in network.populations:
        neuron = population.neuron
        if isinstance(neuron, LIF):
            assert neuron.threshold.min() >= 1
            assert neuron.threshold.max() <= 131071
        if isinstance(neuron, LIF | Integrator):
            assert np.abs(neuron.bias_mant).max() <= 4095
            assert neuron.bias_exp.max() <= 7


def test_weights_fill_their_range() -> None:
    for projection in rate().projections:
        if projection.source != "stem_relu" or projection.target != "sum_relu":
            assert np.abs(projection.connectivity.weight).max() == 254


def test_no_sum_leaves_24_bits() -> None:
    network = rate()
    for sample in encode(network, X[:4]):
        trace = run(network, sample)
        for projection in network.projections:
            for message in trace.messages[projection.source]:
                assert np.abs(projected(projection, message)).max() <= SUM_LIMIT
    # The worst case that the bound allows for: every message at its largest.
    worst = np.full(network.by_name["input"].shape, network.input.high)
    stem = next(p for p in network.projections if p.source == "input")
    assert np.abs(projected(stem, worst)).max() <= SUM_LIMIT


def test_quantization_costs_little() -> None:
    context = context_for(GRAPH, X)
    real = AlignWindows().run(ConvertRate(32).run(GRAPH, context), context)
    assert error(rate()) < error(real) + 0.03


def test_fewer_weight_bits_cost_more() -> None:
    assert error(rate(bits=4)) > error(rate(bits=8))


def mean_error(network: Network) -> float:
    got = decode(network, execute_network(network, encode(network, X)).readout)
    return float(np.abs((got - EXPECTED).mean(axis=0)).max() / EXPECTED.std())


@pytest.mark.parametrize("reset", list(Reset))
def test_bias_correction_removes_the_mean_error(reset: Reset) -> None:
    network = rate(reset=reset, timesteps=8)
    corrected = CorrectBias().run(network, context_for(GRAPH, X))
    assert mean_error(network) > 0.02
    assert mean_error(corrected) < 0.3 * mean_error(network)
    assert error(corrected) < error(network)


def test_bias_correction_works_before_quantization() -> None:
    context = context_for(GRAPH, X)
    real = AlignWindows().run(ConvertRate(8).run(GRAPH, context), context)
    corrected = CorrectBias().run(real, context)
    assert mean_error(corrected) < 0.3 * mean_error(real)
    assert error(corrected) < error(real)


@pytest.mark.parametrize("profiles", [1, 2, 3])
def test_thresholds_share_profiles(profiles: int) -> None:
    network = rate(small_target(threshold_profiles=profiles))
    for population in network.populations:
        if isinstance(population.neuron, LIF):
            assert len(np.unique(population.neuron.threshold)) <= profiles
    assert error(network) < 3 * error(rate()) + 0.1


def test_the_skip_takes_a_power_of_two() -> None:
    network = rate()
    skip = next(p for p in network.projections if (p.source, p.target) == ("stem_relu", "sum_relu"))
    assert skip.shift.max() <= 0
    assert skip.shift.min() >= -7


def test_binary_chips_quantize_their_input_population() -> None:
    network = rate(small_target(input_bits=0, graded_bits=0), timesteps=64)
    assert isinstance(network.by_name["input"].neuron, LIF)
    assert error(network) < 0.5


def test_graded_is_near_the_float_network() -> None:
    context = context_for(GRAPH, X)
    network = QuantizeGraded().run(AlignWindows().run(ConvertGraded().run(GRAPH, context), context), context)
    assert network.is_integer
    assert error(network) < 0.03
    assert any(d.slug == "graded-range-assumed" for d in context.diagnostics.items)


def test_a_channel_that_only_its_bias_drives_keeps_messages_small() -> None:
    layers = list(GRAPH.layers)
    at = next(i for i, entry in enumerate(layers) if entry.name == "first")
    op = layers[at].op
    weight, bias = op.connectivity.weight.copy(), op.bias.copy()
    weight[1], bias[1] = weight[1] * 1e-12, 0.7
    layers[at] = replace(layers[at], op=replace(op, connectivity=op.connectivity.with_weight(weight), bias=bias))
    graph = replace(GRAPH, layers=tuple(layers))
    context = context_for(graph, X)
    network = QuantizeGraded().run(AlignWindows().run(ConvertGraded().run(graph, context), context), context)
    assert not context.diagnostics.errors
    message = run(network, encode(network, X[:1])[0]).messages["first_relu"][0, 1]
    assert 255 <= message.min() <= message.max() <= 512


def test_graded_overflow_is_found_before_it_happens() -> None:
    context = context_for(GRAPH, X)
    network = AlignWindows().run(ConvertGraded().run(GRAPH, context), context)
    QuantizeGraded(levels=2**20).run(network, context)
    assert any(d.slug == "accumulator-overflow" for d in context.diagnostics.errors)


def test_mantissa_and_exponent() -> None:
    limits = small_target().neurons
    value = np.array([0.0, 1.4, -4095.0, 4096.0, 500000.0, -524160.0])
    mantissa, exponent = mantissa_and_exponent(value, limits)
    assert np.abs(mantissa).max() <= 4095
    restored = np.left_shift(mantissa, exponent)
    assert (np.abs(restored - value) <= 2.0 ** (exponent - 1)).all()
    with pytest.raises(OverflowError):
        mantissa_and_exponent(np.array([600000.0]), limits)


def test_weight_grid_of_other_widths() -> None:
    limits = replace(small_target().weights, step=1, low=-8, high=7)
    assert weight_grid(limits, None).top == 7
    assert weight_grid(limits, None).step == 1
