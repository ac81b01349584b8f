"""Statistics that decide stored integers: sequential float64 sums, equal on every machine."""

from __future__ import annotations

import numba
import numpy as np

from nmc.ir.connectivity import Array
from nmc.kernels.parallel import parallel


@numba.njit(nogil=True, cache=True)
def _moments(values, threshold, steps, subtract, start, curve, out):
    for m in range(values.shape[0]):
        for c in range(values.shape[1]):
            y = values[m, c]
            bar = threshold[c]
            n = 0.0
            if y > 0.0:
                if curve.size > 0:
                    n = float(np.searchsorted(curve, y / bar, side="right"))
                elif subtract:
                    n = min(np.floor(y * steps / bar + start), float(steps))
                else:
                    # Constant drive y from v0 = start * bar: the first spike comes after (bar - v0) / y steps,
                    # the others every bar / y steps, each rounded up; what is above the bar is lost.
                    first = max(np.ceil((1.0 - start) * bar / y), 1.0)
                    if first <= steps:
                        n = 1.0 + np.floor((steps - first) / max(np.ceil(bar / y), 1.0))
            out[0, c] += n * n
            out[1, c] += n * y
            out[2, c] += y * y


CURVE_POINTS = 1 << 13
"""Drives at which a leaky neuron's response is tabulated, up to the one that fires in every step."""


ROWS = 1 << 16
"""Values of a channel, about, from which its threshold is chosen."""


def lif_curve(timesteps: int, leak: float, *, subtract: bool, start: float) -> Array:
    """The drives, in thresholds per step, from which a leaky neuron fires 1, 2 ... T times in T steps of it: (T,).

    This is the rate curve of the LIF neuron, ``1 / (tau_ref + tau_rc log(1 + 1 / (j - 1)))``
    for reset to zero over continuous time (Hunsberger and Eliasmith, Training Spiking Deep
    Networks for Neuromorphic Hardware, 2016), as steps and the reset really make it. The
    drive is what the neuron receives beside the bias ``leak / 2``, which makes up for the
    leak of a potential that is half a threshold on average.

    Args:
        timesteps: T.
        leak: share of the potential that is lost in a step.
        subtract: the reset; else to zero.
        start: initial potential, in thresholds.
    """
    drives = np.arange(1, CURVE_POINTS + 1) * ((1.0 + leak) / CURVE_POINTS)
    v, counts = np.full(CURVE_POINTS, start), np.zeros(CURVE_POINTS)
    for _ in range(timesteps):
        v = v * (1.0 - leak) + drives + leak / 2
        fired = v >= 1.0
        counts += fired
        v = np.where(fired, v - 1.0 if subtract else 0.0, v)
    reached = np.searchsorted(np.maximum.accumulate(counts), np.arange(1, timesteps + 1))
    return np.asarray(np.append(drives, np.inf)[reached])


def best_thresholds(
    values: Array,
    candidates: Array,
    timesteps: int,
    *,
    subtract: bool,
    gain_range: tuple[float, float],
    start: float = 0.5,
    leak: float = 0.0,
) -> tuple[Array, Array]:
    """Per channel, the threshold whose spike count fits the values best.

    The count n of a neuron with constant drive y over T steps stands for ``gain * n / T``;
    the gain is the least-squares one within ``gain_range`` times the threshold.

    Args:
        values: (M, C) float64 non-negative activations.
        candidates: (F, C) thresholds in the units of the values.
        timesteps: T.
        subtract: the reset; else to zero.
        gain_range: smallest and largest gain, relative to the threshold.
        start: initial potential, in thresholds.
        leak: share of the potential that is lost in a step.

    Returns:
        thresholds (C,) and gains (C,): the real value of a neuron that fires in every step.
    """
    # Every k-th row; an odd k meets all columns of a map of even width.
    values = values[:: len(values) // ROWS | 1] if len(values) > ROWS else values
    moments = np.zeros((len(candidates), 3, values.shape[1]))
    curve = lif_curve(timesteps, leak, subtract=subtract, start=start) if leak else np.zeros(0)

    def one(index: int) -> None:
        _moments(values, candidates[index], timesteps, subtract, start, curve, moments[index])

    parallel(one, len(candidates))
    nn, ny, yy = moments[:, 0], moments[:, 1], moments[:, 2]
    per_count = candidates / timesteps
    gain = np.divide(ny, nn, out=per_count.copy(), where=nn > 0)
    gain = np.clip(gain, gain_range[0] * per_count, gain_range[1] * per_count)
    error = gain * gain * nn - 2 * gain * ny + yy
    best = np.argmin(error, axis=0)
    columns = np.arange(values.shape[1])
    return candidates[best, columns], gain[best, columns] * timesteps


@numba.njit(nogil=True, cache=True)
def _column_sums(values, out):
    for m in range(values.shape[0]):
        for c in range(values.shape[1]):
            out[c] += values[m, c]


def column_means(values: Array) -> Array:
    """Mean of each column of (M, C), summed in order in float64: (C,)."""
    total = np.zeros(values.shape[1])
    _column_sums(values, total)
    return total / len(values)
