"""Layers over the whole window, one after the other: dot products and neurons, pixel by pixel.

Potentials never leave the registers, and sums that do stay in the nearest cache; messages go
where the next layer reads them.
"""

from __future__ import annotations

import numpy as np

from nmc.ir.neurons import STATE_LIMIT
from nmc.kernels.compiled import compiled
from nmc.kernels.dot import dot
from nmc.kernels.dot_fire import dot_fire
from nmc.kernels.fire import fire, shift
from nmc.kernels.fused_tables import CONSTANT, FEED, FUSED, GROUPED, READ, Row
from nmc.kernels.tiers import GROUP, LANES, ROWS

_LIMIT = STATE_LIMIT


@compiled(inline="always")
def _row(layers, i):
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
    )


@compiled(inline="always")
def _add(tier, vectors, arena, tables, segment, row, channel, message, stride, sums, at, kept):
    """Products of one segment, added to `ROWS` sums of a block at ``at``; the group's first starts them."""
    fresh = segment[9] != 0
    start = kept + segment[0] * row.padded + channel if fresh else at
    pace = 0 if fresh else len(vectors) * LANES
    dot(tier, vectors, arena, tables, sums, (message, stride, segment[6], segment[7], segment[8], start, pace, at))


@compiled(inline="always")
def _sum(tier, vectors, arena, tables, segments, row, block, y, x, sums, kept):
    """Sums of one block of channels of a pixel: (groups, steps, lanes)."""
    lanes, steps = len(vectors) * LANES, row.rounds * ROWS
    for s in range(block[2], block[3]):
        segment = _numbers(segments, s)
        message, at = segment[1] + y * segment[2] + x * segment[3], segment[0] * steps * lanes
        for _ in range(row.rounds):
            _add(tier, vectors, arena, tables, segment, row, block[0], message, segment[4], sums, at, kept)
            at += ROWS * lanes
            message += segment[5]
    if block[2] == block[3]:
        _fill(lanes, sums, kept + block[0], steps)


@compiled(inline="always")
def _numbers(segments, s):
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
def _block(blocks, number):
    """First channel, vectors, first segment and the first that is not its own."""
    return blocks[number, 0], blocks[number, 1], blocks[number, 2], blocks[number + 1, 2]


@compiled(inline="always")
def _fill(lanes, sums, first, count):
    """Sums to which nothing is added."""
    for step in range(count):
        for lane in range(lanes):
            sums[step * lanes + lane] = sums[first + lane]


@compiled()
def _keep(tables, row, sums):
    """What the sums of a layer start from, at the end of the scratch; where that is."""
    kept = sums.shape[0] - row.groups * row.padded
    for n in range(row.groups * row.padded):
        sums[kept + n] = tables.first[row.first + n]
    return kept


@compiled(inline="always")
def _total(vectors, tables, row, channel, sums):
    """Shift the sums of each group and add them up, into the first."""
    rows = row.rounds * ROWS
    for g in range(row.groups):
        right = row.shifts + 2 * g * row.padded + channel
        at = g * rows * len(vectors) * LANES
        shift(vectors, tables, sums, (at, rows, right, right + row.padded, np.int64(g == 0)))


@compiled(inline="always")
def _places(row, channel, y, x):
    """Where neurons of a block and pixel have their parameters, messages and tally."""
    pixel = y * row.width + x
    own = row.own + pixel * row.own_pitch + channel * 4
    out = row.out + y * row.out_row + x * row.out_pixel + channel // GROUP * row.out_group
    return own, out, row.tally + 2 * (pixel * row.padded + channel)


@compiled(inline="always")
def _fused_pixels(tier, vectors, pixels, arena, tables, row, block, y, x):
    """A few pixels of one block, sums and neurons."""
    own, out, tally = _places(row, block[0], y, x)
    at = (
        row.steps,
        row.limit,
        row.keep,
        y,
        x,
        block[2],
        block[3],
        row.lanes,
        row.lanes_end,
        block[0],
        row.first + block[0],
        row.shifts + block[0],
        own,
        row.padded,
        row.own_pitch,
        out,
        row.out_pixel,
        row.out_group,
        tally,
        2 * row.padded,
    )
    dot_fire(tier, vectors, pixels, arena, tables, at)


@compiled()
def _fused_layer(tier, arena, tables, row):
    """A layer whose sums never leave the registers; narrow blocks two pixels at a time.

    The updates of a neuron, each of which waits for the one before, then run beside those of others.
    """
    blocks = tables.blocks
    for number in range(row.blocks, row.blocks_end):
        block = _block(blocks, number)
        for y in range(row.height):
            if block[1] == 2:
                for x in range(row.width):
                    _fused_pixels(tier, (1, 1), (1,), arena, tables, row, block, y, x)
            else:
                for x in range(0, row.width - 1, 2):
                    _fused_pixels(tier, (1,), (1, 1), arena, tables, row, block, y, x)
                if row.width % 2 == 1:
                    _fused_pixels(tier, (1,), (1,), arena, tables, row, block, y, row.width - 1)


@compiled(inline="always")
def _fire_pixels(vectors, pixels, constant, arena, tables, row, channel, y, x, sums, at):
    """The neurons of a few pixels, whose sums are ready."""
    own, out, tally = _places(row, channel, y, x)
    stride = len(vectors) * LANES * len(pixels)
    places = (
        row.steps,
        row.limit,
        row.keep,
        at,
        stride,
        own,
        row.own_pitch,
        out,
        row.out_pixel,
        row.out_group,
        tally,
        2 * row.padded,
    )
    fire(vectors, pixels, constant, arena, tables, sums, places)


@compiled(inline="always")
def _grouped_pixel(tier, vectors, arena, tables, segments, row, block, y, x, sums, kept):
    _sum(tier, vectors, arena, tables, segments, row, block, y, x, sums, kept)
    _total(vectors, tables, row, block[0], sums)
    _fire_pixels(vectors, (1,), (), arena, tables, row, block[0], y, x, sums, 0)


@compiled()
def _grouped_layer(tier, arena, tables, row, sums):
    """A layer whose sums have shifts that make no chain: they go through memory."""
    blocks, segments, kept = tables.blocks, tables.segments, _keep(tables, row, sums)
    for number in range(row.blocks, row.blocks_end):
        block = _block(blocks, number)
        for y in range(row.height):
            for x in range(row.width):
                if block[1] == 2:
                    _grouped_pixel(tier, (1, 1), arena, tables, segments, row, block, y, x, sums, kept)
                else:
                    _grouped_pixel(tier, (1,), arena, tables, segments, row, block, y, x, sums, kept)


@compiled(inline="always")
def _constant_pixels(tier, vectors, together, arena, tables, segments, row, block, y, x, sums, kept):
    """`ROWS` pixels in a row: their sums take the place of those of steps."""
    lanes = len(vectors) * LANES
    for s in range(block[2], block[3]):
        segment = _numbers(segments, s)
        message, at = segment[1] + y * segment[2] + x * segment[3], segment[0] * ROWS * lanes
        _add(tier, vectors, arena, tables, segment, row, block[0], message, segment[3], sums, at, kept)
    if block[2] == block[3]:
        _fill(lanes, sums, kept + block[0], ROWS)
    _total(vectors, tables, row, block[0], sums)
    # As many pixels as there are: those beyond the map have sums, but no neurons.
    there = min(ROWS, row.width - x)
    for p in range(0, there - len(together) + 1, len(together)):
        _fire_pixels(vectors, together, (1,), arena, tables, row, block[0], y, x + p, sums, p * lanes)
    for p in range(there // len(together) * len(together), there):
        _fire_pixels(vectors, (1,), (1,), arena, tables, row, block[0], y, x + p, sums, p * lanes)


@compiled()
def _constant_layer(tier, arena, tables, row, sums):
    """A layer with the same sums in every step."""
    blocks, segments, kept = tables.blocks, tables.segments, _keep(tables, row, sums)
    for number in range(row.blocks, row.blocks_end):
        block = _block(blocks, number)
        for y in range(row.height):
            for x in range(0, row.width, ROWS):
                if block[1] == 2:
                    _constant_pixels(tier, (1, 1), (1, 1), arena, tables, segments, row, block, y, x, sums, kept)
                else:
                    _constant_pixels(tier, (1,), (1, 1, 1, 1), arena, tables, segments, row, block, y, x, sums, kept)


@compiled(inline="always")
def _collect_pixel(tier, vectors, arena, tables, segments, row, block, y, x, sums, kept, totals):
    _sum(tier, vectors, arena, tables, segments, row, block, y, x, sums, kept)
    _total(vectors, tables, row, block[0], sums)
    lanes = len(vectors) * LANES
    pixel = (y * row.width + x) * row.padded + block[0]
    for step in range(row.steps):
        at = step * lanes if row.rounds * ROWS >= row.steps else 0
        into = step * row.height * row.width * row.padded + pixel
        for lane in range(lanes):
            totals[into + lane] = sums[at + lane]


@compiled()
def collect_layer(tier, arena, tables, i, sums, totals):
    """The sums a of layer ``i`` in each step, (steps, pixels, channels) int32; arguments as `run_layers`."""
    row = _row(tables.layers, i)
    blocks, segments, kept = tables.blocks, tables.segments, _keep(tables, row, sums)
    for number in range(row.blocks, row.blocks_end):
        block = _block(blocks, number)
        for y in range(row.height):
            for x in range(row.width):
                if block[1] == 2:
                    _collect_pixel(tier, (1, 1), arena, tables, segments, row, block, y, x, sums, kept, totals)
                else:
                    _collect_pixel(tier, (1,), arena, tables, segments, row, block, y, x, sums, kept, totals)


@compiled()
def _read_layer(arena, tables, row, totals, readouts):
    """The potentials of a read-out after each step."""
    pixels = row.height * row.width
    for pixel in range(pixels):
        for c in range(row.channels):
            own = row.own + pixel * row.own_pitch + c // LANES * 4 * LANES + c % LANES
            tally = row.tally + 2 * (pixel * row.padded + c // LANES * LANES) + LANES + c % LANES
            v, bias = tables.own[own], tables.own[own + LANES]
            changes = 0
            for step in range(row.steps):
                total = totals[(step * pixels + pixel) * row.padded + c]
                x = min(max(v + (total << 6) + bias, -(_LIMIT - 1)), _LIMIT - 1)
                changes += x != v
                v = x
                readouts[step, row.column + pixel * row.channels + c] = v
            tables.tally[tally] += changes


@compiled()
def _take(arena, row, sample):
    """The messages of a source, the same in every step."""
    place = row.column
    for y in range(row.height):
        for x in range(row.width):
            out = row.out + y * row.out_row + x * row.out_pixel
            for c in range(row.channels):
                arena[out + c] = sample[place] + row.zero
                place += 1


@compiled()
def _pool(arena, pool, size):
    """Sums of squares of messages, of all steps at once."""
    read, read_row, read_pixel, written, written_row, written_pixel, rows, columns, side = pool
    for y in range(rows):
        for x in range(columns):
            first = read + side * (y * read_row + x * read_pixel)
            out = arena[written + y * written_row + x * written_pixel :][:size]
            a, b = arena[first:][:size], arena[first + read_pixel :][:size]
            if side == 2:
                c, d = arena[first + read_row :][:size], arena[first + read_row + read_pixel :][:size]
                for i in range(size):
                    out[i] = a[i] + b[i] + c[i] + d[i]
                continue
            for i in range(size):
                out[i] = a[i]
            for p in range(1, side * side):
                a = arena[first + p // side * read_row + p % side * read_pixel :][:size]
                for i in range(size):
                    out[i] += a[i]


@compiled()
def pool_layer(arena, tables, i):
    """The pooled maps of the messages of layer ``i``."""
    row = _row(tables.layers, i)
    for p in range(row.pools, row.pools_end):
        pool = tables.pools[p]
        many = (pool[0], pool[1], pool[2], pool[3], pool[4], pool[5], pool[6], pool[7], pool[8])
        _pool(arena, many, min(row.out_pixel, pool[5]))


@compiled()
def run_layers(tier, arena, tables, sums, totals, sample, readouts, begin, end):
    """Messages of all neurons of some layers, and their tally.

    Args:
        tier: a `nmc.kernels.tiers.Tier`.
        arena: uint8, the messages of all layers.
        tables: `LayerTables`.
        sums: int32 scratch: the sums of one block of a few pixels, and what those of a layer start from.
        totals: int32 scratch of the sums of a read-out.
        sample: (n,) int64 input, channels last.
        readouts: (T, n) int32, written.
        begin: the first layer.
        end: the first that is not run.
    """
    for i in range(begin, end):
        row = _row(tables.layers, i)
        if row.kind == FEED:
            _take(arena, row, sample)
        elif row.kind == FUSED:
            _fused_layer(tier, arena, tables, row)
        elif row.kind == CONSTANT:
            _constant_layer(tier, arena, tables, row, sums)
        elif row.kind == GROUPED:
            _grouped_layer(tier, arena, tables, row, sums)
        elif row.kind == READ:
            collect_layer(tier, arena, tables, i, sums, totals)
            _read_layer(arena, tables, row, totals, readouts)
        pool_layer(arena, tables, i)
