"""Neurons step by step: docs/arithmetic.md section 2, in numba.

One kernel per family of models, whatever passes the threshold: the firing rule is the
small function `_fire`, which every spiking kernel takes in, once for each rule. The mapping and the layer-wise
executor run the same kernels, over int32 or int64; `ideal` alone runs over reals too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.neurons import (
    IF,
    LIF,
    NO_MEMORY,
    STATE_LIMIT,
    Burst,
    Fire,
    Graded,
    GradedReLU,
    IdealIntegrator,
    Integrator,
    Neuron,
    Reset,
    SigmaDelta,
    Signed,
    Source,
)
from nmc.kernels.compiled import compiled

SOURCE, LIF_PLAIN, LIF_LEAKY, IDEAL, INTEGRATOR, GRADED_RELU, GRADED, SIGMA_DELTA = range(8)
"""Neuron models as the kernels know them; a plain LIF remembers no current, leaks nothing and never rests."""

BINARY, BURST, SIGNED = range(3)
"""Firing rules as the kernels know them."""

_LIMIT = STATE_LIMIT


class Model(NamedTuple):
    """What all neurons of a population share, as integers.

    Attributes:
        kind: one of the models above.
        du, dv: decays, 0..4096; of ideal neurons dv alone, over reals.
        refractory: steps of rest.
        rule: one of the firing rules above.
        levels: largest burst.
        guarded: whether a signed rule takes back only what was sent.
        subtract: the reset; else to zero.
        rectify: of sigma-delta.
        once: a source sends in the first step only.
    """

    kind: int
    du: int = NO_MEMORY
    dv: int = 0
    refractory: int = 0
    rule: int = BINARY
    levels: int = 1
    guarded: int = 0
    subtract: int = 0
    rectify: int = 0
    once: int = 0


class Parameters(NamedTuple):
    """What each neuron has of its own, (n,) in units of v.

    Attributes:
        second: the lower threshold of a signed rule, the shift of sigma-delta.
    """

    threshold: Array
    bias: Array
    v0: Array
    second: Array


class State(NamedTuple):
    """(n,) arrays: current, potential, messages of the window added up, steps of rest left."""

    u: Array
    v: Array
    sent: Array
    rest: Array


def _rule(fire: Fire) -> dict[str, int]:
    match fire:
        case Burst(levels):
            return {"rule": BURST, "levels": levels}
        case Signed():
            return {"rule": SIGNED, "guarded": int(fire.guarded)}
        case _:
            return {"rule": BINARY}


def model_of(neuron: Neuron) -> Model:
    """The integers of a neuron model."""
    match neuron:
        case LIF(du=du, dv=dv, refractory=refractory):
            plain = du == NO_MEMORY and dv == 0 and refractory == 0
            subtract = int(neuron.reset is Reset.SUBTRACT)
            kind = LIF_PLAIN if plain else LIF_LEAKY
            return Model(kind, du, dv, refractory, subtract=subtract, **_rule(neuron.fire))
        case IF():
            return Model(IDEAL, dv=neuron.dv, subtract=int(neuron.reset is Reset.SUBTRACT), **_rule(neuron.fire))
        case Integrator():
            return Model(INTEGRATOR)
        case IdealIntegrator():
            return Model(IDEAL)
        case SigmaDelta():
            return Model(SIGMA_DELTA, rectify=int(neuron.rectify))
        case GradedReLU():
            return Model(GRADED_RELU)
        case Graded():
            return Model(GRADED)
        case Source():
            return Model(SOURCE, once=int(neuron.once))


def parameters_of(neuron: Neuron) -> Parameters:
    """The parameters of a neuron model as it stores them: (), (C, 1, 1) or full."""
    zero: Array = np.zeros((), dtype=np.int64)
    match neuron:
        case LIF():
            lower = np.left_shift(neuron.fire.lower, 6) if isinstance(neuron.fire, Signed) else zero
            return Parameters(np.left_shift(neuron.threshold, 6), neuron.bias, neuron.v0, lower)
        case IF():
            lower = neuron.fire.lower if isinstance(neuron.fire, Signed) else zero
            return Parameters(neuron.threshold, neuron.bias, neuron.v0, lower)
        case Integrator():
            return Parameters(zero, neuron.bias, neuron.v0, zero)
        case IdealIntegrator():
            # A threshold that no potential reaches.
            return Parameters(np.asarray(np.inf), neuron.bias, np.zeros(()), zero)
        case SigmaDelta():
            return Parameters(neuron.threshold, zero, neuron.v0, neuron.shift)
        case _:
            return Parameters(zero, zero, zero, zero)


@compiled(error_model="numpy", forceinline=True)
def _fire(rule, model, strict, x, threshold, lower, sent):
    """The message of a potential, and the potential after it; ``strict`` is 1 where equal does not fire."""
    beyond = x - strict >= threshold
    if rule == BURST:
        s = np.int64(min((x - strict) // threshold, model.levels)) if beyond else 0
        rest = x - s * threshold
    elif rule == SIGNED:
        back = x < -lower and (not model.guarded or sent > 0)
        s = np.int64(beyond) - np.int64(back)
        rest = x - s * threshold
    else:
        s = np.int64(beyond)
        rest = x - threshold if beyond else x
    if not model.subtract and s != 0:
        rest = x - x
    return s, rest


@compiled()
def _clipped(x):
    return min(max(x, -(_LIMIT - 1)), _LIMIT - 1)


@compiled()
def _wrapped(u):
    u -= 2 * _LIMIT * (u > _LIMIT)
    u += 2 * _LIMIT * (u <= -_LIMIT)
    return u


@compiled()
def _decayed(x, k):
    d = (np.int64(abs(x)) * (4096 - k)) >> 12
    return d if x >= 0 else -d


@compiled(forceinline=True)
def _lif_plain(rule, model, own, total, state, message):
    changed = 0
    v, sent = state.v, state.sent
    for i in range(total.shape[0]):
        before = v[i]
        x = _clipped(before + _wrapped(total[i] << 6) + own.bias[i])
        s, x = _fire(rule, model, 1, x, own.threshold[i], own.second[i], sent[i])
        message[i] = s
        if rule == SIGNED:
            sent[i] += s
        v[i] = x
        changed += (x != before) | (s != 0)
    return changed


@compiled()
def _lif_plain_by_rule(model, own, total, state, message):
    if model.rule == BURST:
        return _lif_plain(BURST, model, own, total, state, message)
    if model.rule == SIGNED:
        return _lif_plain(SIGNED, model, own, total, state, message)
    return _lif_plain(BINARY, model, own, total, state, message)


@compiled(forceinline=True)
def _lif_leaky(rule, model, own, total, state, message):
    changed = 0
    u, v, sent, rest = state.u, state.v, state.sent, state.rest
    for i in range(total.shape[0]):
        current = _wrapped(_decayed(u[i], model.du + 1) + (np.int64(total[i]) << 6))
        before, s = v[i], 0
        x = np.int64(before)
        if rest[i] > 0:
            rest[i] -= 1
        else:
            x = _clipped(_decayed(before, model.dv) + current + own.bias[i])
            s, x = _fire(rule, model, 1, x, own.threshold[i], own.second[i], sent[i])
            rest[i] = model.refractory if s != 0 else 0
        message[i] = s
        if rule == SIGNED:
            sent[i] += s
        changed += (x != before) | (u[i] != current) | (s != 0)
        u[i] = current
        v[i] = x
    return changed


@compiled()
def _lif_leaky_binary(model, own, total, state, message):
    """`_lif_leaky` of neurons that fire once and never rest, without a branch: a loop of vectors."""
    u, v = state.u, state.v
    changed = np.int64(0)
    keep_u, keep_v = np.int64(4096 - model.du - 1), np.int64(4096 - model.dv)
    kept = np.int64(1) if model.subtract else np.int64(0)
    for i in range(total.shape[0]):
        before_u, before_v = np.int64(u[i]), np.int64(v[i])
        left_u, left_v = (abs(before_u) * keep_u) >> 12, (abs(before_v) * keep_v) >> 12
        current = (left_u if before_u >= 0 else -left_u) + (np.int64(total[i]) << 6)
        current -= 2 * _LIMIT * np.int64(current > _LIMIT)
        current += 2 * _LIMIT * np.int64(current <= -_LIMIT)
        x = (left_v if before_v >= 0 else -left_v) + current + own.bias[i]
        x = min(max(x, np.int64(1 - _LIMIT)), np.int64(_LIMIT - 1))
        fired = x > own.threshold[i]
        x = kept * (x - own.threshold[i]) if fired else x
        message[i] = fired
        changed += np.int64((x != before_v) | (before_u != current) | fired)
        u[i] = current
        v[i] = x
    return changed


@compiled()
def _lif_leaky_by_rule(model, own, total, state, message):
    if model.rule == BINARY and model.refractory == 0:
        return _lif_leaky_binary(model, own, total, state, message)
    if model.rule == BURST:
        return _lif_leaky(BURST, model, own, total, state, message)
    if model.rule == SIGNED:
        return _lif_leaky(SIGNED, model, own, total, state, message)
    return _lif_leaky(BINARY, model, own, total, state, message)


@compiled(forceinline=True)
def _ideal(rule, model, kept, own, total, state, message):
    changed = 0
    v, sent = state.v, state.sent
    for i in range(total.shape[0]):
        before = v[i]
        x = before * kept + total[i] + own.bias[i]
        s, x = _fire(rule, model, 0, x, own.threshold[i], own.second[i], sent[i])
        message[i] = s
        if rule == SIGNED:
            sent[i] += s
        v[i] = x
        changed += (x != before) | (s != 0)
    return changed


@compiled()
def ideal(model, kept, own, total, state, message):
    """One step of ideal neurons, over integers or reals; how many changed. ``kept`` of v is left; 1 over integers."""
    if model.rule == BURST:
        return _ideal(BURST, model, kept, own, total, state, message)
    if model.rule == SIGNED:
        return _ideal(SIGNED, model, kept, own, total, state, message)
    return _ideal(BINARY, model, kept, own, total, state, message)


@compiled()
def _integrate(own, total, state, message):
    changed = 0
    v = state.v
    for i in range(total.shape[0]):
        before = v[i]
        v[i] = _clipped(before + (total[i] << 6) + own.bias[i])
        message[i] = 0
        changed += v[i] != before
    return changed


@compiled()
def _sigma_delta(model, own, total, state, message):
    changed = 0
    v, sent = state.v, state.sent
    for i in range(total.shape[0]):
        x = v[i] + total[i]
        activation = x >> own.second[i]
        if model.rectify:
            activation = max(activation, 0)
        change = activation - sent[i]
        s = change if abs(change) >= own.threshold[i] else 0
        message[i] = s
        sent[i] += s
        changed += (x != v[i]) | (s != 0)
        v[i] = x
    return changed


@compiled()
def graded(model, total, message):
    """One step of stateless neurons, over integers or reals; how many received something."""
    changed = 0
    for i in range(total.shape[0]):
        message[i] = total[i] if model.kind == GRADED else max(total[i], 0)
        changed += total[i] != 0
    return changed


@compiled()
def update(model, own, total, state, message):
    """One step of integer neurons of one model; how many of them changed.

    Args:
        model: `Model`.
        own: `Parameters` of n neurons.
        total: (n,) sums a.
        state: `State`, updated.
        message: (n,), written.
    """
    if model.kind == LIF_PLAIN:
        return _lif_plain_by_rule(model, own, total, state, message)
    if model.kind == LIF_LEAKY:
        return _lif_leaky_by_rule(model, own, total, state, message)
    if model.kind == IDEAL:
        return ideal(model, 1, own, total, state, message)
    if model.kind == INTEGRATOR:
        return _integrate(own, total, state, message)
    if model.kind == SIGMA_DELTA:
        return _sigma_delta(model, own, total, state, message)
    return graded(model, total, message)
