"""Layers whose messages carry values, over the whole window: products of words, then graded or sigma-delta neurons.

Nothing bounds such messages before they are known. What a layer may receive is therefore checked against the largest
message that was really sent: where sums might leave 32 bits, or a message leaves 16, the sample goes step by step.
"""

from __future__ import annotations

import numpy as np

from nmc.kernels.compiled import compiled
from nmc.kernels.fire import fire
from nmc.kernels.fire_rules import OWN
from nmc.kernels.fused_sums import block_of, keep, layer_row, pixel_sums, step_sums
from nmc.kernels.fused_tables import FEED
from nmc.kernels.neurons import GRADED, SIGMA_DELTA
from nmc.kernels.tiers import LANES, ROWS

_SUM = 1 << 31
_MESSAGE = (1 << 15) - 1


@compiled(inline="always")
def _words_of(row, y, x, c):
    """Where the messages of a neuron begin, in words; those of the next step follow two words later."""
    first = row.out + y * row.out_row + x * row.out_pixel + c // 2 * row.out_group
    return first // 2 + c % 2


@compiled()
def _take(words, row, sample, largest, i):
    """The messages of a source, in the first step or the same in every one."""
    place = row.column
    for y in range(row.height):
        for x in range(row.width):
            for c in range(row.channels):
                value = sample[place]
                words[_words_of(row, y, x, c)] = value + row.zero
                largest[i] = max(largest[i], abs(value))
                place += 1


@compiled()
def _sums_fit(limits, i, largest):
    """Whether no sum of a projection into layer ``i``, and no total of them, leaves 32 bits."""
    total = 0.0
    for p in range(limits.shape[0]):
        if limits[p, 0] == i:
            most = largest[int(limits[p, 1])]
            if limits[p, 2] * most + limits[p, 3] >= _SUM:
                return False
            total += limits[p, 4] * most + limits[p, 5]
    return total < _SUM


@compiled()
def _read(row, tables, channel, y, x, lanes, sums, at, read, sent):
    """The neurons of a block of one pixel that are read and that nobody hears; whether they fit."""
    pixel = y * row.width + x
    for lane in range(min(lanes, row.channels - channel)):
        c = channel + lane
        own = row.own + pixel * row.own_pitch + c // LANES * OWN * LANES + c % LANES
        threshold, right = tables.own[own + 3 * LANES], tables.own[own + 4 * LANES]
        column, state = row.column + pixel * row.channels + c, np.int64(tables.own[own])
        value_sent, fired, changed = np.int64(0), 0, 0
        for step in range(row.steps):
            total = np.int64(sums[at + step * lanes + lane])
            if row.model == SIGMA_DELTA:
                after = state + total
                activation = after >> right
                if row.rectify:
                    activation *= activation > 0
                change = activation - value_sent
                message = change if abs(change) >= threshold else 0
                value_sent += message
                changed += (after != state) | (message != 0)
                state = after
                if abs(state) >= _SUM:
                    return False
            else:
                message = state = total if row.model == GRADED else max(total, np.int64(0))
                changed += total != 0
            fired += message != 0
            read[step, column], sent[step, column] = state, message
        tally = row.tally + 2 * (pixel * row.padded + c // LANES * LANES) + c % LANES
        tables.tally[tally] += fired
        tables.tally[tally + LANES] += changed
    return True


@compiled(inline="always")
def _send(cells, vectors, arena, tables, row, channel, y, x, sums, at, peak):
    """The neurons of a block of one pixel, in vectors."""
    pixel, stride = y * row.width + x, len(vectors) * LANES
    own = row.own + pixel * row.own_pitch + channel * OWN
    out = row.out + y * row.out_row + x * row.out_pixel + channel // 2 * row.out_group
    tally = row.tally + 2 * (pixel * row.padded + channel)
    none = (0, 0, 0, 0, 0, 0, 0, 0, 0)
    places = (row.steps, at, stride, own, 0, out, 0, row.out_group, tally, 0, peak)
    fire(cells, vectors, (1,), (), arena, tables, sums, none, places)


@compiled()
def _values_block(tier, cells, vectors, constant, arena, tables, row, block, sums, read, sent):
    """The neurons of a block of channels: `ROWS` pixels in a row at once where there is one step; whether they fit."""
    lanes, kept, peak = len(vectors) * LANES, keep(tables, row, sums), sums.shape[0] - LANES
    for y in range(row.height):
        for x in range(0, row.width, ROWS if len(constant) > 0 else 1):
            if len(constant) > 0:
                count = pixel_sums(tier, vectors, arena, tables, row, block, y, x, sums, kept)
            else:
                count = 1
                step_sums(tier, vectors, arena, tables, row, block, y, x, sums, 0, kept)
            if row.column >= 0:
                for p in range(count):
                    if not _read(row, tables, block[0], y, x + p, lanes, sums, p * lanes, read, sent):
                        return False
            else:
                for p in range(count):
                    _send(cells, vectors, arena, tables, row, block[0], y, x + p, sums, p * lanes, peak)
    return True


@compiled()
def _values_layer(tier, cells, constant, arena, tables, row, sums, read, sent):
    """A layer's messages; the largest, or -1 where one does not fit."""
    peak = sums.shape[0] - LANES
    sums[peak:] = 0
    for number in range(row.blocks, row.blocks_end):
        block = block_of(tables.blocks, number)
        if block[1] == 2:
            fits = _values_block(tier, cells, (1, 1), constant, arena, tables, row, block, sums, read, sent)
        else:
            fits = _values_block(tier, cells, (1,), constant, arena, tables, row, block, sums, read, sent)
        if not fits:
            return -1
    most = sums[peak:].max()
    return most if most <= _MESSAGE else -1


@compiled()
def run_values(tier, cells, constant, arena, words, tables, sums, limits, sample, largest, read, sent, begin, end):
    """Messages of all neurons of some layers, and their tally; whether sums and messages fit.

    Args:
        tier: a `nmc.kernels.tiers.Words`.
        cells: of all these layers, `nmc.kernels.fire_values.Values`.
        constant: not empty where there is one step: then whole rows of pixels are one product.
        arena: uint8, the messages of all layers.
        words: the same memory, int16.
        tables: `LayerTables`.
        sums: int32 scratch: the sums of one block of a few pixels, what those of a layer start from, and a vector.
        limits: of `nmc.kernels.fused.FusedProgram`.
        sample: (n,) int64 input, channels last.
        largest: (layers,) int64: the largest message of each, of those before these too.
        read: (T, n) int32, written: the read-outs.
        sent: (T, n) int64, written: the messages of what is read.
        begin: the first layer.
        end: the first that is not run.
    """
    for i in range(begin, end):
        row = layer_row(tables.layers, i)
        largest[i] = 0
        if row.kind == FEED:
            _take(words, row, sample, largest, i)
            continue
        if not _sums_fit(limits, i, largest):
            return False
        largest[i] = _values_layer(tier, cells, constant, arena, tables, row, sums, read, sent)
        if largest[i] < 0:
            return False
    return True
