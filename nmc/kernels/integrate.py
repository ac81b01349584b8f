"""Populations over several steps: the kernels of `nmc.kernels.neurons` on (T, n) sums at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.connectivity import Array, Shape
from nmc.ir.network import Population
from nmc.ir.neurons import spike_levels
from nmc.ir.reference import per_channel
from nmc.kernels.compiled import compiled
from nmc.kernels.neurons import (
    GRADED,
    GRADED_RELU,
    IDEAL,
    Model,
    Parameters,
    State,
    graded,
    ideal,
    model_of,
    parameters_of,
    update,
)
from nmc.kernels.propagate import to_channels_last


@compiled()
def _integers(model, own, total, state, messages, potentials):
    for t in range(total.shape[0]):
        update(model, own, total[t], state, messages[t])
        if potentials.shape[0] > 0:
            potentials[t] = state.v


@compiled()
def _reals(model, own, total, state, messages, potentials):
    for t in range(total.shape[0]):
        ideal(model, (4096 - model.dv) / 4096, own, total[t], state, messages[t])
        if potentials.shape[0] > 0:
            potentials[t] = state.v


@compiled()
def _stateless(model, total, messages):
    for t in range(total.shape[0]):
        graded(model, total[t], messages[t])


def flat(values: Array, shape: Shape) -> Array:
    """A neuron parameter of shape (), (C,), (C, 1, 1) or ``shape`` as (n,), channels last."""
    return to_channels_last(np.broadcast_to(per_channel(values, shape), shape), shape)


def _at_rest(own: Parameters) -> State:
    u, sent, rest = (np.zeros(len(own.v0), dtype=np.int64) for _ in range(3))
    return State(u, own.v0.copy(), sent, rest)


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons of one population in one sample, channels last, with their state.

    Attributes:
        model: what they share.
        own: what each has of its own; float64 for networks over reals.
        message: type of a spiking neuron's messages.
        state: where the last `advance` left them.
    """

    model: Model
    own: Parameters
    message: np.dtype[np.generic]
    state: State

    @classmethod
    def lay(cls, population: Population, *, real: bool = False) -> Neurons:
        """The neurons of a population that is no source.

        Args:
            population: any but a source.
            real: whether sums are reals, which only ideal and graded neurons take.
        """
        neuron, shape = population.neuron, population.shape
        model, levels = model_of(neuron), spike_levels(neuron)
        own = Parameters(*(flat(np.asarray(values), shape) for values in parameters_of(neuron)))
        dtype = np.result_type(np.float64 if real and model.kind == IDEAL else np.int64, *own)
        own = Parameters(*(values.astype(dtype) for values in own))
        narrow = levels is not None and levels[1] < 128
        return cls(model, own, np.dtype(np.int8 if narrow else np.int64), _at_rest(own))

    def at_rest(self, drive: Array | None = None) -> Neurons:
        """At the start of a window; ``drive`` (n,), in units of v, takes the place of the bias."""
        own = self.own if drive is None else self.own._replace(bias=drive.astype(self.own.bias.dtype))
        return replace(self, own=own, state=_at_rest(own))

    def silent(self) -> Neurons:
        """The same neurons, and the same state, with thresholds that no potential reaches."""
        dtype = self.own.v0.dtype
        never = np.full(len(self.own.v0), np.inf if dtype.kind == "f" else np.iinfo(dtype).max, dtype=dtype)
        return replace(self, own=self.own._replace(threshold=never, second=never))

    def message_type(self, sums: np.dtype[np.generic]) -> np.dtype[np.generic]:
        """The type of the messages: that of the sums where neurons have no state."""
        return sums if self.model.kind in (GRADED, GRADED_RELU) else self.message

    def advance(self, total: Array, *, keep: bool = False) -> tuple[Array, Array]:
        """Take the sums of some steps.

        Args:
            total: (T, n) the sum a of each step, int32, int64 or float64.
            keep: also return the potentials.

        Returns:
            messages (T, n) and the potentials after each step (T, n), or (0, n) if not kept.
        """
        dtype = self.own.v0.dtype
        stateless = self.model.kind in (GRADED, GRADED_RELU)
        messages = np.empty(total.shape, dtype=self.message_type(total.dtype))
        potentials = np.empty(total.shape if keep and not stateless else (0, total.shape[1]), dtype=dtype)
        if stateless:
            _stateless(self.model, total, messages)
        else:
            steps = _integers if dtype == np.int64 else _reals
            steps(self.model, self.own, total.astype(dtype), self.state, messages, potentials)
        return messages, potentials
