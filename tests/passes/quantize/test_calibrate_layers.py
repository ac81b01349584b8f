"""Calibration in the loop: the stored network answers like the analog one, and nothing else decides."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import Target
from nmc.ir.layers import LayerGraph
from nmc.ir.network import Network
from nmc.ir.neurons import IF, LIF, Reset
from nmc.ir.reference import decode, encode
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.quantize.calibrate_layers import CalibrateLayers
from nmc.passes.quantize.quantize_rate import QuantizeRate
from nmc.testing.builders import context_for, residual_graph, small_target

RNG = np.random.default_rng(11)
X = RNG.uniform(size=(64, 2, 6, 6)).astype(np.float32)
UNSEEN = RNG.uniform(size=(64, 2, 6, 6)).astype(np.float32)
GRAPH = residual_graph(4)
SPIKING = ["stem_relu", "first_relu", "sum_relu"]


def aligned(timesteps: int = 8, reset: Reset = Reset.SUBTRACT, target: Target | None = None) -> Network:
    context = context_for(GRAPH, X, target)
    return AlignWindows().run(ConvertRate(timesteps, reset).run(GRAPH, context), context)


def calibrated(
    step: CalibrateLayers, timesteps: int = 8, reset: Reset = Reset.SUBTRACT, target: Target | None = None
) -> tuple[Network, Network]:
    """The calibrated network over reals, and over integers."""
    context = context_for(GRAPH, X, target)
    real = step.run(aligned(timesteps, reset, target), context)
    return real, QuantizeRate(step.bits).run(real, context)


def errors(network: Network, x: np.ndarray = UNSEEN, graph: LayerGraph = GRAPH) -> tuple[float, float]:
    """(rms error, largest error of a mean) of the outputs, relative to their spread."""
    wanted = execute_graph(graph, x, ["logits"])["logits"]
    got = decode(network, execute_network(network, encode(network, x)).readout)
    spread = wanted.std()
    return float(np.sqrt(((got - wanted) ** 2).mean()) / spread), float(
        np.abs((got - wanted).mean(axis=0)).max() / spread
    )


@pytest.mark.parametrize("reset", list(Reset))
def test_calibration_takes_error_away(reset: Reset) -> None:
    plain = QuantizeRate().run(aligned(reset=reset), context_for(GRAPH, X))
    _, stored = calibrated(CalibrateLayers(), reset=reset)
    assert errors(stored)[0] < errors(plain)[0]
    assert errors(stored, X)[1] < 0.02


def test_what_was_simulated_is_what_is_stored() -> None:
    real, stored = calibrated(CalibrateLayers())
    counts = execute_network(stored, encode(stored, X), counts=True).counts
    values = execute_graph(GRAPH, X, SPIKING)
    for name in SPIKING:
        decoded = counts[name].mean(axis=(0, 2, 3)) * real.scales[name] / real.timesteps
        wanted = values[name].mean(axis=(0, 2, 3))
        assert np.allclose(decoded, wanted, atol=0.03 * wanted.max())


def test_reals_and_integers_differ_by_rounding_only() -> None:
    real, stored = calibrated(CalibrateLayers())
    assert abs(errors(real)[0] - errors(stored)[0]) < 0.05


def test_the_decode_gain_is_not_the_threshold() -> None:
    real, _ = calibrated(CalibrateLayers())
    neurons = {p.name: p.neuron for p in real.populations if isinstance(p.neuron, IF)}
    for name, neuron in neurons.items():
        ratio = real.scales[name] / neuron.threshold.reshape(-1)
        assert ((ratio >= 0.499) & (ratio <= 2.001)).all()
    assert any(np.any(neuron.v0 != neuron.threshold / 2) for neuron in neurons.values())


def test_without_search_and_refit_only_biases_change() -> None:
    before = aligned()
    after, stored = calibrated(CalibrateLayers(rounds=0, refit=False))
    for old, new in zip(before.populations, after.populations, strict=True):
        if isinstance(old.neuron, IF) and isinstance(new.neuron, IF):
            unit = new.neuron.threshold / np.rint(new.neuron.threshold / old.neuron.threshold * 1e6) * 1e6
            assert np.allclose(unit, old.neuron.threshold, rtol=0.02)
    assert errors(stored, X)[1] < 0.25 * errors(QuantizeRate().run(before, context_for(GRAPH, X)), X)[1]


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = calibrated(CalibrateLayers())
    monkeypatch.setattr("nmc.kernels.parallel.available_threads", lambda: 1)
    second, _ = calibrated(CalibrateLayers())
    for one, two in zip(first.projections, second.projections, strict=True):
        assert np.array_equal(one.connectivity.weight, two.connectivity.weight)
    for name in first.scales:
        assert np.array_equal(first.scales[name], second.scales[name])


def test_fewer_bits_are_calibrated_for() -> None:
    aware = QuantizeRate(4).run(calibrated(CalibrateLayers(bits=4))[0], context_for(GRAPH, X))
    unaware = QuantizeRate(4).run(calibrated(CalibrateLayers())[0], context_for(GRAPH, X))
    assert errors(aware)[0] < errors(unaware)[0]


def test_shared_thresholds_stay_within_the_profiles() -> None:
    _, stored = calibrated(CalibrateLayers(), target=small_target(threshold_profiles=2))
    for population in stored.populations:
        if isinstance(population.neuron, LIF):
            assert len(np.unique(population.neuron.threshold)) <= 2
    assert errors(stored)[0] < 0.6


def test_an_input_that_spikes_is_calibrated_on() -> None:
    _, stored = calibrated(CalibrateLayers(), timesteps=16, target=small_target(graded_bits=0, input_bits=0))
    assert errors(stored)[0] < 0.5


def test_spikes_come_more_evenly_where_that_counts() -> None:
    def unevenness(evenness: float) -> float:
        real, stored = calibrated(CalibrateLayers(feedback=0, evenness=evenness), timesteps=16)
        messages = execute_network(stored, encode(stored, UNSEEN), keep=True).messages
        total = 0.0
        for name in SPIKING:
            running = messages[name].cumsum(axis=1, dtype=np.float64)
            even = running[:, -1:] * (np.arange(1, 17) / 16)[:, None, None, None]
            total += float((np.square(running - even).mean(axis=(0, 1, 3, 4)) * real.scales[name] ** 2).sum())
        return total

    assert unevenness(1.0) < 0.9 * unevenness(0.0)


def test_a_silent_channel_stays_silent() -> None:
    layers = {layer.name: layer for layer in GRAPH.layers}
    first = layers["first"]
    weight = first.op.connectivity.weight.copy()  # type: ignore[union-attr]
    weight[1] = -np.abs(weight[1])
    op = replace(first.op, connectivity=first.op.connectivity.with_weight(weight))  # type: ignore[type-var, union-attr]
    graph = replace(GRAPH, layers=tuple(replace(x, op=op) if x.name == "first" else x for x in GRAPH.layers))
    context = context_for(graph, X)
    network = AlignWindows().run(ConvertRate(8).run(graph, context), context)
    stored = QuantizeRate().run(CalibrateLayers().run(network, context), context)
    counts = execute_network(stored, encode(stored, UNSEEN), counts=True).counts["first_relu"]
    assert counts[:, 1].mean() < 0.1
    assert errors(stored, graph=graph)[0] < 0.5


def test_samples_that_do_not_fit_into_memory_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them, _ = calibrated(CalibrateLayers(rounds=0, refit=False))
    monkeypatch.setattr("nmc.passes.quantize.calibrate_layers.SAMPLE_BYTES", 1)
    few, stored = calibrated(CalibrateLayers(rounds=0, refit=False))
    bias = [n.populations[1].neuron.bias for n in (few, all_of_them)]  # type: ignore[union-attr]
    assert not np.array_equal(*bias)
    assert errors(stored)[1] < 0.2


def test_a_network_with_waits_is_calibrated_for_them() -> None:
    context = context_for(GRAPH, X)
    network = AlignWindows("1").run(ConvertRate(4).run(GRAPH, context), context)
    assert network.timesteps_total == 4 + 4 + 3
    stored = QuantizeRate().run(CalibrateLayers().run(network, context), context)
    assert [p.wait for p in stored.populations] == [0, 1, 1, 1, 0]
    assert errors(stored)[0] < 1.1 * errors(calibrated(CalibrateLayers(), timesteps=4)[1])[0]
    assert errors(stored, X)[1] < 0.02


def test_a_network_that_dies_is_an_error_that_names_the_layer() -> None:
    context, network = context_for(GRAPH, X), aligned()
    out_of_reach = tuple(
        replace(p, neuron=replace(p.neuron, threshold=p.neuron.threshold * 500))
        if p.name == "first_relu" and isinstance(p.neuron, IF)
        else p
        for p in network.populations
    )
    CalibrateLayers(rounds=0, refit=False).run(replace(network, populations=out_of_reach), context)
    (error,) = [d for d in context.diagnostics.items if d.severity == "error"]
    assert error.slug == "layer-dead" and "'first_relu'" in error.message and error.origin.output == "first_relu:0"


def test_a_layer_that_the_float_network_leaves_silent_is_no_error() -> None:
    context = context_for(GRAPH, 0 * X)
    network = AlignWindows().run(ConvertRate(8, Reset.SUBTRACT).run(GRAPH, context), context)
    CalibrateLayers().run(network, context)
    assert "layer-dead" not in [d.slug for d in context.diagnostics.items]
