"""Stored weights of one projection, rounded with its calibration inputs in mind."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense
from nmc.kernels.propagate import LARGE, column_groups, from_channels_last
from nmc.kernels.rounding import covariance, round_rows
from nmc.passes.convert.convert_rate import scale_sources
from nmc.passes.quantize.fixed_point import WeightGrid, by_output

ROWS = 4096
"""Input vectors of a covariance: enough for the columns that one block has."""

BLOCK = 640
"""Columns rounded together: the 3 x 3 kernels of 64 channels, and more."""

ONE = np.ones(())

WORK = 1 << 31
"""Multiplications that one projection may take; blocks get narrower where it would take more."""


def round_weights(
    connectivity: Connectivity, messages: Array, grid: WeightGrid, sources: Array = ONE, outputs: Array = ONE
) -> Array:
    """Stored weights whose errors cancel in the sums over the calibration inputs.

    Only what sums over many inputs gains by it: the others are rounded to the nearest.

    Args:
        connectivity: of the projection, over reals.
        messages: (N, n) integer messages of its source on calibration inputs, channels last.
        grid: the weights that the target stores.
        sources: ``()`` or (source channels,) and
        outputs: ``()`` or (output channels,): the weight times both is in units of stored ones.

    Returns:
        (*weight shape) int64, int32 from `LARGE` on.
    """
    weight = connectivity.weight
    if not isinstance(connectivity, Conv2d | Dense):
        wanted = scale_sources(connectivity, sources).weight * by_output(connectivity, outputs)
        return grid.round(wanted)
    inputs = input_vectors(connectivity, messages)
    groups, columns = column_groups(connectivity)
    rows = weight.reshape(groups, -1, columns.shape[1])
    by_column = np.broadcast_to(sources, connectivity.in_shape[:1])[columns]
    by_row = np.broadcast_to(by_output(connectivity, outputs), (len(weight), *(1,) * (weight.ndim - 1)))
    by_row = by_row.reshape(*rows.shape[:2], 1)
    stored = np.zeros(rows.shape, dtype=np.int32 if weight.size >= LARGE else np.int64)
    width = int(np.clip(WORK // max(weight.size, 1), 16, BLOCK))
    for first in range(0, rows.shape[2], width):
        part = slice(first, first + width)
        spread = covariance(inputs[:, :, part])
        for group in range(groups):
            wanted = rows[group, :, part] * by_column[group, part] * by_row[group]
            stored[group, :, part] = round_rows(wanted, spread[group], grid.step, grid.top)
    return stored.reshape(weight.shape)


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
