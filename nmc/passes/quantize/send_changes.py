"""Sigma-delta coding: a graded network that sends changes of its messages instead of the messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, size
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import Graded, GradedReLU, SigmaDelta, Source
from nmc.ir.reference import encode, per_channel
from nmc.kernels.layerwise import execute_network
from nmc.passes.base import Context
from nmc.passes.quantize.fit_graded import MARGIN, sum_limit

SAMPLES = 16
"""Calibration samples that show how large the sums become."""


@dataclass(frozen=True)
class SendChanges:
    """Every neuron keeps the sum of what it has received and sends how its activation has changed.

    The sums of a population are brought to its finest shift and added up before they are
    shifted, so that each activation is rounded once; its bias is the sum's start. A neuron
    whose activation stands still sends nothing: with a threshold of 1 the messages add up to
    the activation of every step.

    Attributes:
        timesteps: steps of the window.
        threshold: smallest change that is sent, in units of the message.
    """

    timesteps: int = 32
    threshold: int = 1

    name: ClassVar[str] = "send-changes"
    stage: ClassVar[str] = "quantize"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The sigma-delta network of an integer graded one; sums that may pass 2^31 are errors."""
        populations, projections = [], dict[str, Projection]()
        finest: dict[str, Array] = {}
        for population in program.populations:
            match population.neuron:
                case Graded() | GradedReLU():
                    incoming = program.incoming[population.name]
                    finest[population.name] = np.max([_shifts(p, population) for p in incoming], axis=0)
                    populations.append(self._changing(population, incoming, finest[population.name]))
                    projections |= {p.name: _scaled(p, population, finest[population.name]) for p in incoming}
                case Source():
                    populations.append(replace(population, neuron=replace(population.neuron, once=True)))
                case other:
                    raise TypeError(f"a {type(other).__name__} in a graded network")
        # What is read is the sum before its shift.
        outputs = tuple(replace(o, scale=o.scale / np.exp2(finest[o.population])) for o in program.outputs)
        changing = replace(
            program,
            populations=tuple(populations),
            projections=tuple(projections[p.name] for p in program.projections),
            outputs=outputs,
            timesteps=self.timesteps,
            # The messages of the window add up to the value: one of them per step stands for all.
            scales={name: scale * self.timesteps for name, scale in program.scales.items()},
        )
        _prove(changing, context)
        return changing

    def _changing(self, population: Population, incoming: tuple[Projection, ...], finest: Array) -> Population:
        start: Array = np.zeros(population.shape, dtype=np.int64)
        for projection in incoming:
            own = _shifts(projection, population)
            # Each shifted sum was rounded by half a unit; here one half serves them all.
            bias = _spread(np.asarray(0 if projection.bias is None else projection.bias), population) - _half(
                own, population
            )
            left = np.maximum(-np.asarray(projection.shift), 0)
            start = start + np.left_shift(bias, _spread(finest - own + left, population))
        start = start + _half(finest, population)
        rectify = isinstance(population.neuron, GradedReLU)
        neuron = SigmaDelta(np.array(self.threshold), _narrow(start), _column(finest, population), rectify)
        return replace(population, neuron=neuron)


def _shifts(projection: Projection, population: Population) -> Array:
    """(C,) right shifts, none of them to the left."""
    return np.broadcast_to(np.maximum(projection.shift, 0), (population.shape[0],))


def _spread(values: Array, population: Population) -> Array:
    return np.broadcast_to(per_channel(values, population.shape), population.shape)


def _column(values: Array, population: Population) -> Array:
    """(C,) values as a neuron parameter, (C, 1, 1)."""
    return values.reshape(-1, *(1,) * (len(population.shape) - 1))


def _half(shift: Array, population: Population) -> Array:
    return _spread((1 << shift) >> 1, population)


def _narrow(values: Array) -> Array:
    """One value per channel where a channel has only one."""
    by_channel = values.reshape(values.shape[0], -1)
    first = by_channel[:, :1]
    if size(values.shape[1:]) > 1 and np.all(by_channel == first):
        return np.ascontiguousarray(first.reshape(-1, *(1,) * (values.ndim - 1)))
    return values


def _scaled(projection: Projection, population: Population, finest: Array) -> Projection:
    """The projection with its sum in units of the population's finest shift."""
    left = np.maximum(-np.asarray(projection.shift), 0) + finest - _shifts(projection, population)
    return replace(projection, shift=-left, bias=None)


def _prove(network: Network, context: Context) -> None:
    """No sum reaches the target's limit on messages within `MARGIN` times their calibrated range."""
    inputs = encode(network, context.calibration.inputs[:SAMPLES])
    run = execute_network(replace(network, timesteps=1), inputs, keep=True)
    for population in network.populations:
        if population.name not in run.potentials:
            continue
        worst = MARGIN * float(np.abs(run.potentials[population.name]).max())
        if worst >= sum_limit(context.target):
            context.diagnostics.error(
                "accumulator-overflow",
                f"the sum of {population.name} may reach {worst:.3g}, above 2^{context.target.neurons.sum_bits - 1}",
                origin=population.origin,
                help="calibrate with data in the range of use, or use --coding graded",
            )
