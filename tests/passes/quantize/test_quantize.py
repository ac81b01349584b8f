"""Quantized networks: stored numbers are legal, bounds hold, meaning is kept."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import MessageLimits, Target, WeightLimits
from nmc.ir.connectivity import Conv2d, Dense
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import Add, Input, LayerGraph, Linear, Relu
from nmc.ir.network import Network, Projection
from nmc.ir.neurons import IF, LIF, Burst, Integrator, Reset, Signed
from nmc.ir.reference import decode, encode, projected, run
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.quantize.fixed_point import WeightGrid, mantissa_and_exponent, weight_grid
from nmc.passes.quantize.quantize_graded import QuantizeGraded, prove_sums
from nmc.passes.quantize.quantize_rate import SUM_LIMIT, QuantizeRate
from nmc.testing.builders import context_for, layer, residual_graph, small_target

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


@pytest.mark.parametrize("profiles", [1, 2, 3])
def test_thresholds_share_profiles(profiles: int) -> None:
    network = rate(small_target(threshold_profiles=profiles))
    for population in network.populations:
        if isinstance(population.neuron, LIF):
            assert len(np.unique(population.neuron.threshold)) <= profiles
    assert error(network) < 3 * error(rate()) + 0.1


@pytest.mark.parametrize(("asked", "held", "most"), [(2, None, 2), (2, 3, 2), (9, 3, 3), (0, 3, 1)])
def test_fewer_thresholds_on_request_never_more_than_a_core_holds(asked: int, held: int | None, most: int) -> None:
    context = context_for(GRAPH, X, small_target(threshold_profiles=held))
    real = AlignWindows().run(ConvertRate(32, Reset.SUBTRACT).run(GRAPH, context), context)
    network = QuantizeRate(thresholds=asked).run(real, context)
    counts = [len(np.unique(p.neuron.threshold)) for p in network.populations if isinstance(p.neuron, LIF)]
    assert max(counts) == most
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


@pytest.mark.parametrize("fire", [Burst(4), Signed(np.asarray(0.5)), Signed(np.zeros(()), guarded=False)])
def test_firing_rules_survive_quantization(fire: Burst | Signed) -> None:
    """The quantized network fires like the real one: bursts count in the bounds, lower thresholds in units."""
    context = context_for(GRAPH, X)
    real = AlignWindows().run(ConvertRate(16).run(GRAPH, context), context)
    populations = tuple(
        replace(p, neuron=replace(p.neuron, fire=fire)) if isinstance(p.neuron, IF) else p for p in real.populations
    )
    real = replace(real, populations=populations)
    network = QuantizeRate().run(real, context)
    inputs = encode(network, X[:16])
    spikes = [execute_network(n, inputs, counts=True).counts["sum_relu"] for n in (real, network)]
    assert np.abs(spikes[0]).sum() > 0
    assert np.abs(spikes[0] - spikes[1]).mean() < 0.5
    trace = run(network, inputs[0])
    for projection in network.projections:
        for message in trace.messages[projection.source]:
            assert np.abs(projected(projection, message)).max() <= SUM_LIMIT


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
    assert 1023 <= message.min() <= message.max() <= 2048


@pytest.mark.parametrize("zeroed", [(1,), (0, 1, 2, 3)])
def test_a_channel_without_weights_has_exactly_its_bias(zeroed: tuple[int, ...]) -> None:
    layers = list(GRAPH.layers)
    at = next(i for i, entry in enumerate(layers) if entry.name == "first")
    op = layers[at].op
    weight, bias = op.connectivity.weight.copy(), op.bias.copy()
    weight[list(zeroed)], bias[list(zeroed)] = 0.0, 0.0123
    layers[at] = replace(layers[at], op=replace(op, connectivity=op.connectivity.with_weight(weight), bias=bias))
    graph = replace(GRAPH, layers=tuple(layers))
    context = context_for(graph, X)
    network = QuantizeGraded().run(AlignWindows().run(ConvertGraded().run(graph, context), context), context)
    message = run(network, encode(network, X[:1])[0]).messages["first_relu"][0, list(zeroed)]
    value = message * network.scales["first_relu"][list(zeroed)][:, None, None]
    assert np.allclose(value, 0.0123, rtol=1e-3)


def test_wide_sums_take_wide_weights_and_messages() -> None:
    """16-bit weights and 24-bit messages need sums of more than 32 bits."""
    wide = replace(LOIHI_WIDTHS.weights, bits=16, step=1, low=-(2**15), high=2**15 - 1)
    errors = []
    for sum_bits in (32, 52):
        neurons = replace(LOIHI_WIDTHS.neurons, sum_bits=sum_bits)
        messages = replace(LOIHI_WIDTHS.messages, graded_bits=24, input_bits=24)
        target = replace(LOIHI_WIDTHS, weights=wide, neurons=neurons, messages=messages)
        context = context_for(GRAPH, X, target)
        network = AlignWindows().run(ConvertGraded().run(GRAPH, context), context)
        quantized = QuantizeGraded(levels=2**20).run(network, context)
        assert not context.diagnostics.errors
        errors.append(error(quantized))
    assert errors[1] < 1e-4 < errors[0]


def test_graded_overflow_is_found_before_it_happens() -> None:
    dense = Dense(np.full((1, 8), 2**20), (8,), (1,))
    projection = Projection("a>b", "a", "b", dense, layer("b", Relu(), ("a",), (1,)).origin)
    for messages, found in ((2.0**7, 0), (2.0**8, 1)):
        context = context_for(GRAPH, X)
        prove_sums(projection, np.array(0.0), np.array(messages), context)
        assert [d.slug for d in context.diagnostics.errors] == ["accumulator-overflow"] * found


def test_graded_weights_leave_room_for_a_large_bias() -> None:
    wide = replace(LOIHI_WIDTHS.weights, bits=16, step=1, low=-(2**15), high=2**15 - 1)
    layers = [
        replace(la, op=replace(la.op, bias=1e3 + la.op.bias)) if isinstance(la.op, Linear) else la
        for la in GRAPH.layers
    ]
    graph = replace(GRAPH, layers=tuple(layers))
    context = context_for(graph, X, replace(LOIHI_WIDTHS, weights=wide))
    network = AlignWindows().run(ConvertGraded().run(graph, context), context)
    quantized = QuantizeGraded().run(network, context)
    assert not context.diagnostics.errors
    found = decode(quantized, execute_network(quantized, encode(quantized, X[:8])).readouts[0])
    wanted = execute_graph(graph, X[:8], [graph.output])[graph.output]
    assert np.abs(found - wanted).max() <= 1e-2 * np.abs(wanted).max()


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


LOIHI_WIDTHS = small_target()


@pytest.mark.parametrize("reset", list(Reset))
def test_every_width_of_a_narrow_chip_is_kept(reset: Reset) -> None:
    """Nothing of Loihi's widths is built in: 8-bit weights of any parity, 10-bit thresholds, 6-bit biases."""
    widths = replace(LOIHI_WIDTHS.neurons, threshold_max=1023, bias_mantissa_max=63, bias_exponent_max=4)
    stores = WeightLimits(8, 1, -128, 127, exponent_min=-2, exponent_max=1)
    binary = MessageLimits(0, 0)
    network = rate(replace(LOIHI_WIDTHS, neurons=widths, weights=stores, messages=binary), timesteps=64, reset=reset)
    spec = network.input
    assert (spec.high, spec.bias_exp) == (63, 4)
    odd = False
    for projection in network.projections:
        weight = projection.connectivity.weight
        assert np.abs(weight).max() <= 127
        odd |= bool((weight % 2).any())
        assert projection.shift.min() >= -1 and projection.shift.max() <= 2
    assert odd
    for population in network.populations:
        if isinstance(population.neuron, LIF):
            assert population.neuron.threshold.max() <= 1023
        if isinstance(population.neuron, LIF | Integrator):
            assert np.abs(population.neuron.bias_mant).max() <= 63
            assert population.neuron.bias_exp.max() <= 4
    assert error(network) < 0.6


def test_a_skip_larger_than_its_branch_never_clips_where_the_chip_has_no_exponents() -> None:
    branch = next(layer for layer in GRAPH.layers if layer.name == "second")
    quiet = replace(branch, op=replace(branch.op, connectivity=branch.op.connectivity.with_weight(0.02 * WEIGHT)))
    graph = replace(GRAPH, layers=tuple(quiet if layer is branch else layer for layer in GRAPH.layers))
    fixed = replace(LOIHI_WIDTHS.weights, exponent_min=0, exponent_max=0)
    context = context_for(graph, X, replace(LOIHI_WIDTHS, weights=fixed))
    real = AlignWindows().run(ConvertRate(32).run(graph, context), context)
    stored = QuantizeRate().run(real, context)
    assert all(not p.shift.any() for p in stored.projections)
    ratios = [_gain(network) for network in (real, stored)]
    np.testing.assert_allclose(ratios[1], ratios[0], rtol=0.02)


WEIGHT = next(layer.op for layer in GRAPH.layers if layer.name == "second").connectivity.weight


def _gain(network: Network) -> np.ndarray:
    """Spikes of the skip's target per spike of its source, by channel."""
    skip = next(p for p in network.projections if (p.source, p.target) == ("stem_relu", "sum_relu"))
    threshold = network.by_name["sum_relu"].neuron.threshold.reshape(-1)
    return skip.connectivity.weight / threshold


def test_wide_weights_are_used() -> None:
    wide = replace(LOIHI_WIDTHS.weights, bits=12, step=1, low=-2048, high=2047)
    assert weight_grid(wide, None) == WeightGrid(1, 2047)
    assert weight_grid(wide, 8) == WeightGrid(16, 2032)
    assert error(rate(replace(LOIHI_WIDTHS, weights=wide))) < error(rate()) + 0.01


def test_weights_far_smaller_than_their_bias_are_stored_finely_and_their_sums_shifted() -> None:
    weight = RNG.uniform(-1, 1, (4, 2, 3, 3))
    bias = np.array([1000.0, 3000.0, 500.0, 2000.0])
    layers = [
        layer("x", Input(), (), (2, 6, 6)),
        layer("c", Linear(Conv2d(weight, (2, 6, 6)), bias), ("x",), (4, 4, 4)),
        layer("r", Relu(), ("c",), (4, 4, 4)),
        layer("y", Linear(Dense(RNG.normal(size=(3, 64)), (4, 4, 4), (3,)), np.zeros(3)), ("r",), (3,)),
    ]
    graph = LayerGraph("biased", tuple(layers), ("y",))
    context = context_for(graph, X)
    real = AlignWindows().run(ConvertRate(32).run(graph, context), context)
    stored = QuantizeRate().run(real, context)
    (before,), (after,) = real.incoming["r"], stored.incoming["r"]
    assert after.shift >= 3 and np.abs(after.connectivity.weight).max() > 127
    # One unit per channel: the weights are the real ones, rounded to few percent of the largest.
    ratio = after.connectivity.weight / before.connectivity.weight
    unit = np.median(ratio.reshape(4, -1), axis=1)[:, None, None, None]
    error = np.abs(after.connectivity.weight - unit * before.connectivity.weight).max()
    assert error < 0.03 * np.abs(after.connectivity.weight).max()


def test_a_chip_whose_widths_leave_no_weight_is_refused() -> None:
    blind = replace(LOIHI_WIDTHS.neurons, bias_mantissa_max=1, bias_exponent_max=0)
    with pytest.raises(NmcError) as caught:
        rate(replace(LOIHI_WIDTHS, neurons=blind))
    assert caught.value.exit_code is ExitCode.DOES_NOT_FIT
    assert caught.value.diagnostics[0].slug == "no-scale-fits"
    assert caught.value.diagnostics[0].origin is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": replace(LOIHI_WIDTHS.weights, low=0)},
        {"neurons": replace(LOIHI_WIDTHS.neurons, models=("if", "graded-relu"))},
        {"neurons": replace(LOIHI_WIDTHS.neurons, bias_mantissa_max=0), "messages": MessageLimits(0, 0)},
    ],
    ids=["positive weights only", "no LIF", "no input"],
)
def test_what_rate_coding_needs(changed: dict[str, object]) -> None:
    with pytest.raises(NmcError) as caught:
        rate(replace(LOIHI_WIDTHS, **changed))
    assert (caught.value.diagnostics[0].slug, caught.value.exit_code) == ("coding-not-on-target", ExitCode.USAGE)


def graded(target: Target) -> Network:
    context = context_for(GRAPH, X, target)
    network = QuantizeGraded().run(AlignWindows().run(ConvertGraded().run(GRAPH, context), context), context)
    assert not context.diagnostics.errors
    return network


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_graded_messages_fit_their_payload(bits: int) -> None:
    network = graded(replace(LOIHI_WIDTHS, messages=MessageLimits(bits, 8)))
    for sample in encode(network, X[:8]):
        for name, messages in run(network, sample).messages.items():
            if name != "input":
                assert np.abs(messages).max() < 2 ** (bits - 1)
    assert error(network) < {8: 0.5, 10: 0.15, 12: 0.05}[bits]


def test_graded_shifts_stay_within_the_exponents() -> None:
    network = graded(replace(LOIHI_WIDTHS, weights=replace(LOIHI_WIDTHS.weights, exponent_min=-5, exponent_max=0)))
    for projection in network.projections:
        assert projection.shift.min() >= 0 and projection.shift.max() <= 5
        assert np.abs(projection.connectivity.weight).max() <= 254
    assert error(network) < 0.3


def test_graded_needs_messages_from_the_host() -> None:
    with pytest.raises(NmcError, match="input_bits = 0"):
        graded(replace(LOIHI_WIDTHS, messages=MessageLimits(24, 0)))


def test_graded_branches_of_different_size_are_each_rounded_finely() -> None:
    """A mean beside a projection of weights near 1: many small weights count as much as one large one."""
    rng = np.random.default_rng(5)
    shape = (4, 6, 6)

    def conv(weight: np.ndarray) -> Linear:
        edge = weight.shape[2] // 2
        return Linear(Conv2d(weight, (weight.shape[1], 6, 6), pads=(edge,) * 4), np.zeros(4))

    graph = LayerGraph(
        "branches",
        (
            layer("input", Input(), (), (2, 6, 6)),
            layer("stem", conv(rng.normal(0, 0.4, (4, 2, 3, 3))), ("input",), shape),
            layer("stem_relu", Relu(), ("stem",), shape),
            layer("next", conv(rng.normal(0, 0.4, (4, 4, 3, 3))), ("stem_relu",), shape),
            layer("next_relu", Relu(), ("next",), shape),
            layer("one", conv(rng.normal(0, 1.0, (4, 4, 1, 1))), ("stem_relu",), shape),
            layer("mean", conv(rng.uniform(0.004, 0.012, (4, 4, 7, 7))), ("next_relu",), shape),
            layer("sum", Add(), ("one", "mean"), shape),
            layer("sum_relu", Relu(), ("sum",), shape),
            layer("logits", Linear(Dense(rng.normal(0, 0.3, (5, 144)), shape, (5,)), np.zeros(5)), ("sum_relu",), (5,)),
        ),
        ("logits",),
    )
    context = context_for(graph, X)
    network = QuantizeGraded().run(AlignWindows().run(ConvertGraded().run(graph, context), context), context)
    shifts = {p.source: p.shift for p in network.incoming["sum_relu"]}
    assert np.all(shifts["next_relu"] >= shifts["stem_relu"] + 3)
    expected = execute_graph(graph, X, ["logits"])["logits"]
    got = decode(network, execute_network(network, encode(network, X)).readout)
    assert np.sqrt(((got - expected) ** 2).mean() / expected.var()) < 0.0035


def test_graded_mean_errors_go_into_the_bias() -> None:
    context = context_for(GRAPH, X)
    network = QuantizeGraded(bits=4).run(AlignWindows().run(ConvertGraded().run(GRAPH, context), context), context)
    assert error(network) < 0.3
    assert mean_error(network) < 0.02


def test_graded_levels_give_way_to_large_sums() -> None:
    """Readers with a large fan-in get smaller messages instead of an overflow."""
    context = context_for(GRAPH, X, replace(LOIHI_WIDTHS, messages=MessageLimits(32, 16)))
    network = AlignWindows().run(ConvertGraded().run(GRAPH, context), context)
    stored = QuantizeGraded(levels=2**20).run(network, context)
    assert not context.diagnostics.errors
    assert error(stored) < 0.02


def test_graded_input_uses_the_bits_that_the_sums_leave() -> None:
    wide = replace(LOIHI_WIDTHS, messages=MessageLimits(24, 16))
    assert graded(wide).input.high == 2**16 - 1
    assert error(graded(wide)) < error(graded(LOIHI_WIDTHS))
    widest = graded(replace(LOIHI_WIDTHS, messages=MessageLimits(24, 31))).input.high
    assert 2**16 < widest < 2**24


def test_graded_quantization_repeats_itself() -> None:
    first, second = graded(LOIHI_WIDTHS), graded(LOIHI_WIDTHS)
    for one, two in zip(first.projections, second.projections, strict=True):
        assert one.connectivity.weight.tobytes() == two.connectivity.weight.tobytes()
        assert one.bias is not None and two.bias is not None
        np.testing.assert_array_equal(one.bias, two.bias)
