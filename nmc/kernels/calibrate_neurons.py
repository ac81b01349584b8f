"""Spikes of one layer on sampled rows, and how well their counts stand for the activations.

The arithmetic is that of docs/arithmetic.md for LIF neurons whose current has no memory. It is
done in float32, which is exact here: potentials stay below 2^23, sums of two below 2^24, and what
is larger is clipped. A leak multiplies by 12 bits: in float64, exact below 2^53.
"""

from __future__ import annotations

import numba
import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.neurons import LIF, NO_MEMORY, STATE_LIMIT, Binary, Burst, Reset, Signed
from nmc.kernels.calibrate_rows import CHUNK
from nmc.kernels.parallel import parallel

_TOP = np.float32(STATE_LIMIT - 1)
_BINARY, _BURST, _SIGNED = 0, 1, 2
_ONE, _ZERO, _UNIT = np.float32(1), np.float32(0), np.float32(64)


@numba.njit(nogil=True, cache=True)
def _counts(total, wait, bias, v0, threshold, lower, rule, levels, guarded, subtract, kept, out, uneven):
    rows, steps, chans = total.shape
    v = np.empty(chans, np.float32)
    # Sums over steps of n^2 and t n: what the deviation of n from an even flow takes.
    square, moment = np.empty(chans), np.empty(chans)
    even = steps * (steps + 1) * (2 * steps + 1) / 6.0 / steps**2
    for m in range(rows):
        b = bias[m % bias.shape[0]]
        start = v0[m % v0.shape[0]]
        n = out[m]
        for c in range(chans):
            v[c] = start[c]
            n[c] = _ZERO
            square[c] = 0.0
            moment[c] = 0.0
        for t in range(steps + wait):
            if kept < 1.0:
                for c in range(chans):
                    v[c] = np.float32(np.trunc(np.float64(v[c]) * kept))
            if t < steps:
                a = total[m, t]
                for c in range(chans):
                    v[c] = min(max(v[c] + (a[c] * _UNIT + b[c]), -_TOP), _TOP)
            else:
                for c in range(chans):
                    v[c] = min(max(v[c] + b[c], -_TOP), _TOP)
            if t < wait:
                continue
            if rule == _BINARY:
                for c in range(chans):
                    s = _ONE if v[c] > threshold[c] else _ZERO
                    n[c] += s
                    v[c] = v[c] - threshold[c] * s if subtract else v[c] * (_ONE - s)
            elif rule == _BURST:
                for c in range(chans):
                    s = _ZERO
                    for level in range(1, levels + 1):
                        s += _ONE if v[c] > threshold[c] * np.float32(level) else _ZERO
                    n[c] += s
                    v[c] = v[c] - threshold[c] * s if subtract else (v[c] if s == _ZERO else _ZERO)
            else:
                for c in range(chans):
                    s = _ONE if v[c] > threshold[c] else _ZERO
                    if v[c] < -lower[c] and (not guarded or n[c] > _ZERO):
                        s -= _ONE
                    n[c] += s
                    v[c] = v[c] - threshold[c] * s if subtract else (v[c] if s == _ZERO else _ZERO)
            now = t - wait + 1.0
            for c in range(chans):
                done = np.float64(n[c])
                square[c] += done * done
                moment[c] += now * done
        for c in range(chans):
            whole = np.float64(n[c])
            uneven[c] += (square[c] - 2.0 * whole * moment[c] / steps + whole * whole * even) / steps


def countable(neuron: LIF) -> bool:
    """Whether `spike_counts` knows the neuron: no memory of the current, no refractory steps."""
    return neuron.du == NO_MEMORY and neuron.refractory == 0


def spike_counts(
    neuron: LIF, total: Array, *, bias: Array, v0: Array, threshold: Array, lower: Array | None = None, wait: int = 0
) -> tuple[Array, Array]:
    """The messages of each row, added up over the window, and how unevenly they come.

    Args:
        neuron: its leak, reset and firing rule; its other numbers are not looked at.
        total: (rows, T, C) float32, the sum a of each step.
        bias: (1, C) or (rows, C) integers in units of v.
        v0: the same.
        threshold: (C,) integers in units of v.
        lower: (C,) in units of v, of a signed rule.
        wait: steps of the window before the first that may fire.

    Returns:
        (rows, C) float32; and (C,) mean over rows and steps of the square of what was sent until
        then less ``t / T`` of what is sent in all.
    """
    rule, levels, guarded = _BINARY, 1, False
    match neuron.fire:
        case Burst(levels):
            rule = _BURST
        case Signed(_, guarded):
            rule = _SIGNED
        case Binary():
            pass
    out = np.empty((len(total), total.shape[2]), dtype=np.float32)
    bar = threshold.astype(np.float32)
    below = bar * 0 if lower is None else lower.astype(np.float32)
    added, start = bias.astype(np.float32), v0.astype(np.float32)
    subtract, kept = neuron.reset is Reset.SUBTRACT, (4096 - neuron.dv) / 4096

    uneven = np.zeros((-(-len(total) // CHUNK), total.shape[2]))

    def one(index: int) -> None:
        part = slice(index * CHUNK, (index + 1) * CHUNK)
        own = added if len(added) == 1 else added[part]
        begin = start if len(start) == 1 else start[part]
        arrays = own, begin, bar, below
        _counts(total[part], wait, *arrays, rule, levels, guarded, subtract, kept, out[part], uneven[index])

    parallel(one, len(uneven))
    return out, _in_order(uneven) / max(len(total), 1)


@numba.njit(nogil=True, cache=True)
def _moments(counts, values, out):
    for m in range(counts.shape[0]):
        for c in range(counts.shape[1]):
            n = float(counts[m, c])
            out[0, c] += n
            out[1, c] += n * n
            out[2, c] += n * values[m, c]


def mean_moments(counts: Array, values: Array) -> Array:
    """Means over rows of n, n^2 and n y: (3, C), added chunk by chunk in order.

    Args:
        counts: (rows, C) float32 n.
        values: (rows, C) float64 y.
    """
    parts = np.zeros((-(-len(counts) // CHUNK), 3, counts.shape[1]))

    def one(index: int) -> None:
        part = slice(index * CHUNK, (index + 1) * CHUNK)
        _moments(counts[part], values[part], parts[index])

    parallel(one, len(parts))
    return _in_order(parts) / len(counts)


def _in_order(parts: Array) -> Array:
    """The sum over the first axis, added one after the other."""
    total = np.zeros(parts.shape[1:])
    for part in parts:
        total += part
    return total
