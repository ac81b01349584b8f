"""Converting keeps the meaning: the spiking network computes what the graph computes."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import Input, LayerGraph, Relu
from nmc.ir.network import Network
from nmc.ir.neurons import IF, Burst, GradedReLU, Reset, Signed, Source
from nmc.ir.reference import decode, encode, run, weighted_sum
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import analog, execute_network
from nmc.kernels.propagate import from_channels_last
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.convert.thresholds import RULES
from nmc.testing.builders import context_for, layer, residual_graph, small_target


def samples(n: int = 24, *, signed: bool = True) -> np.ndarray:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n, 2, 6, 6)) if signed else rng.uniform(size=(n, 2, 6, 6))
    return x.astype(np.float32)


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(((got - wanted) ** 2).mean() / wanted.var()))


def outputs(network: Network, x: np.ndarray) -> np.ndarray:
    return decode(network, execute_network(network, encode(network, x)).readout)


def test_graded_differs_only_by_the_input_code() -> None:
    graph, x = residual_graph(), samples()
    network = ConvertGraded().run(graph, context_for(graph, x))
    quantized = encode(network, x) * network.input.scale
    expected = execute_graph(graph, quantized, ["logits"])["logits"]
    np.testing.assert_allclose(outputs(network, x), expected, rtol=1e-9, atol=1e-9)
    assert isinstance(network.by_name["stem_relu"].neuron, GradedReLU)
    assert network.timesteps == 1


@pytest.mark.parametrize("reset", list(Reset))
def test_analog_of_the_rate_network_is_the_graph(reset: Reset) -> None:
    graph, x = residual_graph(), samples()
    network = ConvertRate(16, reset).run(graph, context_for(graph, x))
    quantized = encode(network, x) * network.input.scale
    expected = execute_graph(graph, quantized, ["stem", "sum", "logits"])
    drives = {step.population.name: step for step in analog(network, encode(network, x))}
    for name, before in (("stem_relu", "stem"), ("sum_relu", "sum"), ("logits", "logits")):
        drive = from_channels_last(drives[name].drive, drives[name].population.shape)
        np.testing.assert_allclose(drive, expected[before], rtol=1e-9, atol=1e-9)


def test_more_timesteps_come_closer() -> None:
    graph, x = residual_graph(), samples(signed=False)
    expected = execute_graph(graph, x, ["logits"])["logits"]
    errors = []
    for timesteps in (8, 32, 128):
        network = AlignWindows().run(ConvertRate(timesteps).run(graph, context_for(graph, x)), context_for(graph, x))
        errors.append(relative_error(outputs(network, x), expected))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1


def test_signed_inputs_split_where_the_chip_has_binary_spikes_only() -> None:
    graph, x = residual_graph(), samples()
    target = small_target(input_bits=0, graded_bits=0)
    network = ConvertRate(64).run(graph, context_for(graph, x, target))
    spec = network.input
    assert spec.mode == "bias"
    assert spec.split_sign
    assert network.by_name[spec.population].shape == (4, 6, 6)
    expected = execute_graph(graph, x, ["logits"])["logits"]
    aligned = AlignWindows().run(network, context_for(graph, x, target))
    assert relative_error(outputs(aligned, x), expected) < 0.15


def test_unsigned_inputs_use_all_codes() -> None:
    graph, x = residual_graph(), samples(signed=False)
    network = ConvertRate(8).run(graph, context_for(graph, x))
    assert (network.input.low, network.input.high) == (0, 255)
    assert network.populations[0].neuron == Source(8, False)
    assert encode(network, x).max() == 255


def test_graded_on_a_binary_chip_is_refused_by_name() -> None:
    graph, x = residual_graph(), samples()
    with pytest.raises(NmcError) as caught:
        ConvertGraded().run(graph, context_for(graph, x, small_target(graded_bits=0, input_bits=0)))
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.diagnostics[0].slug == "coding-not-on-target"


def test_a_silent_layer_is_named() -> None:
    graph, x = residual_graph(), samples()
    dead = []
    for entry in graph.layers:
        if entry.name == "first":
            entry = replace(entry, op=replace(entry.op, bias=entry.op.bias - 99))
        dead.append(entry)
    silent = LayerGraph(graph.name, tuple(dead), graph.outputs)
    context = context_for(silent, x)
    ConvertRate(8).run(silent, context)
    found = [d for d in context.diagnostics.items if d.slug == "layer-silent"]
    assert [d.origin.node for d in found] == ["node first_relu"]


def test_a_final_relu_is_read_by_an_integrator() -> None:
    graph = residual_graph()
    layers = (*graph.layers, layer("out", Relu(), ("logits",), (5,)))
    graph, x = LayerGraph("g", layers, ("out",)), samples(signed=False)
    network = AlignWindows().run(ConvertRate(64).run(graph, context_for(graph, x)), context_for(graph, x))
    expected = execute_graph(graph, x, ["out"])["out"]
    got = outputs(network, x)
    assert (got >= 0).all()
    assert relative_error(got, expected) < 0.2


def test_without_layers_there_is_nothing_to_compile() -> None:
    graph = LayerGraph("empty", (layer("x", Input(), (), (3,)),), ("x",))
    with pytest.raises(NmcError, match="no layer with weights"):
        ConvertRate(8).run(graph, context_for(graph, np.zeros((1, 3), np.float32)))


def test_reference_agrees_with_the_kernels_on_real_networks() -> None:
    graph, x = residual_graph(), samples(3)
    network = AlignWindows().run(ConvertRate(12).run(graph, context_for(graph, x)), context_for(graph, x))
    inputs = encode(network, x)
    expected = [run(network, sample).readout for sample in inputs]
    np.testing.assert_allclose(execute_network(network, inputs).readout, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "finer,fire,share",
    [(ConvertRate(6, levels=4), Burst, 0.7), (ConvertRate(6, signed=True), Signed, 0.95)],
    ids=["burst", "signed"],
)
def test_bursts_and_signed_spikes_come_closer_in_the_same_steps(finer: ConvertRate, fire: type, share: float) -> None:
    graph, x = residual_graph(), samples(signed=False)
    expected = execute_graph(graph, x, ["logits"])["logits"]
    errors = []
    for convert in (ConvertRate(6), finer):
        network = AlignWindows().run(convert.run(graph, context_for(graph, x)), context_for(graph, x))
        errors.append(relative_error(outputs(network, x), expected))
    neuron = network.by_name["stem_relu"].neuron
    assert isinstance(neuron, IF) and isinstance(neuron.fire, fire)
    assert errors[1] < share * errors[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bits", [0, 8], ids=["binary", "graded"])
def test_every_rule_for_thresholds_comes_close_with_time(rule: str, bits: int) -> None:
    graph, x = residual_graph(), samples(signed=False)
    context = context_for(graph, x, small_target(input_bits=bits, graded_bits=bits))
    expected = execute_graph(graph, x, ["logits"])["logits"]
    network = AlignWindows().run(ConvertRate(256, threshold=rule).run(graph, context), context)
    assert relative_error(outputs(network, x), expected) < 0.15


def test_rules_for_thresholds_say_what_they_say() -> None:
    graph, x = residual_graph(), samples(signed=False)
    context = context_for(graph, x)
    found = {rule: ConvertRate(32, threshold=rule).run(graph, context) for rule in RULES}
    bars = {rule: network.by_name["first_relu"].neuron.threshold.reshape(-1) for rule, network in found.items()}
    values = execute_graph(graph, x, ["first_relu"])["first_relu"]
    largest = values.max(axis=(0, 2, 3))
    np.testing.assert_allclose(bars["maximum"], largest)
    assert (bars["percentile"] < largest).all() and (bars["percentile"] > 0.8 * largest).all()
    assert (bars["min-error"] <= largest * (1 + 1e-12)).all()
    for layerwise in ("balancing", "ratio"):
        assert len(set(bars[layerwise].tolist())) == 1
    # The threshold of a first layer, whose input is constant, is the largest drive of its calibration inputs.
    stem = execute_graph(graph, encode(found["balancing"], x) * found["balancing"].input.scale, ["stem"])["stem"]
    np.testing.assert_allclose(found["balancing"].by_name["stem_relu"].neuron.threshold, stem.max())
    ratio = found["ratio"].by_name["first_relu"].neuron.threshold.max() / largest.max()
    assert 0.7 < ratio < 1.42


def test_balancing_looks_at_the_largest_step_of_a_simulation() -> None:
    graph, x = residual_graph(), samples(8, signed=False)
    context = context_for(graph, x)
    network = AlignWindows().run(ConvertRate(16, threshold="balancing").run(graph, context), context)
    sent = execute_network(network, encode(network, x), keep=True).messages["stem_relu"]
    projection = network.incoming["first_relu"][0]
    bias = network.by_name["first_relu"].neuron.bias
    largest = max(
        float((weighted_sum(projection.connectivity, message.astype(float)) + bias).max())
        for sample in sent
        for message in sample
    )
    np.testing.assert_allclose(network.by_name["first_relu"].neuron.threshold, largest)


def test_the_initial_potential_rounds_or_floors() -> None:
    graph, x = residual_graph(), samples(signed=False)
    context = context_for(graph, x)
    counts = []
    for initial in (0.0, 0.5):
        network = AlignWindows().run(ConvertRate(16, threshold="maximum", initial=initial).run(graph, context), context)
        assert np.array_equal(
            network.by_name["stem_relu"].neuron.v0, initial * network.by_name["stem_relu"].neuron.threshold
        )
        counts.append(execute_network(network, encode(network, x), counts=True).counts["stem_relu"])
    assert set(np.unique(counts[1] - counts[0])) == {0, 1}
    assert 0.3 < (counts[1] - counts[0])[counts[1] > 0].mean() < 0.7


@pytest.mark.parametrize("reset", list(Reset))
def test_leaky_neurons_keep_their_leak_and_their_scale_follows_the_rate_curve(reset: Reset) -> None:
    graph, x = residual_graph(), samples(signed=False)
    context = context_for(graph, x)
    network = AlignWindows().run(ConvertRate(64, reset, decay=200).run(graph, context), context)
    hidden = [p for p in network.populations if isinstance(p.neuron, IF)]
    assert hidden and all(p.neuron.dv == 200 for p in hidden)
    inputs = encode(network, x[:3])
    expected = [run(network, sample).readout for sample in inputs]
    np.testing.assert_allclose(execute_network(network, inputs).readout, expected, rtol=1e-9)


def test_options_out_of_range_are_refused_all_at_once() -> None:
    graph, x = residual_graph(), samples(2)
    with pytest.raises(NmcError) as caught:
        ConvertRate(8, threshold="best", initial=3.0, decay=5000).run(graph, context_for(graph, x))
    assert caught.value.exit_code is ExitCode.USAGE
    assert [d.slug for d in caught.value.diagnostics] == ["option-invalid"] * 3
    assert "min-error" in str(caught.value.diagnostics[0].help)
