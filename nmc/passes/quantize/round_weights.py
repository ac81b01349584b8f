"""Stored weights of one projection, rounded with its calibration inputs in mind."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense
from nmc.kernels.propagate import from_channels_last
from nmc.kernels.rounding import covariance, round_rows
from nmc.passes.quantize.fixed_point import WeightGrid

ROWS = 4096
"""Input vectors of a covariance: enough for the columns that one block has."""

BLOCK = 640
"""Columns rounded together: the 3 x 3 kernels of 64 channels, and more."""

WORK = 1 << 31
"""Multiplications that one projection may take; blocks get narrower where it would take more."""


def round_weights(connectivity: Connectivity, wanted: Array, messages: Array, grid: WeightGrid) -> Array:
    """Stored weights whose errors cancel in the sums over the calibration inputs.

    Only what sums over many inputs gains by it: the others are rounded to the nearest.

    Args:
        connectivity: of the projection.
        wanted: (*weight shape) real weights in units of stored ones.
        messages: (N, n) integer messages of its source on calibration inputs, channels last.
        grid: the weights that the target stores.
    """
    if not isinstance(connectivity, Conv2d | Dense):
        return grid.round(wanted)
    inputs = input_vectors(connectivity, messages)
    groups, _, columns = inputs.shape
    rows = wanted.reshape(groups, wanted.shape[0] // groups, columns)
    stored = np.zeros(rows.shape, dtype=np.int64)
    width = int(np.clip(WORK // max(wanted.size, 1), 16, BLOCK))
    for first in range(0, columns, width):
        part = slice(first, first + width)
        spread = covariance(inputs[:, :, part])
        for group in range(groups):
            stored[group, :, part] = round_rows(rows[group, :, part], spread[group], grid.step, grid.top)
    return stored.reshape(wanted.shape)


def input_vectors(connectivity: Conv2d | Dense, messages: Array) -> Array:
    """What the rows of weights are multiplied with: (groups, M, columns), in the order of the columns.

    Of a convolution some positions of each sample, spread over the map, at most `ROWS` in all.

    Args:
        connectivity: of the projection.
        messages: (N, n) integers, channels last.
    """
    values = from_channels_last(messages, connectivity.in_shape)
    count = len(values)
    if isinstance(connectivity, Dense):
        return values.reshape(1, count, -1)
    op, (top, left, bottom, right) = connectivity, connectivity.pads
    _, height, width = op.out_shape
    per = min(max(ROWS // count, 1), height * width)
    # Another start for every sample, so that all positions of the map are seen.
    position = (np.arange(per) * (height * width) // per + 37 * np.arange(count)[:, None]) % (height * width)
    y, x = position // width * op.stride[0], position % width * op.stride[1]
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    kernel = op.weight.shape[2:]
    dy = np.repeat(np.arange(kernel[0]), kernel[1]) * op.dilation[0]
    dx = np.tile(np.arange(kernel[1]), kernel[0]) * op.dilation[1]
    sample = np.arange(count)[:, None, None]
    # (N, positions, kernel, C): channels go last when a slice stands between index arrays.
    taken = padded[sample, :, y[:, :, None] + dy, x[:, :, None] + dx]
    rows = taken.reshape(count * per, len(dy), op.groups, -1).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(rows).reshape(op.groups, count * per, -1)
