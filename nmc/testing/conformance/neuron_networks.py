"""Small integer networks for the neurons and loops that a target names: fitted into its widths, never converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, Dense
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, Burst, Integrator, Neuron, SigmaDelta, Signed, Source
from nmc.ir.origin import Origin

SIZES = (16, 40, 32, 6)
"""Neurons of the input, two hidden populations and the read-out."""

FAN_IN = 5
"""Synapses of a neuron."""

TIMESTEPS = 16

_ZERO = np.zeros((), dtype=np.int64)


def neuron_kinds(target: Target) -> tuple[str, ...]:
    """The networks that a target's neurons can run: loops where there are spikes, and what it names besides."""
    models = target.neurons.models
    kinds = ("signed", "burst", "refractory", "sigma-delta")
    return ("recurrent",) * ("lif" in models) + tuple(
        kind for kind in kinds if kind in models and ("lif" in models or kind == "sigma-delta")
    )


def neuron_network(kind: str, target: Target) -> Network:
    """An input, two hidden populations of one kind of neuron and a read-out.

    Args:
        kind: of `neuron_kinds`.
        target: whose weights, thresholds and messages it fits.
    """
    rng = np.random.default_rng([*kind.encode()])
    origins = [Origin(f"node {name}", "Gemm", name) for name in ("input", "first", "second", "output")]
    spec, entry = _input(kind, target, origins[0])
    populations, projections = [entry], []
    reach = spec.high if spec.mode == "message" else 1
    for number, name in enumerate(("first", "second", "output"), start=1):
        weight = _weights(rng, target, SIZES[number], SIZES[number - 1])
        bound = reach * int(np.abs(weight).sum(axis=1).max())
        neuron = _hidden(kind, target, number, bound) if number < 3 else _readout(kind, bound)
        if isinstance(neuron, SigmaDelta):
            reach = bound >> int(neuron.shift)
        elif isinstance(neuron, LIF) and isinstance(neuron.fire, Burst):
            reach = neuron.fire.levels
        else:
            reach = 1
        populations.append(Population(name, (SIZES[number],), neuron, origins[number], number))
        dense = Dense(weight, (SIZES[number - 1],), (SIZES[number],))
        source = populations[number - 1].name
        projections.append(Projection(f"{source}>{name}", source, name, dense, origins[number]))
    if kind == "recurrent":
        longest = min(3, target.weights.delay_max)
        for source, back, delay in (("first", "first", 1), ("second", "first", longest), ("second", "second", longest)):
            sizes = [next(p.neurons for p in populations if p.name == name) for name in (back, source)]
            dense = Dense(_weights(rng, target, *sizes), (sizes[1],), (sizes[0],))
            projections.append(Projection(f"{source}>{back}#back", source, back, dense, origins[1], delay))
    outputs = (OutputSpec("output", np.ones(()), (SIZES[-1],)),)
    scales = {population.name: np.ones(()) for population in populations}
    return Network(kind, tuple(populations), tuple(projections), (spec,), outputs, TIMESTEPS, scales)


def neuron_inputs(network: Network, samples: int) -> Array:
    """(samples, *input shape) float32, whole numbers in the range of the input."""
    rng = np.random.default_rng([*network.name.encode()])
    spec = network.input
    return rng.integers(spec.low, spec.high + 1, (samples, *spec.shape)).astype(np.float32)


def _weights(rng: np.random.Generator, target: Target, rows: int, columns: int) -> Array:
    """Weights that the target stores, `FAN_IN` for each row."""
    limits = target.weights
    top = min(limits.high, -limits.low) // limits.step
    weight = np.zeros((rows, columns), dtype=np.int64)
    for row in weight:
        chosen = rng.choice(columns, min(FAN_IN, columns), replace=False)
        sign = np.where(rng.random(len(chosen)) < 0.65, 1, -1)
        row[chosen] = sign * limits.step * rng.integers(max(1, top // 2), top + 1, len(chosen))
    return weight


def _input(kind: str, target: Target, origin: Origin) -> tuple[InputSpec, Population]:
    """Messages of two bits from the host, or neurons that it drives by their bias."""
    bits = min(2, target.messages.input_bits)
    spec = InputSpec("input", (SIZES[0],), 1.0, 0, (1 << bits) - 1)
    if bits:
        return spec, Population("input", (SIZES[0],), Source(bits, once=kind == "sigma-delta"), origin)
    limits = target.neurons
    exponent = min(6, limits.bias_exponent_max)
    largest = min(100, limits.bias_mantissa_max)
    # The brightest input fires in every other step.
    threshold = np.array(max(1, min(limits.threshold_max, (largest << exponent) >> 6)))
    neuron = LIF(threshold, _ZERO, np.array(exponent), _ZERO, reset=limits.resets[0])
    spec = replace(spec, high=largest, mode="bias", bias_exp=exponent)
    return spec, Population("input", (SIZES[0],), neuron, origin)


def _hidden(kind: str, target: Target, number: int, bound: int) -> Neuron:
    """The neurons of a hidden population whose sums reach ``bound``."""
    limits, bits = target.neurons, target.messages.graded_bits
    if kind == "sigma-delta":
        # Changes as large as the activation itself, of either sign, fit a message.
        width = min(8, bits - 1)
        shift = np.array(max(0, bound.bit_length() - width))
        return SigmaDelta(np.array(1), np.array(-number), shift, rectify=number > 1)
    threshold = np.array(max(1, min(limits.threshold_max, bound // 8)))
    # A tenth of the threshold in each step keeps neurons alive behind sparse spikes.
    drive = 6 * int(threshold)
    exponent = min(limits.bias_exponent_max, max(0, drive.bit_length() - limits.bias_mantissa_max.bit_length()))
    mantissa = min(limits.bias_mantissa_max, drive >> exponent)
    neuron = LIF(threshold, np.array(mantissa), np.array(exponent), 32 * threshold, reset=limits.resets[0])
    make: Mapping[str, Callable[[], Neuron]] = {
        "signed": lambda: replace(neuron, fire=Signed(threshold // 2 if number == 1 else _ZERO, guarded=number > 1)),
        "burst": lambda: replace(neuron, fire=Burst(min(3, (1 << bits) - 1))),
        "refractory": lambda: replace(neuron, refractory=min(1 + number, limits.refractory_max or 1 + number)),
        "recurrent": lambda: neuron,
    }
    return make[kind]()


def _readout(kind: str, bound: int) -> Neuron:
    if kind == "sigma-delta":
        return SigmaDelta(np.array(1), np.array(bound // 8), _ZERO, rectify=False)
    return Integrator(np.array(1), _ZERO, _ZERO)
