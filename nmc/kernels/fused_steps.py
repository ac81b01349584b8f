"""Layers over the whole window, one after the other: dot products and neurons, pixel by pixel.

Potentials never leave the registers, and sums that do stay in the nearest cache; messages go
where the next layer reads them.
"""

from __future__ import annotations

from nmc.ir.neurons import STATE_LIMIT
from nmc.kernels.compiled import compiled
from nmc.kernels.dot_fire import at_once, dot_fire
from nmc.kernels.fire import fire
from nmc.kernels.fire_rules import OWN, Cells
from nmc.kernels.fused_sums import block_of, chain_of, keep, layer_row, pixel_sums, whole_sums
from nmc.kernels.fused_tables import CONSTANT, FEED, FEW, FUSED, READ
from nmc.kernels.tiers import GROUP, LANES, ROWS

_LIMIT = STATE_LIMIT
_ONCE = Cells()


@compiled(inline="always")
def _places(row, channel, y, x):
    """Where neurons of a block and pixel have their parameters, messages and tally."""
    pixel = y * row.width + x
    own = row.own + pixel * row.own_pitch + channel * OWN
    out = row.out + y * row.out_row + x * row.out_pixel + channel // GROUP * row.out_group
    return own, out, row.tally + 2 * (pixel * row.padded + channel)


@compiled(inline="always")
def _shared(row):
    """What the neurons of a layer share, as `nmc.kernels.fire_rules.Firing` takes it."""
    return row.limit, row.keep, row.wait, row.zero, row.levels, row.free, row.keep_u, row.keep_v, row.rest


@compiled(inline="always")
def _fused_pixels(tier, vectors, pixels, arena, tables, row, block, y, x):
    """A few pixels of one block, sums and neurons."""
    own, out, tally = _places(row, block[0], y, x)
    at = (own, out, row.out_pixel, row.out_group, tally, 2 * row.padded)
    dot_fire(tier, vectors, pixels, arena, tables, _shared(row), chain_of(row, block, y, x), at)


@compiled()
def _fused_layer(tier, arena, tables, row):
    """A layer whose sums never leave the registers, a few pixels at a time.

    The updates of a neuron, each of which waits for the one before, then run beside those of others.
    """
    blocks = tables.blocks
    together = row.own_pitch == 0 and row.steps % GROUP == 0
    for number in range(row.blocks, row.blocks_end):
        block = block_of(blocks, number)
        few = at_once(tier, (1, 1)) if block[1] == 2 else at_once(tier, (1,))
        for y in range(row.height):
            x = 0
            while few > 1 and together and x + few <= row.width:
                if block[1] == 2:
                    _fused_pixels(tier, (1, 1), (1, 1), arena, tables, row, block, y, x)
                else:
                    _fused_pixels(tier, (1,), (1, 1, 1, 1), arena, tables, row, block, y, x)
                x += few
            while x < row.width:
                if block[1] == 2:
                    _fused_pixels(tier, (1, 1), (1,), arena, tables, row, block, y, x)
                else:
                    _fused_pixels(tier, (1,), (1,), arena, tables, row, block, y, x)
                x += 1


@compiled(inline="always")
def fire_pixels(cells, vectors, pixels, constant, arena, tables, row, channel, y, x, sums, at):
    """The neurons of a few pixels, whose sums are ready."""
    own, out, tally = _places(row, channel, y, x)
    stride = len(vectors) * LANES * len(pixels)
    places = (
        row.steps,
        at,
        stride,
        own,
        row.own_pitch,
        out,
        row.out_pixel,
        row.out_group,
        tally,
        2 * row.padded,
        0,
    )
    fire(cells, vectors, pixels, constant, arena, tables, sums, _shared(row), places)


@compiled(inline="always")
def _constant_pixels(tier, vectors, together, arena, tables, row, block, y, x, sums, kept):
    """`ROWS` pixels in a row, sums and neurons."""
    lanes = len(vectors) * LANES
    there = pixel_sums(tier, vectors, arena, tables, row, block, y, x, sums, kept)
    for p in range(0, there - len(together) + 1, len(together)):
        fire_pixels(_ONCE, vectors, together, (1,), arena, tables, row, block[0], y, x + p, sums, p * lanes)
    for p in range(there // len(together) * len(together), there):
        fire_pixels(_ONCE, vectors, (1,), (1,), arena, tables, row, block[0], y, x + p, sums, p * lanes)


@compiled()
def _constant_layer(tier, arena, tables, row, sums):
    """A layer with the same sums in every step."""
    blocks, kept = tables.blocks, keep(tables, row, sums)
    for number in range(row.blocks, row.blocks_end):
        block = block_of(blocks, number)
        for y in range(row.height):
            for x in range(0, row.width, ROWS):
                if block[1] == 2:
                    _constant_pixels(tier, (1, 1), (1, 1), arena, tables, row, block, y, x, sums, kept)
                else:
                    _constant_pixels(tier, (1,), (1, 1, 1, 1), arena, tables, row, block, y, x, sums, kept)


@compiled()
def _fire_whole(cells, vectors, arena, tables, row, channel, y, x, count, sums):
    """The neurons of a few pixels, whose sums are ready."""
    for p in range(count):
        at = p * row.span * len(vectors) * LANES
        fire_pixels(cells, vectors, (1,), (), arena, tables, row, channel, y, x + p, sums, at)


@compiled()
def _grouped_layer(tier, cells, arena, tables, row, sums):
    """A layer whose sums go through memory: with shifts that make no chain, or any neurons that fire."""
    blocks, kept = tables.blocks, keep(tables, row, sums)
    for number in range(row.blocks, row.blocks_end):
        block = block_of(blocks, number)
        for y in range(row.height):
            for x in range(0, row.width, FEW):
                count = min(FEW, row.width - x)
                if block[1] == 2:
                    whole_sums(tier, (1, 1), arena, tables, row, block, y, x, count, sums, kept)
                    _fire_whole(cells, (1, 1), arena, tables, row, block[0], y, x, count, sums)
                else:
                    whole_sums(tier, (1,), arena, tables, row, block, y, x, count, sums, kept)
                    _fire_whole(cells, (1,), arena, tables, row, block[0], y, x, count, sums)


@compiled()
def _collect(lanes, row, channel, y, x, sums, totals):
    """Copy the sums of one block of a pixel."""
    pixel = (y * row.width + x) * row.padded + channel
    for step in range(row.steps):
        into = step * row.height * row.width * row.padded + pixel
        for lane in range(lanes):
            totals[into + lane] = sums[step * lanes + lane]


@compiled()
def collect_layer(tier, arena, tables, i, sums, totals):
    """The sums a of layer ``i`` in each step, (steps, pixels, channels) int32; arguments as `run_layers`."""
    row = layer_row(tables.layers, i)
    blocks, kept = tables.blocks, keep(tables, row, sums)
    for number in range(row.blocks, row.blocks_end):
        block = block_of(blocks, number)
        for y in range(row.height):
            for x in range(row.width):
                if block[1] == 2:
                    whole_sums(tier, (1, 1), arena, tables, row, block, y, x, 1, sums, kept)
                else:
                    whole_sums(tier, (1,), arena, tables, row, block, y, x, 1, sums, kept)
                _collect(block[1] * LANES, row, block[0], y, x, sums, totals)


@compiled()
def _read_layer(arena, tables, row, totals, readouts):
    """The potentials of a read-out after each step."""
    pixels = row.height * row.width
    for pixel in range(pixels):
        for c in range(row.channels):
            own = row.own + pixel * row.own_pitch + c // LANES * OWN * LANES + c % LANES
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
    row = layer_row(tables.layers, i)
    for p in range(row.pools, row.pools_end):
        pool = tables.pools[p]
        many = (pool[0], pool[1], pool[2], pool[3], pool[4], pool[5], pool[6], pool[7], pool[8])
        _pool(arena, many, min(row.out_pixel, pool[5]))


@compiled()
def run_layers(tier, arena, tables, sums, totals, sample, readouts, begin, end):
    """Messages of all neurons of some layers, none of them `GROUPED` or `SUMS`, and their tally.

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
        row = layer_row(tables.layers, i)
        if row.kind == FEED:
            _take(arena, row, sample)
        elif row.kind == FUSED:
            _fused_layer(tier, arena, tables, row)
        elif row.kind == CONSTANT:
            _constant_layer(tier, arena, tables, row, sums)
        elif row.kind == READ:
            collect_layer(tier, arena, tables, i, sums, totals)
            _read_layer(arena, tables, row, totals, readouts)
        pool_layer(arena, tables, i)


@compiled()
def run_grouped(tier, cells, arena, tables, sums, begin, end):
    """The same for some layers that are `GROUPED`, all with cells of one sort; arguments as `run_layers`."""
    for i in range(begin, end):
        _grouped_layer(tier, cells, arena, tables, layer_row(tables.layers, i), sums)
        pool_layer(arena, tables, i)
