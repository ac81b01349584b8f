"""Sums of one pixel and block of channels: what all ways of running a layer have in common."""

from __future__ import annotations

import numpy as np

from nmc.kernels.compiled import compiled
from nmc.kernels.dot import dot
from nmc.kernels.dot_fire import dot_sum
from nmc.kernels.fire import shift
from nmc.kernels.fused_tables import Row
from nmc.kernels.tiers import LANES, ROWS


@compiled(inline="always")
def layer_row(layers, i):
    """One layer's numbers by name."""
    r = layers[i]
    return Row(
        r[0],
        r[1],
        r[2],
        r[3],
        r[4],
        r[5],
        r[6],
        r[7],
        r[8],
        r[9],
        r[10],
        r[11],
        r[12],
        r[13],
        r[14],
        r[15],
        r[16],
        r[17],
        r[18],
        r[19],
        r[20],
        r[21],
        r[22],
        r[23],
        r[24],
        r[25],
        r[26],
        r[27],
        r[28],
        r[29],
        r[30],
        r[31],
        r[32],
        r[33],
        r[34],
        r[35],
        r[36],
    )


@compiled(inline="always")
def _add_segment(tier, vectors, arena, tables, segment, row, channel, message, stride, sums, at, kept):
    """Products of one segment, added to `ROWS` sums of a block at ``at``; the group's first starts them."""
    fresh = segment[9] != 0
    start = kept + segment[0] * row.padded + channel if fresh else at
    pace = 0 if fresh else len(vectors) * LANES
    dot(tier, vectors, arena, tables, sums, (message, stride, segment[6], segment[7], segment[8], start, pace, at))


@compiled(inline="always")
def _sum(tier, vectors, arena, tables, row, block, y, x, sums, first, kept):
    """Sums of one block of channels of a pixel: (groups, steps, lanes) from ``first``."""
    lanes, steps = len(vectors) * LANES, row.rounds * ROWS
    for s in range(block[2], block[3]):
        segment = _numbers_of(tables.segments, s)
        message, at = segment[1] + y * segment[2] + x * segment[3], first + segment[0] * steps * lanes
        for _ in range(row.rounds):
            _add_segment(tier, vectors, arena, tables, segment, row, block[0], message, segment[4], sums, at, kept)
            at += ROWS * lanes
            message += segment[5]
    if block[2] == block[3]:
        _fill(lanes, sums, first, kept + block[0], steps)


@compiled(inline="always")
def step_sums(tier, vectors, arena, tables, row, block, y, x, sums, first, kept):
    """The sums a of one block of channels of a pixel, (steps, lanes) from ``first``."""
    lanes = len(vectors) * LANES
    _sum(tier, vectors, arena, tables, row, block, y, x, sums, first, kept)
    _add_up(vectors, tables, row, block[0], sums, first)
    # Where they are the same in every step there is one round of them.
    for n in range(row.rounds * ROWS * lanes, row.steps * lanes):
        sums[first + n] = sums[first + n % lanes]


@compiled(inline="always")
def pixel_sums(tier, vectors, arena, tables, row, block, y, x, sums, kept):
    """The sums a of `ROWS` pixels in a row, which take the place of those of steps; how many of them there are.

    Those beyond the map have sums, but no neurons.
    """
    lanes = len(vectors) * LANES
    for s in range(block[2], block[3]):
        segment = _numbers_of(tables.segments, s)
        message, at = segment[1] + y * segment[2] + x * segment[3], segment[0] * ROWS * lanes
        _add_segment(tier, vectors, arena, tables, segment, row, block[0], message, segment[3], sums, at, kept)
    if block[2] == block[3]:
        _fill(lanes, sums, 0, kept + block[0], ROWS)
    _add_up(vectors, tables, row, block[0], sums, 0)
    return min(ROWS, row.width - x)


@compiled(inline="always")
def chain_of(row, block, y, x):
    """The numbers of a chain, as `nmc.kernels.dot_fire` takes them."""
    return (
        row.steps,
        row.height,
        y,
        x,
        block[2],
        block[3],
        row.lanes,
        row.lanes_end,
        block[0],
        row.first + block[0],
        row.shifts + block[0],
        row.padded,
    )


@compiled()
def whole_sums(tier, vectors, arena, tables, row, block, y, x, count, sums, kept):
    """The sums a of one block of channels of a few pixels, in units of v; behind the window there are none.

    Those of a pixel are (steps, lanes); the next pixel's begin ``row.span * lanes`` later. A function of its own: it is
    compiled once for each tier, and the neurons once for each sort of cells.
    """
    lanes = len(vectors) * LANES
    for p in range(count):
        first = p * row.span * lanes
        if row.chained:
            dot_sum(tier, vectors, arena, tables, sums, first, chain_of(row, block, y, x + p))
        else:
            step_sums(tier, vectors, arena, tables, row, block, y, x + p, sums, first, kept)
        for n in range(row.steps * lanes, (row.steps + row.wait) * lanes):
            sums[first + n] = 0


@compiled(inline="always")
def _numbers_of(segments, s):
    """One segment's numbers."""
    return (
        segments[s, 0],
        segments[s, 1],
        segments[s, 2],
        segments[s, 3],
        segments[s, 4],
        segments[s, 5],
        segments[s, 6],
        segments[s, 7],
        segments[s, 8],
        segments[s, 9],
    )


@compiled(inline="always")
def block_of(blocks, number):
    """First channel, vectors, first segment and the first that is not its own."""
    return blocks[number, 0], blocks[number, 1], blocks[number, 2], blocks[number + 1, 2]


@compiled(inline="always")
def _fill(lanes, sums, at, first, count):
    """Sums to which nothing is added."""
    for step in range(count):
        for lane in range(lanes):
            sums[at + step * lanes + lane] = sums[first + lane]


@compiled()
def keep(tables, row, sums):
    """What the sums of a layer start from, behind them in the scratch, before a last vector; where that is."""
    kept = sums.shape[0] - LANES - row.groups * row.padded
    for n in range(row.groups * row.padded):
        sums[kept + n] = tables.first[row.first + n]
    return kept


@compiled(inline="always")
def _add_up(vectors, tables, row, channel, sums, first):
    """Shift the sums of each group and add them up, into the first."""
    rows = row.rounds * ROWS
    for g in range(row.groups):
        right = row.shifts + 2 * g * row.padded + channel
        at = first + g * rows * len(vectors) * LANES
        shift(vectors, tables, sums, (first, at, rows, right, right + row.padded, np.int64(g == 0)))
