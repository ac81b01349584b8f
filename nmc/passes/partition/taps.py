"""Taps of a kernel along the axes of its input: which places they read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import IndexArray

AxisTaps = list[tuple[int, slice] | None]
"""Of each tap along an axis, how many inputs it reads and which; None: none."""

Product = tuple[tuple[int, ...], tuple[int, ...]]
"""Rows and columns of a kernel: all taps where they cross."""


def axis_taps(start: int, stop: int, step: int, stride: int, offset: int, limit: int) -> tuple[int, slice] | None:
    """Inputs ``o * stride + offset`` inside [0, limit) for outputs of a range: how many, and which."""
    outputs = range(start, stop, step)
    if not outputs:
        return None
    # First and last output of the range whose input lies inside.
    low = max(0, -(-(-offset - outputs.start * stride) // (step * stride)))
    high = min(len(outputs) - 1, (limit - 1 - offset - outputs.start * stride) // (step * stride))
    if high < low:
        return None
    first = outputs[low] * stride + offset
    last = outputs[high] * stride + offset
    return high - low + 1, slice(first, last + 1, step * stride)


def inputs_read(taps: AxisTaps, count: int) -> IndexArray:
    """The inputs that some taps of one axis read, ascending."""
    mask = np.zeros(count, dtype=np.bool_)
    for tap in taps:
        if tap is not None:
            mask[tap[1]] = True
    return np.flatnonzero(mask)


def product_of(pattern: NDArray[np.bool_]) -> Product | None:
    """The rows and columns of some taps of a kernel; None: not all taps of the rows are in all columns."""
    rows, columns = (np.flatnonzero(pattern.any(axis=axis)) for axis in (1, 0))
    crossed = bool(pattern[np.ix_(rows, columns)].all())
    return (tuple(rows.tolist()), tuple(columns.tolist())) if crossed else None
