"""Neurons over their window: docs/arithmetic.md section 2, for (T, n) sums at once."""

from __future__ import annotations

import numba
import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.neurons import NO_MEMORY, STATE_LIMIT

_LIMIT = STATE_LIMIT


@numba.njit(nogil=True, cache=True)
def _lif(total, bias, v, threshold, subtract, messages, potentials):
    keep = potentials.shape[0] > 0
    for t in range(total.shape[0]):
        for i in range(total.shape[1]):
            u = total[t, i] << 6
            if u > _LIMIT:
                u -= 2 * _LIMIT
            if u <= -_LIMIT:
                u += 2 * _LIMIT
            x = v[i] + u + bias[i]
            x = min(max(x, -(_LIMIT - 1)), _LIMIT - 1)
            fire = x > threshold[i]
            messages[t, i] = 1 if fire else 0
            if fire:
                x = x - threshold[i] if subtract else 0
            v[i] = x
            if keep:
                potentials[t, i] = x


@numba.njit(nogil=True, cache=True)
def _decay(x, k):
    d = (abs(x) * (4096 - k)) >> 12
    return d if x >= 0 else -d


@numba.njit(nogil=True, cache=True)
def _leaky(total, bias, v, threshold, du, dv, subtract, messages, potentials):
    keep = potentials.shape[0] > 0
    current = np.zeros(total.shape[1], dtype=np.int64)
    for t in range(total.shape[0]):
        for i in range(total.shape[1]):
            u = _decay(current[i], du + 1) + (total[t, i] << 6)
            if u > _LIMIT:
                u -= 2 * _LIMIT
            if u <= -_LIMIT:
                u += 2 * _LIMIT
            current[i] = u
            x = _decay(v[i], dv) + u + bias[i]
            x = min(max(x, -(_LIMIT - 1)), _LIMIT - 1)
            fire = x > threshold[i]
            messages[t, i] = 1 if fire else 0
            if fire:
                x = x - threshold[i] if subtract else 0
            v[i] = x
            if keep:
                potentials[t, i] = x


@numba.njit(nogil=True, cache=True)
def _ideal(total, bias, v, threshold, subtract, messages, potentials):
    keep = potentials.shape[0] > 0
    for t in range(total.shape[0]):
        for i in range(total.shape[1]):
            x = v[i] + total[t, i] + bias[i]
            fire = x >= threshold[i]
            messages[t, i] = 1 if fire else 0
            if fire:
                x = x - threshold[i] if subtract else x - x
            v[i] = x
            if keep:
                potentials[t, i] = x


def lif(
    total: Array,
    *,
    bias: Array,
    v0: Array,
    threshold: Array,
    du: int,
    dv: int,
    subtract: bool,
    keep_potentials: bool = False,
) -> tuple[Array, Array]:
    """A LIF population over its window.

    Args:
        total: (T, n) int32 or int64 sums a of each step.
        bias: (n,) int64 in units of v.
        v0: (n,) int64.
        threshold: (n,) int64 mantissa (compared as ``threshold << 6``).
        du: decay of the current, 0..4095.
        dv: decay of the potential, 0..4095.
        subtract: the reset; else to zero.
        keep_potentials: also return v after each step.

    Returns:
        messages (T, n) int8 and potentials (T, n) int64, or (0, n) if not kept.
    """
    messages = np.empty(total.shape, dtype=np.int8)
    potentials = np.empty(total.shape if keep_potentials else (0, total.shape[1]), dtype=np.int64)
    wide, v, bar = total.astype(np.int64), v0.astype(np.int64), threshold.astype(np.int64) << 6
    if du == NO_MEMORY and dv == 0:
        _lif(wide, bias.astype(np.int64), v, bar, subtract, messages, potentials)
    else:
        _leaky(wide, bias.astype(np.int64), v, bar, du, dv, subtract, messages, potentials)
    return messages, potentials


def ideal(
    total: Array, *, bias: Array, v0: Array, threshold: Array, subtract: bool, keep_potentials: bool = False
) -> tuple[Array, Array]:
    """An IF population over its window, over int64 or float64; arguments as `lif`."""
    dtype = np.result_type(total.dtype, bias.dtype, v0.dtype, threshold.dtype, np.int64)
    messages = np.empty(total.shape, dtype=np.int8)
    potentials = np.empty(total.shape if keep_potentials else (0, total.shape[1]), dtype=dtype)
    v = v0.astype(dtype)
    _ideal(total.astype(dtype), bias.astype(dtype), v, threshold.astype(dtype), subtract, messages, potentials)
    return messages, potentials
