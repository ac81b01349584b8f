"""One step of the neurons of a slice: docs/arithmetic.md section 2, in numba.

The state is int32 or int64; `nmc.kernels.mapped` proves that the narrow one suffices
before it uses it.
"""

from __future__ import annotations

import numba
import numpy as np

from nmc.ir.neurons import STATE_LIMIT
from nmc.kernels.mapped_tables import GRADED, GRADED_RELU, IDEAL, INTEGRATOR, LIF_LEAKY, LIF_PLAIN

_LIMIT = STATE_LIMIT
_SUM_LIMIT = 1 << 31


@numba.njit(nogil=True, cache=True)
def sum_projections(tables, piece, acc, total, wide):
    """Section 2: bias and shift of each projection's sum, added up; the sums are cleared."""
    overflows = 0
    n = total.shape[0]
    total[:] = 0
    for g in range(tables.groups[piece], tables.groups[piece + 1]):
        first = tables.accumulators[g, 0]
        part = acc[first : first + n]
        constant = tables.constant[first : first + n]
        if wide:
            for i in range(n):
                if abs(part[i] + constant[i]) >= _SUM_LIMIT:
                    overflows += 1
        if tables.accumulators[g, 1]:
            right, left = tables.right[first : first + n], tables.left[first : first + n]
            for i in range(n):
                total[i] += ((part[i] + constant[i]) >> right[i]) << left[i]
        else:
            for i in range(n):
                total[i] += part[i] + constant[i]
        part[:] = 0
    return overflows


@numba.njit(nogil=True, cache=True)
def _lif_plain(total, bias, threshold, subtract, v, message):
    changed = 0
    for i in range(total.shape[0]):
        u = total[i] << 6
        u -= 2 * _LIMIT * (u > _LIMIT)
        u += 2 * _LIMIT * (u <= -_LIMIT)
        before = v[i]
        x = min(max(before + u + bias[i], -(_LIMIT - 1)), _LIMIT - 1)
        fired = x > threshold[i]
        message[i] = fired
        x = x - threshold[i] * fired if subtract else x * (not fired)
        v[i] = x
        changed += (x != before) | fired
    return changed


@numba.njit(nogil=True, cache=True)
def _decay(x, k):
    d = (np.int64(abs(x)) * (4096 - k)) >> 12
    return d if x >= 0 else -d


@numba.njit(nogil=True, cache=True)
def _lif_leaky(total, bias, threshold, du, dv, subtract, u, v, message):
    changed = 0
    for i in range(total.shape[0]):
        current = _decay(u[i], du + 1) + (np.int64(total[i]) << 6)
        current -= 2 * _LIMIT * (current > _LIMIT)
        current += 2 * _LIMIT * (current <= -_LIMIT)
        before = v[i]
        x = min(max(_decay(before, dv) + current + bias[i], -(_LIMIT - 1)), _LIMIT - 1)
        fired = x > threshold[i]
        message[i] = fired
        x = x - threshold[i] * fired if subtract else x * (not fired)
        changed += (x != before) | (u[i] != current) | fired
        u[i] = current
        v[i] = x
    return changed


@numba.njit(nogil=True, cache=True)
def _ideal(total, bias, threshold, subtract, v, message):
    changed = 0
    for i in range(total.shape[0]):
        before = v[i]
        x = before + total[i] + bias[i]
        fired = x >= threshold[i]
        message[i] = fired
        x = x - threshold[i] * fired if subtract else x * (not fired)
        v[i] = x
        changed += (x != before) | fired
    return changed


@numba.njit(nogil=True, cache=True)
def _integrate(total, bias, v, message):
    changed = 0
    for i in range(total.shape[0]):
        before = v[i]
        v[i] = min(max(before + (total[i] << 6) + bias[i], -(_LIMIT - 1)), _LIMIT - 1)
        message[i] = 0
        changed += v[i] != before
    return changed


@numba.njit(nogil=True, cache=True)
def update_neurons(tables, piece, total, bias, u, v, message):
    """One step of a slice's neurons; how many of them changed."""
    model, subtract = tables.slices[piece, 2], tables.slices[piece, 7] != 0
    first, n = tables.slices[piece, 0], tables.slices[piece, 1]
    threshold = tables.threshold[first : first + n]
    changed = 0
    if model == LIF_PLAIN:
        changed = _lif_plain(total, bias, threshold, subtract, v, message)
    elif model == LIF_LEAKY:
        du, dv = tables.slices[piece, 5], tables.slices[piece, 6]
        changed = _lif_leaky(total, bias, threshold, du, dv, subtract, u, v, message)
    elif model == IDEAL:
        changed = _ideal(total, bias, threshold, subtract, v, message)
    elif model == INTEGRATOR:
        changed = _integrate(total, bias, v, message)
    elif model == GRADED_RELU:
        for i in range(n):
            message[i] = max(total[i], 0)
            changed += total[i] != 0
    elif model == GRADED:
        for i in range(n):
            message[i] = total[i]
            changed += total[i] != 0
    return changed
