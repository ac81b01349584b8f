"""Weights of few bits of spiking layers: rounded so that their errors cancel on what they meet, and stored as such."""

from dataclasses import replace

import numpy as np

from nmc.ir.connectivity import Dense
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import IF
from nmc.ir.origin import Origin
from nmc.ir.reference import decode, encode
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.quantize.calibrate_layers import CalibrateLayers
from nmc.passes.quantize.quantize_rate import Quantizer, QuantizeRate
from nmc.passes.quantize.reconstruct_weights import Reconstruction
from nmc.testing.builders import context_for, residual_graph

RNG = np.random.default_rng(5)
CALIB = RNG.uniform(size=(192, 2, 6, 6)).astype(np.float32)
OTHERS = RNG.uniform(size=(96, 2, 6, 6)).astype(np.float32)
ORIGIN = Origin("fc", "Gemm", "y")
INPUTS, CHANNELS, STEPS, ROWS = 24, 6, 8, 512


def layer() -> tuple[Population, Projection, np.ndarray]:
    """A population, what leads to it, and correlated messages."""
    weight = RNG.normal(size=(CHANNELS, INPUTS)) / 5
    common = RNG.random((ROWS, STEPS, 3)) < 0.4
    patches = common[:, :, RNG.integers(0, 3, INPUTS)] & (RNG.random((ROWS, STEPS, INPUTS)) < 0.8)
    neuron = IF(np.full((CHANNELS,), 2.0), np.zeros(()), np.zeros((CHANNELS,)))
    target = Population("y", (CHANNELS,), neuron, ORIGIN)
    return target, Projection("fc", "x", "y", Dense(weight, (INPUTS,), (CHANNELS,)), ORIGIN), patches.astype(np.int16)


def quantizer(bits: int) -> Quantizer:
    graph = residual_graph(0)
    context = context_for(graph, CALIB[:4])
    network = ConvertRate(STEPS).run(graph, context)
    found = Quantizer.of(network, context.target, bits)
    return replace(found, ranges={"x": (0, 1)})


def stored_sums(population: Population, projection: Projection, patches: np.ndarray, bits: int) -> np.ndarray:
    """(rows, C) of a window, in real values, as the target stores the weights."""
    stored = quantizer(bits).store(population, (projection,))
    weight = stored.projections[0].connectivity.weight * np.exp2(-stored.projections[0].shift.astype(float))
    return patches.sum(axis=1) @ weight.T * stored.unit


def test_errors_cancel_on_what_is_heard() -> None:
    population, projection, patches = layer()
    found = Reconstruction.of((projection,), {"fc": patches}, STEPS, quantizer(4))
    assert found is not None
    (changed,), offset = found.rounded(population, (projection,), STEPS)
    wanted = patches.sum(axis=1) @ projection.connectivity.weight.T
    plain = stored_sums(population, projection, patches, 4) - wanted
    better = stored_sums(population, changed, patches, 4) - wanted
    assert better.var(axis=0).sum() < 0.6 * plain.var(axis=0).sum()
    np.testing.assert_allclose(better.mean(axis=0) + offset * STEPS, 0, atol=1e-9)


def test_what_is_rounded_is_stored_as_it_is() -> None:
    """A second rounding, by quantize-rate, changes nothing."""
    population, projection, patches = layer()
    found = Reconstruction.of((projection,), {"fc": patches}, STEPS, quantizer(4))
    assert found is not None
    (changed,), _ = found.rounded(population, (projection,), STEPS)
    wanted = patches.sum(axis=1) @ changed.connectivity.weight.T
    np.testing.assert_allclose(stored_sums(population, changed, patches, 4), wanted, rtol=0, atol=1e-9)


def stored(bits: int | None, seed: int) -> Network:
    graph = residual_graph(seed)
    context = context_for(graph, CALIB)
    network = AlignWindows().run(ConvertRate(16).run(graph, context), context)
    calibrated = CalibrateLayers(bits=bits).run(network, context)
    return QuantizeRate(bits).run(calibrated, context)


def error(network: Network, seed: int) -> float:
    expected = execute_graph(residual_graph(seed), OTHERS, ["logits"])["logits"]
    got = decode(network, execute_network(network, encode(network, OTHERS)).readout)
    return float(((got - expected) ** 2).mean() / expected.var())


def test_few_bits_cost_a_network_less_than_by_nearest_rounding(monkeypatch) -> None:
    """On inputs that nothing was fitted to."""
    seeds = range(3)
    rounded = [error(stored(4, seed), seed) for seed in seeds]
    monkeypatch.setattr(Reconstruction, "of", classmethod(lambda *_: None))
    assert sum(rounded) < 0.9 * sum(error(stored(4, seed), seed) for seed in seeds)


def test_all_bits_of_the_target_need_none_of_it(monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("eight bits are rounded to the nearest")

    monkeypatch.setattr(Reconstruction, "of", classmethod(never))
    assert stored(None, 0).projections
