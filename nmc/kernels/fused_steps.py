"""One layer over the whole window: dot products and integrate-and-fire, pixel by pixel.

The sums of one pixel's steps never leave the nearest cache: `dot` writes them, `fire` reads
them with the potentials in registers and writes the messages where the next layer reads them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray
from nmc.kernels.compiled import compiled
from nmc.kernels.dot import dot
from nmc.kernels.fire import fire, shift
from nmc.kernels.tiers import LANES, ROWS


class LayerTables(NamedTuple):
    """One layer as the kernel reads it. Channels are padded to whole vectors.

    Attributes:
        grid: (9,) rows, columns, channels, steps, rounds of `ROWS` steps, limit of v, keep mask of
            the reset, and offset and row pitch of the messages in the arena.
        pitch: (2,) pixel and step pitch of the messages.
        blocks: (B, 3): first channel, vectors, first segment; one row more ends the last.
        segments: (S, 10): accumulator group, base, row and pixel stride, stride of a step and of
            `ROWS` steps, first offset, number of offsets, first weight, whether it is the group's first.
        offsets: within the arena, of each group of four channels.
        weights: int8, (offsets, lanes, 4) for each segment.
        first: (groups, channels) int32 what each sum starts from.
        shifts: (groups, 2, channels) int32 right and left shift of each sum.
        into: (2, channels) int32 right and left shift of the total, in units of v.
        own: (pixels or 1, channels / LANES, 4, LANES) int32: v0, bias, bar, step.
        tally: (pixels, channels / LANES, 2, LANES) int32 spikes and changes, added up.
    """

    grid: IndexArray
    pitch: IndexArray
    blocks: IndexArray
    segments: IndexArray
    offsets: IndexArray
    weights: NDArray[np.int8]
    first: Array
    shifts: Array
    into: Array
    own: Array
    tally: Array


@compiled(inline="always")
def _sum(tier, vectors, pixels, arena, rounds, segments, begin, end, offsets, weights, first, channel, y, x, sums):
    """Sums of one block of channels of a few pixels in a row: (groups, steps, pixels, lanes)."""
    lanes = len(vectors) * LANES
    pitch = lanes * len(pixels)
    size = rounds * ROWS * pitch
    for s in range(begin, end):
        g, base, jump = segments[s, 0], segments[s, 1] + y * segments[s, 2], segments[s, 5]
        stride, offset, count, place = segments[s, 4], segments[s, 6], segments[s, 7], segments[s, 8]
        for p in range(len(pixels)):
            here = base + (x + p) * segments[s, 3]
            for r in range(rounds):
                at = g * size + r * ROWS * pitch + p * lanes
                message = here + r * jump
                if segments[s, 9]:
                    start = g * first.shape[1] + channel
                    dot(
                        tier,
                        vectors,
                        arena,
                        message,
                        stride,
                        offsets,
                        offset,
                        count,
                        weights,
                        place,
                        first,
                        start,
                        0,
                        sums,
                        at,
                        pitch,
                    )
                else:
                    dot(
                        tier,
                        vectors,
                        arena,
                        message,
                        stride,
                        offsets,
                        offset,
                        count,
                        weights,
                        place,
                        sums,
                        at,
                        pitch,
                        sums,
                        at,
                        pitch,
                    )
    if begin == end:
        for at in range(0, size, lanes):
            for lane in range(lanes):
                sums[at + lane] = first[0, channel + lane]


@compiled(inline="always")
def _total(vectors, pixels, rounds, shifts, channel, sums):
    """Shift the sums of each group and add them up, into the first."""
    rows = rounds * ROWS * len(pixels)
    for g in range(shifts.shape[0]):
        right = 2 * g * shifts.shape[2] + channel
        at = g * rows * len(vectors) * LANES
        shift(vectors, sums, at, rows, shifts, right, right + shifts.shape[2], sums, g == 0)


@compiled(inline="always")
def _fire_pixels(tier, vectors, pixels, arena, layer, block, y, x, sums):
    grid, pitch, blocks, segments, offsets, weights, first, shifts, into, own, tally = layer
    columns, channels, steps, rounds = grid[1], grid[2], grid[3], grid[4]
    channel, begin, end = blocks[block, 0], blocks[block, 2], blocks[block + 1, 2]
    _sum(tier, vectors, pixels, arena, rounds, segments, begin, end, offsets, weights, first, channel, y, x, sums)
    if first.shape[0] > 1:
        _total(vectors, pixels, rounds, shifts, channel, sums)
    out = grid[7] + y * grid[8] + x * pitch[0] + channel
    # A constant drive has one round, whatever the number of steps.
    stride = len(vectors) * LANES * len(pixels) if rounds * ROWS >= steps else 0
    apart = channels // LANES
    neuron = (y * columns + x) * apart + channel // LANES
    # Parameters of channels are held once, those of neurons for each pixel.
    shared = own.shape[0] == 1
    mine, owned = (channel // LANES, 0) if shared else (neuron, apart)
    places = (0, stride, channel, mine, owned, out, pitch[0], pitch[1], neuron, apart)
    fire(vectors, pixels, steps, grid[5], grid[6], sums, into, own, arena, tally, places)


@compiled()
def fire_layer(tier, arena, layer, sums):
    """Messages of all neurons of a layer, and its tally.

    Four vectors at a time, so that the updates of a neuron, each of which waits for the one
    before, run beside those of others.

    Args:
        tier: a `nmc.kernels.dot.Tier`.
        arena: uint8, the messages of all layers.
        layer: `LayerTables`.
        sums: int32 scratch: groups * rounds * ROWS * 4 * LANES.
    """
    rows, columns = layer.grid[0], layer.grid[1]
    for block in range(layer.blocks.shape[0] - 1):
        wide = layer.blocks[block, 1] == 2
        together = 2 if wide else 4
        for y in range(rows):
            x = 0
            while x + together <= columns:
                if wide:
                    _fire_pixels(tier, (1, 1), (1, 1), arena, layer, block, y, x, sums)
                else:
                    _fire_pixels(tier, (1,), (1, 1, 1, 1), arena, layer, block, y, x, sums)
                x += together
            while x < columns:
                if wide:
                    _fire_pixels(tier, (1, 1), (1,), arena, layer, block, y, x, sums)
                else:
                    _fire_pixels(tier, (1,), (1,), arena, layer, block, y, x, sums)
                x += 1


@compiled(inline="always")
def _collect_pixel(tier, vectors, arena, layer, block, y, x, sums, totals):
    grid, _, blocks, segments, offsets, weights, first, shifts, _, _, _ = layer
    columns, channels, steps, rounds = grid[1], grid[2], grid[3], grid[4]
    channel, begin, end = blocks[block, 0], blocks[block, 2], blocks[block + 1, 2]
    _sum(tier, vectors, (1,), arena, rounds, segments, begin, end, offsets, weights, first, channel, y, x, sums)
    _total(vectors, (1,), rounds, shifts, channel, sums)
    lanes = len(vectors) * LANES
    pixel = (y * columns + x) * channels + channel
    for step in range(steps):
        at = step * lanes if rounds * ROWS >= steps else 0
        for lane in range(lanes):
            totals[step, pixel + lane] = sums[at + lane]


@compiled()
def collect_layer(tier, arena, layer, sums, totals):
    """The sums a of a layer in each step, (steps, pixels * channels) int32; arguments as `fire_layer`."""
    for block in range(layer.blocks.shape[0] - 1):
        for y in range(layer.grid[0]):
            for x in range(layer.grid[1]):
                if layer.blocks[block, 1] == 2:
                    _collect_pixel(tier, (1, 1), arena, layer, block, y, x, sums, totals)
                else:
                    _collect_pixel(tier, (1,), arena, layer, block, y, x, sums, totals)
