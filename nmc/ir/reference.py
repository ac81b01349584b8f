"""The integer reference interpreter: docs/arithmetic.md as code, slow and obvious.

It decides what a `Network` means. Everything else that executes networks is compared
with it. It works over reals too (networks before quantization), in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Shape, size
from nmc.ir.network import InputSpec, Network, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    STATE_LIMIT,
    Binary,
    Burst,
    Fire,
    Graded,
    GradedReLU,
    IdealIntegrator,
    Integrator,
    Reset,
    SigmaDelta,
    Signed,
    Source,
    has_potential,
)
from nmc.ir.samples import joined, parted


@dataclass(frozen=True, eq=False)
class ReferenceTrace:
    """One sample's run.

    Attributes:
        messages: by population, (T, *shape): messages in each of the steps in which it may send.
        potentials: by population with a potential, (T, *shape): v after each of these steps.
        readouts: of the outputs, in order, (*population shape): v at the window's end, or the message.
    """

    messages: Mapping[str, Array]
    potentials: Mapping[str, Array]
    readouts: tuple[Array, ...]

    @property
    def readout(self) -> Array:
        """Of the first output."""
        return self.readouts[0]


def encode(network: Network, x: Array) -> Array:
    """Float samples to integer inputs, (N, *shape) each.

    Those of several inputs are joined, `nmc.ir.samples`: samples of the inputs' shapes to integers of
    the shapes of the populations that take them.
    """
    parts = parted(x, [spec.shape for spec in network.inputs])
    return joined([_encoded(network, spec, part) for spec, part in zip(network.inputs, parts, strict=True)])


def _encoded(network: Network, spec: InputSpec, x: Array) -> Array:
    if spec.perm is not None:
        x = x.transpose(0, *(axis + 1 for axis in spec.perm))
    q = np.clip(np.rint(x.astype(np.float64) / spec.scale), spec.low, spec.high).astype(np.int64)
    if spec.split_sign:
        q = np.concatenate([np.maximum(q, 0), np.maximum(-q, 0)], axis=1)
    return q.reshape(len(x), *network.by_name[spec.population].shape)


def per_channel(values: Array, shape: Shape) -> Array:
    """Values of shape (), (C,) or ``shape``, made broadcastable to ``shape``."""
    if values.ndim == 1 and len(shape) > 1:
        return values.reshape(-1, *(1,) * (len(shape) - 1))
    return values


def weighted_sum(connectivity: Connectivity, message: Array) -> Array:
    """W m for one sample's messages, as the list of synapses defines it."""
    target, source, weight = connectivity.synapses()
    total = np.zeros(size(connectivity.out_shape), dtype=weight.dtype)
    np.add.at(total, target, weight * message.reshape(-1)[source])
    return total.reshape(connectivity.out_shape)


def projected(projection: Projection, message: Array) -> Array:
    """(W m + b) >> k of one projection, in its output shape."""
    shape = projection.connectivity.out_shape
    total = weighted_sum(projection.connectivity, message)
    if projection.bias is not None:
        total = total + per_channel(projection.bias, shape)
    if not np.issubdtype(total.dtype, np.integer):
        return total
    shift = per_channel(projection.shift, shape)
    right, left = np.maximum(shift, 0), np.maximum(-shift, 0)
    return np.left_shift(np.right_shift(total, right), left)


def _truncating_decay(x: Array, k: int) -> Array:
    decayed: Array = np.sign(x) * ((np.abs(x) * (4096 - k)) >> 12)
    return decayed


class _State:
    """The state of one population, and its step."""

    def __init__(self, population: Population) -> None:
        self.population = population
        neuron, shape = population.neuron, population.shape
        self.u: Array = np.zeros(shape, dtype=np.int64)
        self.v: Array = np.zeros(shape)
        if isinstance(neuron, LIF | IF | Integrator | SigmaDelta):
            self.v = np.broadcast_to(neuron.v0, shape).copy()
        self.sent: Array = np.zeros(shape, dtype=np.int64)  # the messages of the window, added up
        self.rest: Array = np.zeros(shape, dtype=np.int64)  # steps for which a neuron stays refractory
        self.waits = False

    def step(self, total: Array, bias_input: Array | None, *, waits: bool = False) -> Array:
        neuron = self.population.neuron
        self.waits = waits
        message: Array = np.zeros(total.shape, dtype=np.int64)
        match neuron:
            case LIF():
                message = self._lif(neuron, total, bias_input)
            case IF():
                kept = self.v * ((4096 - neuron.dv) / 4096) if neuron.dv else self.v
                self.v = kept + total + (neuron.bias if bias_input is None else bias_input)
                threshold = np.broadcast_to(neuron.threshold, self.v.shape)
                message = self._fired(neuron.fire, threshold, unit=1, strict=0)
                self._reset(message, threshold, neuron.reset)
            case Integrator():
                v = self.v + (total << 6) + neuron.bias
                self.v = np.clip(v, -(STATE_LIMIT - 1), STATE_LIMIT - 1)
            case IdealIntegrator():
                self.v = self.v + total + neuron.bias
            case GradedReLU():
                message = np.maximum(total, 0)
            case Graded():
                message = total
            case SigmaDelta():
                self.v = self.v + total
                activation = np.right_shift(self.v, neuron.shift)
                change = (np.maximum(activation, 0) if neuron.rectify else activation) - self.sent
                message = np.where(np.abs(change) >= neuron.threshold, change, 0)
            case Source():
                raise TypeError("a source has no step")
        self.sent = self.sent + message
        return message

    def _lif(self, neuron: LIF, total: Array, bias_input: Array | None) -> Array:
        bias = neuron.bias if bias_input is None else np.left_shift(bias_input, neuron.bias_exp)
        self.u = _truncating_decay(self.u, neuron.du + 1) + (total << 6)
        self.u = np.where(self.u > STATE_LIMIT, self.u - 2 * STATE_LIMIT, self.u)
        self.u = np.where(self.u <= -STATE_LIMIT, self.u + 2 * STATE_LIMIT, self.u)
        v = _truncating_decay(self.v, neuron.dv) + self.u + bias
        awake = self.rest == 0
        self.v = np.where(awake, np.clip(v, -(STATE_LIMIT - 1), STATE_LIMIT - 1), self.v)
        threshold = np.broadcast_to(neuron.threshold << 6, v.shape)
        message = np.where(awake, self._fired(neuron.fire, threshold, unit=64, strict=1), 0)
        self._reset(message, threshold, neuron.reset)
        self.rest = np.where(message != 0, neuron.refractory, np.maximum(self.rest - 1, 0))
        return message

    def _fired(self, fire: Fire, threshold: Array, *, unit: int, strict: int) -> Array:
        """The message of the potentials; ``unit`` is that of ``lower`` in units of v.

        Where the compare is strict, a potential of exactly n thresholds is above n - 1 of them.
        """
        if self.waits:
            return np.zeros(self.v.shape, dtype=np.int64)
        beyond: Array = (self.v - strict >= threshold).astype(np.int64)
        match fire:
            case Binary():
                return beyond
            case Burst(levels):
                return np.asarray(np.clip((self.v - strict) // threshold, 0, levels).astype(np.int64))
            case Signed(lower, guarded):
                back = self.v < -(lower * unit)
                return beyond - (back & (self.sent > 0) if guarded else back)

    def _reset(self, message: Array, threshold: Array, reset: Reset) -> None:
        after = self.v - message * threshold if reset is Reset.SUBTRACT else np.zeros_like(self.v)
        self.v = np.where(message != 0, after, self.v)


def run(network: Network, sample: Array) -> ReferenceTrace:
    """Execute one sample, all populations step by step.

    Args:
        network: aligned; integer or real.
        sample: (*network.input_shape) integer input, as `encode` makes it.
    """
    steps = network.timesteps
    given = {
        name: sample.reshape(-1)[place].reshape(network.by_name[name].shape)
        for name, place in network.input_places.items()
    }
    states = {p.name: _State(p) for p in network.populations if not isinstance(p.neuron, Source)}
    sent: dict[str, list[Array]] = {p.name: [] for p in network.populations}
    held: dict[str, list[Array]] = {p.name: [] for p in network.populations}
    for step in range(network.timesteps_total):
        for population in network.populations:
            name = population.name
            if not population.start <= step < population.sends_from + steps:
                continue
            if isinstance(population.neuron, Source):
                idle = population.neuron.once and step > population.start
                sent[name].append(np.zeros_like(given[name]) if idle else given[name])
                continue
            state = states[name]
            total: Array = np.zeros(population.shape, dtype=np.int64)
            for projection in network.incoming[name]:
                # Which of the source's T steps sent the message that arrives now.
                sent_at = step - projection.delay - network.by_name[projection.source].sends_from
                if 0 <= sent_at < steps:
                    arrived = projected(projection, sent[projection.source][sent_at])
                    total = total + arrived.reshape(population.shape)
            waits = step < population.sends_from
            message = state.step(total, given.get(name), waits=waits)
            if not waits:
                sent[name].append(message)
                held[name].append(state.v)
    messages = {name: np.stack(parts) for name, parts in sent.items()}
    stateful = [p.name for p in network.populations if has_potential(p.neuron)]
    potentials = {name: np.stack(held[name]) for name in stateful}
    last = messages | potentials
    return ReferenceTrace(messages, potentials, tuple(last[spec.population][-1] for spec in network.outputs))


def decode(network: Network, readout: Array, output: int = 0) -> Array:
    """Read-outs of one output, (N, *population shape), to its real values (N, *output shape)."""
    spec = network.outputs[output]
    scale = per_channel(spec.scale, network.by_name[spec.population].shape)
    values: Array = (readout * scale).astype(np.float64)
    if spec.head == "argmax":
        values = values.reshape(len(values), -1).argmax(axis=1).astype(np.float64)
    values = values.reshape(len(readout), *spec.shape)
    if spec.head == "softmax":
        exponent = np.exp(values - values.max(axis=-1, keepdims=True))
        values = exponent / exponent.sum(axis=-1, keepdims=True)
    elif spec.head == "sigmoid":
        values = sigmoid(values)
    return values


def sigmoid(values: Array) -> Array:
    """``1 / (1 + exp(-x))`` without overflow."""
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small))


def answers(network: Network, outputs: Array, output: int = 0) -> Array:
    """The class numbers, (N,) int64, that values (N, *output shape) of one output stand for.

    The place of the largest; the output itself behind an argmax; for a single sigmoid,
    whether it is above one half.
    """
    flat, head = outputs.reshape(len(outputs), -1), network.outputs[output].head
    if head == "argmax":
        return np.asarray(flat[:, 0].astype(np.int64))
    if head == "sigmoid" and flat.shape[1] == 1:
        return np.asarray((flat[:, 0] > 0.5).astype(np.int64))
    return np.asarray(flat.argmax(axis=1).astype(np.int64))


def classes(network: Network, output: int = 0) -> int:
    """How many class numbers there are, from 0."""
    spec = network.outputs[output]
    outputs = size(network.by_name[spec.population].shape)
    return 2 if spec.head == "sigmoid" and outputs == 1 else outputs
