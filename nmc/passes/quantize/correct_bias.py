"""Mean errors of conversion and quantization go into the biases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.hardware.target import NeuronLimits
from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population
from nmc.ir.neurons import IF, LIF, IdealIntegrator, Integrator, Neuron
from nmc.ir.reference import encode, per_channel
from nmc.kernels.layerwise import LaidPopulation
from nmc.kernels.parallel import parallel
from nmc.kernels.propagate import to_channels_last
from nmc.kernels.statistics import column_means
from nmc.passes.base import Context
from nmc.passes.quantize.fixed_point import mantissa_and_exponent
from nmc.passes.quantize.quantize_rate import UNIT


@dataclass(frozen=True)
class CorrectBias:
    """Match each channel's mean message to the mean activation of the analog network.

    Layer by layer, on the messages that the layers before really send: the difference of
    means (clipping, rounding, quantization and spike timing together) is added to the bias,
    ``gain`` of it per round. Works on networks over reals and over integers; a network with
    loops is left as it is, for what a loop brings depends on the correction itself.

    Attributes:
        rounds: corrections per layer.
        gain: share of the mean error that one round removes.
        samples: calibration samples simulated.
    """

    rounds: int = 2
    gain: float = 0.7
    samples: int = 128

    name: ClassVar[str] = "correct-bias"
    stage: ClassVar[str] = "quantize"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The same network with other biases."""
        if program.recurrent:
            return program
        names = [p.name for p in program.populations[1:] if not p.name.endswith(":read-out")]
        wanted = {
            name: _channel_means(values[: self.samples])
            for name, values in context.calibration.activations(names).items()
        }
        inputs = encode(program, context.calibration.inputs[: self.samples])
        flat = to_channels_last(inputs, program.by_name[program.input.population].shape)
        left = {name: len(projections) for name, projections in program.outgoing.items()}
        sent: dict[str, list[Array]] = {}
        populations: list[Population] = []
        for number, population in enumerate(program.populations):
            laid = LaidPopulation.lay(program, population)
            totals = _totals(laid, sent, len(inputs))
            target = wanted.get(population.name)
            corrected = population
            if target is not None and _has_bias(population.neuron):
                for _ in range(self.rounds):
                    responses = _responses(replace(laid, population=corrected), totals, flat)
                    error = target - _decoded_means(program, corrected, responses)
                    corrected = _shifted(program, corrected, error * self.gain, context.target.neurons)
            populations.append(corrected)
            context.progress(f"correct bias of {population.name}", (number + 1) / len(program.populations))
            if program.outgoing[population.name]:
                responses = _responses(replace(laid, population=corrected), totals, flat)
                sent[population.name] = [messages for messages, _ in responses]
            for projection in program.incoming[population.name]:
                left[projection.source] -= 1
                if left[projection.source] == 0:
                    del sent[projection.source]
        return replace(program, populations=tuple(populations))


def _has_bias(neuron: Neuron) -> bool:
    return isinstance(neuron, IF | LIF | Integrator | IdealIntegrator)


def _channel_means(values: Array) -> Array:
    """(N, C, ...) to (C,)."""
    shape = values.shape[1:]
    return column_means(to_channels_last(values, shape).reshape(-1, shape[0]))


def _totals(laid: LaidPopulation, sent: dict[str, list[Array]], count: int) -> list[Array]:
    totals: list[Array] = [np.zeros(0)] * count

    def one(index: int) -> None:
        totals[index] = laid.totals({name: messages[index] for name, messages in sent.items()})

    parallel(one, count)
    return totals


def _responses(laid: LaidPopulation, totals: list[Array], flat: Array) -> list[tuple[Array, Array]]:
    responses: list[tuple[Array, Array]] = [(np.zeros(0), np.zeros(0))] * len(totals)

    def one(index: int) -> None:
        responses[index] = laid.respond(totals[index], flat[index])

    parallel(one, len(totals))
    return responses


def _decoded_means(network: Network, population: Population, responses: list[tuple[Array, Array]]) -> Array:
    """Mean real value of each channel."""
    channels = population.shape[0]
    if isinstance(population.neuron, Integrator | IdealIntegrator):
        held = np.stack([potentials[-1] for _, potentials in responses]).astype(np.float64)
        return column_means(held.reshape(-1, channels)) * network.read_outs[population.name].scale
    counts = np.stack([messages.sum(axis=0, dtype=np.float64) for messages, _ in responses])
    per_step = column_means(counts.reshape(-1, channels)) / network.timesteps
    return np.asarray(per_step * network.scales[population.name])


def _shifted(network: Network, population: Population, error: Array, limits: NeuronLimits) -> Population:
    """The population with ``error`` (real value per inference, by channel) added to its bias."""
    neuron, shape = population.neuron, population.shape
    match neuron:
        case IF():
            return replace(population, neuron=replace(neuron, bias=neuron.bias + per_channel(error, shape)))
        case IdealIntegrator():
            step = error / (network.read_outs[population.name].scale * network.timesteps)
            return replace(population, neuron=replace(neuron, bias=neuron.bias + per_channel(step, shape)))
        case LIF():
            # One spike stands for scale / T and costs one threshold.
            units = error / network.scales[population.name] * UNIT
            added = per_channel(units, shape) * neuron.threshold
        case Integrator():
            added = per_channel(error / (network.read_outs[population.name].scale * network.timesteps), shape)
        case _:
            raise TypeError(f"{type(neuron).__name__} has no bias")
    # A correction is small: where it would pass the largest bias, the largest bias is kept.
    top = float(limits.bias_mantissa_max << limits.bias_exponent_max)
    mantissa, exponent = mantissa_and_exponent(np.clip(neuron.bias + added, -top, top), limits)
    return replace(population, neuron=replace(neuron, bias_mant=mantissa, bias_exp=exponent))
