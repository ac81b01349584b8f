"""Layers whose sums follow the spikes: which of a fused program can, which had better, and how they run.

A layer of plain neurons that hear spikes alone may be run either way, with the same result. `nmc.kernels.dot_fire`
takes as long for silence as for spikes; here every pixel of the source is listed once for each step, the lists under
a kernel are put together, and only their rows of weights are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray
from nmc.kernels.compiled import compiled
from nmc.kernels.dot_fire import dot_sum
from nmc.kernels.fire_rules import Cells
from nmc.kernels.fused import FusedLayer, FusedProgram
from nmc.kernels.fused_steps import fire_pixels, pool_layer
from nmc.kernels.fused_sums import chain_of, layer_row
from nmc.kernels.fused_tables import FUSED, Row
from nmc.kernels.gather import ENTRIES, SPOT, UNROLLED, bit_lists, gather, list_spikes, rows_of
from nmc.kernels.tiers import GROUP, LANES, ROWS, Bytes256, Bytes512, Portable, Tier, Vnni256, Vnni512

_PAIR = 2 * LANES
"""Channels whose neurons fire together."""

_BYTE, _SHORT, _ROWS_END = 127, (1 << 15) - 1, 1 << 16
_ONCE, _ANY = Cells(), Portable()


GATHER_NS = (16.0, 1.74, 0.227)
"""Nanoseconds for a pixel and step, for each list that it copies, and for each row that is added to a pair of vectors.

These and the next as `benchmarks/simulation_gather.py` fitted them, on a server with AVX-512 VNNI; only their ratios
decide.
"""

DOT_NS: Mapping[type[Tier], tuple[float, float]] = {
    Vnni512: (0.139, 3.8),
    Bytes512: (0.28, 2.8),
    Vnni256: (0.32, 2.8),
    Bytes256: (0.57, 2.5),
    Portable: (0.56, 3.4),
}
"""Nanoseconds for `LANES` channels of a pixel and step: for each group of four messages, and for the neurons."""


class Lists(NamedTuple):
    """What a thread lists, and what it looks up.

    Attributes:
        lists: uint8: channels that spiked, one list for each pixel and step.
        lengths: uint16, of the lists.
        rows: uint16: the rows that a pixel adds, `ROWS` steps side by side.
        ends: (ROWS,) int64: where they end.
        spots: int64, `SPOT` numbers for each place of the kernel at one pixel.
        bits: of `bit_lists`.
        synapses: int8 (rows, channels): of one layer, zeros at the end.
    """

    lists: NDArray[np.uint8]
    lengths: NDArray[np.uint16]
    rows: NDArray[np.uint16]
    ends: IndexArray
    spots: IndexArray
    bits: NDArray[np.uint8]
    synapses: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Gather:
    """How a layer adds up rows.

    Attributes:
        feeds: (F, 10) maps that are heard: first byte, from row to row, from pixel to pixel, from group to group;
            pairs of groups, rows, columns, steps; first list, and lists from row to row.
        taps: (K, 4) places of the kernel: first list, lists from row to row and from pixel to pixel, and its first row
            of synapses, in units of 16 bytes.
        synapses: as `Lists` says.
        narrow: whether 16 bits hold every sum.
        lists: their number; ``copies``: the room of each, in `ENTRIES`; ``most``: rows of a pixel and step.
        events: rows that a pixel adds in a step, for each spike of a neuron of each feed; ``heard``: whose they are.
        groups: groups of four channels that the dot product would take.
    """

    feeds: IndexArray
    taps: IndexArray
    synapses: NDArray[np.int8]
    narrow: bool
    lists: int
    copies: int
    most: int
    events: tuple[int, ...]
    heard: tuple[str, ...]
    groups: int

    @property
    def zero(self) -> int:
        """The row of zeros, in units of 16 bytes."""
        zeros: int = (len(self.synapses) - 1) * (self.synapses.shape[1] // LANES)
        return zeros


@dataclass
class _Synapses:
    """The synapses of a layer, while they are read from its segments."""

    layers: dict[int, FusedLayer]
    found: dict[tuple[int, int, int, int, int], Array]
    channels: int

    def add(self, fused: FusedProgram, segment: IndexArray, first: int, lanes: int) -> bool:
        """One segment of a block of channels; whether it can be gathered."""
        laid, base = fused.tables, int(segment[1])
        layer = next((one for start, one in self.layers.items() if start <= base < start + one.maps.bytes), None)
        if layer is None or laid.shifts[segment[10] : segment[10] + lanes].any():
            return False
        maps = layer.maps
        if (maps.most, maps.zero, maps.width) != (1, 0, 1) or maps.constant or maps.channels > 1 << 8:
            return False
        offsets = laid.offsets[segment[6] : segment[6] + segment[7]] + base - maps.offset
        size = segment[7] * lanes * GROUP
        weights = laid.weights[segment[8] : segment[8] + size].reshape(-1, lanes, GROUP)
        for offset, weight in zip(offsets, weights, strict=True):
            y, rest = divmod(int(offset), maps.row)
            x, group = rest // maps.pixel, rest % maps.pixel // (GROUP * maps.held)
            strides = int(segment[2]) // maps.row, int(segment[3]) // maps.pixel
            whole = self.found.setdefault(
                (maps.offset, y, x, *strides), np.zeros((maps.channels, self.channels), dtype=np.int64)
            )
            whole[GROUP * group : GROUP * (group + 1), first : first + lanes] += weight.T
        return True


def lay_gather(fused: FusedProgram, number: int) -> Gather | None:
    """A layer whose rows can be added up; None where messages are no spikes, or weights or channels do not fit."""
    row, laid = fused.layers[number].row, fused.tables
    if row.kind != FUSED or row.padded % _PAIR or laid.shifts[row.shifts : row.shifts + row.padded].any():
        return None
    synapses = _Synapses({one.maps.offset: one for one in fused.layers}, {}, row.padded)
    groups = 0
    for block in range(row.blocks, row.blocks_end):
        first, vectors, begin = laid.blocks[block]
        for segment in laid.segments[begin : laid.blocks[block + 1, 2]]:
            groups = groups + int(segment[7]) * vectors * LANES // row.padded
            if not synapses.add(fused, segment, first, vectors * LANES):
                return None
    if not synapses.found:
        return None
    rows = np.concatenate([*synapses.found.values(), np.zeros((1, row.padded), dtype=np.int64)])
    if np.abs(rows).max() > _BYTE or len(rows) * (row.padded // LANES) > _ROWS_END:
        return None
    most = max(np.maximum(sign * rows, 0).sum(axis=0).max() for sign in (1, -1))
    feeds, taps, lists = _lay_taps(synapses, row.padded)
    sources = {start: synapses.layers[start] for start, *_ in synapses.found}
    return Gather(
        feeds,
        taps,
        rows.astype(np.int8),
        bool(most <= _SHORT),
        lists,
        max(-(-one.maps.channels // ENTRIES) for one in sources.values()),
        len(rows) + 8 * ENTRIES + UNROLLED,
        tuple(sum(part.shape[0] for key, part in synapses.found.items() if key[0] == start) for start in sources),
        tuple(one.population.name for one in sources.values()),
        groups,
    )


def _lay_taps(synapses: _Synapses, channels: int) -> tuple[IndexArray, IndexArray, int]:
    """Feeds and taps of a layer, and how many lists there are."""
    feeds, taps, begins = list[tuple[int, ...]](), list[tuple[int, ...]](), dict[int, int]()
    lists, first = 0, 0
    for (start, y, x, down, across), part in synapses.found.items():
        maps = synapses.layers[start].maps
        columns, steps = maps.row // maps.pixel, maps.steps
        if start not in begins:
            inner = lists + (maps.pads[0] * columns + maps.pads[1]) * steps
            grid = maps.inner, maps.row, maps.pixel, GROUP * maps.held, maps.channels // (2 * GROUP)
            feeds.append((*grid, *maps.shape[1:], steps, inner, columns * steps))
            begins[start] = lists
            lists += maps.bytes // maps.pixel * steps
        place = begins[start] + (y * columns + x) * steps
        taps.append((place, down * columns * steps, across * steps, first * (channels // LANES)))
        first += len(part)
    return np.array(feeds), np.array(taps), lists


def lay_gathers(fused: FusedProgram | None) -> dict[int, Gather]:
    """The layers of a program that can add up rows, by number."""
    numbers = range(0 if fused is None else len(fused.layers))
    found = {number: lay_gather(fused, number) for number in numbers if fused is not None}
    return {number: plan for number, plan in found.items() if plan is not None}


def chosen(fused: FusedProgram, tier: Tier, rates: Mapping[str, float]) -> dict[int, Gather]:
    """The layers that had better add up rows.

    Args:
        fused: the program.
        tier: of the products that would be there instead.
        rates: messages per neuron and step, by population.
    """
    return {
        number: plan
        for number, plan in fused.program.gathers.items()
        if sum(np.multiply(gather_parts(fused.layers[number].row, plan, rates), GATHER_NS))
        < dot_ns(fused.layers[number].row, plan, tier)
    }


def gather_parts(row: Row, plan: Gather, rates: Mapping[str, float]) -> tuple[float, ...]:
    """What a layer takes whose rows are added up, in the units of `GATHER_NS`."""
    added = sum(count * rates[name] for count, name in zip(plan.events, plan.heard, strict=True)) * row.padded / _PAIR
    return tuple(row.steps * row.height * row.width * part for part in (1.0, len(plan.taps) * plan.copies, added))


def dot_ns(row: Row, plan: Gather, tier: Tier) -> float:
    """Nanoseconds that a layer of products takes."""
    product, neurons = DOT_NS[type(tier)]
    vectors = row.height * row.width * row.padded / LANES
    return row.steps * vectors * (plan.groups * product + neurons)


class Gatherer:
    """The lists of one thread, for some layers.

    Args:
        plans: by number of the layer.
        fused: the program.
    """

    def __init__(self, plans: Mapping[int, Gather], fused: FusedProgram) -> None:
        self.plans = plans
        room = max((plan.lists * plan.copies * ENTRIES for plan in plans.values()), default=0)
        shared = (
            np.zeros(room + ENTRIES, dtype=np.uint8),
            np.zeros(max((plan.lists for plan in plans.values()), default=0), dtype=np.uint16),
            np.zeros(ROWS * max((plan.most for plan in plans.values()), default=0), dtype=np.uint16),
            np.zeros(ROWS, dtype=np.int64),
            np.zeros(SPOT * max((len(plan.taps) for plan in plans.values()), default=0), dtype=np.int64),
            bit_lists(),
        )
        self.states = {number: Lists(*shared, plan.synapses.reshape(-1)) for number, plan in plans.items()}
        rows = [fused.layers[number].row for number in plans]
        self.sums = np.zeros(2 * max((row.steps * row.padded for row in rows), default=0), dtype=np.int32)

    def run(self, arena: Array, tables: object, number: int) -> None:
        """One layer: its messages and its tally."""
        plan = self.plans[number]
        vectors = (1, 1, 1, 1) if plan.synapses.shape[1] % (2 * _PAIR) == 0 else (1, 1)
        form = vectors, (1,) * plan.copies, (1,) * plan.narrow
        numbers = number, plan.most, plan.zero, plan.lists
        run_gather(*form, arena, tables, self.states[number], plan.feeds, plan.taps, self.sums, numbers)


@compiled()
def _list_feeds(arena, state, feeds, room):
    """Lists of all pixels and steps of some maps."""
    for f in range(feeds.shape[0]):
        first, down, across, pitch, pairs = feeds[f, 0], feeds[f, 1], feeds[f, 2], feeds[f, 3], feeds[f, 4]
        for y in range(feeds[f, 5]):
            for x in range(feeds[f, 6]):
                at, number = first + y * down + x * across, feeds[f, 8] + y * feeds[f, 9] + x * feeds[f, 7]
                for _ in range(feeds[f, 7]):
                    state.lengths[number] = list_spikes(arena, state, (at, pitch, pairs, number * room))
                    at += GROUP
                    number += 1


@compiled()
def _place(spots, taps, room, y, x):
    """The spots of a pixel."""
    for k in range(taps.shape[0]):
        number = taps[k, 0] + y * taps[k, 1] + x * taps[k, 2]
        spots[SPOT * k], spots[SPOT * k + 1], spots[SPOT * k + 2] = number * room, number, taps[k, 3]


@compiled()
def _start(vectors, arena, tables, row, y, x, sums):
    """What the sums of a pixel start from: the constant ones, and what comes one to one; there are no products."""
    lanes = len(vectors) * LANES
    for channel in range(0, row.padded, lanes):
        block = (np.int64(channel), np.int64(len(vectors)), np.int64(0), np.int64(0))
        dot_sum(_ANY, vectors, arena, tables, sums, np.int64(channel * row.steps), chain_of(row, block, y, x))


@compiled()
def _add(vectors, copies, narrow, tables, state, spots, row, sums, into, most, zero):
    """Adds the rows of a pixel to its sums, a few steps at a time: what is listed is not read at once."""
    lanes, ends = len(vectors) * LANES, state.ends
    for begin in range(0, row.steps, ROWS):
        count = min(ROWS, row.steps - begin)
        for n in range(count):
            end = rows_of(copies, state, (spots, begin + n, n * most, row.padded // LANES))
            for more in range(UNROLLED):
                state.rows[end + more] = zero
            ends[n] = end
        for n in range(count):
            rounds = (ends[n] - n * most + UNROLLED - 1) // UNROLLED
            for channel in range(0, row.padded, lanes):
                left, at = row.shifts + row.padded + channel, channel * row.steps + (begin + n) * lanes
                places = (n * most, rounds, np.int64(channel), left, at, into + at)
                gather(vectors, narrow, state, tables, sums, places)


@compiled()
def run_gather(vectors, copies, narrow, arena, tables, state, feeds, taps, sums, numbers):
    """A layer whose sums follow the spikes, its messages and tally.

    Args:
        vectors: as many ones as vectors of channels whose sums are in registers at once.
        copies: as many ones as a list of channels has room for `ENTRIES`.
        narrow: not empty where 16 bits hold every sum.
        arena: uint8, the messages of all layers.
        tables: `LayerTables`.
        state: `Lists`.
        feeds: of `Gather`.
        taps: likewise.
        sums: int32 scratch, (2, blocks of channels, steps, channels of a block): what the sums of a pixel start from,
            and the sums.
        numbers: of the layer, rows of a pixel and step at most, the row of zeros, lists.
    """
    i, most, zero, lists = numbers
    row, room = layer_row(tables.layers, i), len(copies) * ENTRIES
    into, lanes = row.steps * row.padded, len(vectors) * LANES
    state.lengths[:lists] = 0
    _list_feeds(arena, state, feeds, room)
    for y in range(row.height):
        for x in range(row.width):
            # Without anything that comes one to one, all pixels start from the same.
            if row.lanes < row.lanes_end or x + y == 0:
                _start(vectors, arena, tables, row, y, x, sums)
            _place(state.spots, taps, room, y, x)
            _add(vectors, copies, narrow, tables, state, taps.shape[0], row, sums, into, most, zero)
            for channel in range(0, row.padded, lanes):
                at = into + channel * row.steps
                fire_pixels(_ONCE, vectors, (1,), (), arena, tables, row, channel, y, x, sums, at)
    pool_layer(arena, tables, i)
