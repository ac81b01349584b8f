"""Random neurons of every model: each parameter is drawn but the threshold's size, which is searched for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nmc.ir import reference
from nmc.ir.connectivity import Array, Shape
from nmc.ir.network import Population, Projection
from nmc.ir.neurons import IF, LIF, NO_MEMORY, Binary, Burst, Fire, Neuron, Reset, SigmaDelta, Signed
from nmc.testing.random_projections import matrix_of, projected_sums

Family = Callable[[float], Neuron]
"""Neurons by the size of their threshold."""

SPIKING_MODELS = ("rate", "lif-leak", "reset-zero", "if", "signed", "ternary", "burst", "refractory")
"""Models whose messages are spikes."""

THRESHOLD_MAX = 131071


def draw_family(
    rng: np.random.Generator, model: str, shape: Shape, total: Array, *, driven: bool, exponent: int
) -> Family:
    """Neurons of one model.

    Args:
        rng: draws every parameter but the threshold's size.
        model: of `SPIKING_MODELS`, ``sigma-delta``, or ``plain-delta``: without shift.
        shape: of the population.
        total: (samples, T, neurons) the sums that it receives: they decide the size of biases and shifts.
        driven: the population takes the input as its bias.
        exponent: of the bias, where it is driven.
    """
    channels: Shape = (shape[0], *(1,) * (len(shape) - 1))
    if model in ("sigma-delta", "plain-delta"):
        return _sigma_delta(rng, channels, total, shifts=model == "sigma-delta")
    spread = 2.0 ** rng.uniform(-1, 1, size=channels if rng.random() < 0.7 else ())
    start = rng.uniform(-0.5, 0.9, size=shape) if rng.random() < 0.4 else np.asarray(rng.choice([0.0, 0.5]))
    reset = Reset.ZERO if model in ("reset-zero", "ternary") else Reset.SUBTRACT
    either = model in ("lif-leak", "if") or (model in ("signed", "burst", "refractory") and rng.random() < 0.5)
    if either:
        reset = Reset(rng.choice([r.value for r in Reset]))
    leak = model == "lif-leak" or (model in ("signed", "ternary", "burst", "refractory") and rng.random() < 0.5)
    du = int(rng.integers(200, 4096)) if leak and rng.random() < 0.7 else NO_MEMORY
    dv = int(rng.integers(1, 2500)) if leak and rng.random() < 0.7 else 0
    drawn = rng.normal(0.2, 0.4, size=channels) * float(np.std(total)) * (0.0 if driven else 1.0)
    fires = _draw_fire(rng, model, channels)
    if model == "if" or (model in ("signed", "burst") and rng.random() < 0.4):
        bias = np.rint(drawn).astype(np.int64)

        def ideal(scale: float) -> Neuron:
            threshold = np.maximum(np.rint(scale * spread), 1).astype(np.int64)
            v0 = np.rint(start * threshold).astype(np.int64)
            return IF(threshold, bias, v0, reset, fires(threshold))

        return ideal
    refractory = int(rng.integers(1, 6)) if model == "refractory" else 0
    if not driven:
        largest = float(np.abs(drawn).max()) * 64
        needed = max(0, math.ceil(math.log2(max(largest, 1.0) / 4095)))
        exponent = min(7, needed + int(rng.integers(0, 2)))
    mant = np.clip(np.rint(drawn * 64 / (1 << exponent)), -4095, 4095).astype(np.int64)

    def lif(scale: float) -> Neuron:
        threshold = np.clip(np.rint(scale * spread), 1, THRESHOLD_MAX).astype(np.int64)
        v0 = np.rint(start * threshold * 64).astype(np.int64)
        return LIF(threshold, mant, np.asarray(exponent), v0, du, dv, reset, fires(threshold), refractory)

    return lif


def _draw_fire(rng: np.random.Generator, model: str, channels: Shape) -> Callable[[Array], Fire]:
    """Firing rules by threshold, of which lower thresholds are a share."""
    if model == "if" or (model == "refractory" and rng.random() < 0.5):
        model = str(rng.choice(["rate", "signed", "burst"]))
    if model == "burst":
        levels = int(rng.choice([2, 3, 4, 7, 15]))
        return lambda threshold: Burst(levels)
    if model in ("signed", "ternary"):
        guarded = model == "signed" and bool(rng.random() < 0.6)
        share = rng.uniform(0, 1.2, size=channels) if rng.random() < 0.5 else np.asarray(rng.choice([0.0, 1.0]))

        def signed(threshold: Array) -> Fire:
            lower = np.clip(np.rint(share * threshold), 0, THRESHOLD_MAX).astype(np.int64)
            return Signed(lower, guarded)

        return signed
    return lambda threshold: Binary()


def _sigma_delta(rng: np.random.Generator, channels: Shape, total: Array, *, shifts: bool) -> Family:
    """Shifts that bring activations to 6 to 9 bits, or none."""
    peaks = np.abs(np.cumsum(total, axis=1)).reshape(*total.shape[:2], channels[0], -1).max(axis=(0, 1, 3))
    if rng.random() < 0.5:
        peaks = peaks.max(keepdims=True)
    bits = np.ceil(np.log2(peaks + 1.0)).astype(np.int64) - rng.integers(6, 10, size=peaks.shape)
    shift = np.clip(bits, 0, 20) * shifts
    shift = shift.reshape(channels) if shift.size == channels[0] else shift.reshape(())
    width = max(1, int(peaks.max()) // 4)
    v0 = rng.integers(-width, width + 1, size=channels if rng.random() < 0.6 else ())
    spread = 2.0 ** rng.uniform(-1, 1, size=channels if rng.random() < 0.5 else ())
    rectify = bool(rng.random() < 0.8)

    def delta(scale: float) -> Neuron:
        return SigmaDelta(np.maximum(np.rint(scale * spread), 1).astype(np.int64), np.asarray(v0), shift, rectify)

    return delta


def simulate(
    populations: Sequence[Population],
    loops: Sequence[Projection],
    totals: Mapping[str, Array],
    drive: Array | None,
) -> dict[str, Array]:
    """Messages by population, (samples, T, neurons), by the reference's own update.

    Args:
        populations: in topological order.
        loops: projections among them, recurrent or not.
        totals: (samples, T, neurons) by population: all other sums that arrive in its window.
        drive: (samples, *shape) input that a single population takes as its bias.
    """
    samples, steps = next(iter(totals.values())).shape[:2]
    starts = {p.name: p.start for p in populations}
    states = {p.name: reference._State(replace(p, shape=(samples, *p.shape))) for p in populations}
    matrices = {loop.name: matrix_of(loop.connectivity).T for loop in loops}
    sent = {p.name: np.zeros((samples, steps, p.neurons), dtype=np.int64) for p in populations}
    for step in range(steps):
        for population in populations:
            name = population.name
            total = totals[name][:, step]
            for loop in loops:
                # Step of the source's window in which the message that arrives now was sent.
                then = step + starts[name] - loop.delay - starts[loop.source] if loop.target == name else -1
                if then >= 0:
                    message = sent[loop.source][:, then]
                    total = total + projected_sums(loop, message, message @ matrices[loop.name])
            message = states[name].step(total.reshape(samples, *population.shape), drive)
            sent[name][:, step] = message.reshape(samples, -1)
    return sent
