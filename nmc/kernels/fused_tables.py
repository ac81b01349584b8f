"""A network's layers as flat arrays: what the kernels of `nmc.kernels.fused_steps` read.

One row of numbers for each layer says where its part of every array begins, so that one call
runs any number of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.network import Population
from nmc.ir.neurons import STATE_LIMIT
from nmc.kernels.fire_rules import OWN
from nmc.kernels.fused_operands import Feed, Lane, Maps, Segments, Sum
from nmc.kernels.integrate import flat
from nmc.kernels.neurons import IDEAL, Model, parameters_of
from nmc.kernels.tiers import GROUP, LANES, ROWS

FEED, FUSED, CONSTANT, GROUPED, READ, SUMS, VALUES = range(7)
"""What is done for a layer: the input is taken; sums and neurons in registers; the same with the
same sums in every step; sums through memory, then neurons of any model; a read-out that never fires; sums
only, neurons elsewhere; sums of words, whose neurons send values."""

WORD = (1 << 31) - 1

NEVER = 1 << 30
"""A threshold that no potential reaches: the difference of the two has room in 32 bits."""

FEW = 8
"""Pixels whose sums are in memory at once: a call of a kernel costs as much as some of its steps."""


SEGMENT = 14
"""Numbers of a row of segments."""

_LINE = 64
"""Bytes of a line of the cache."""


class Row(NamedTuple):
    """Numbers of one layer.

    Attributes:
        kind: one of the above.
        height, width, channels, padded: of its map; padded to whole vectors.
        steps, rounds: of the window; rounds of `ROWS` steps, 1 where sums are constant.
        limit, keep: of v, and the mask of the reset (-1 or 0).
        zero: what stands for no message.
        out, out_row, out_pixel, out_group: first byte of its messages, and from row to row, from pixel
            to pixel and from one group of four channels to the next.
        blocks, blocks_end: rows of `LayerTables.blocks`; one more ends the last.
        groups, first, shifts: number of sums, what they start from (groups, padded), and their
            right and left shifts (groups, 2, padded).
        own, own_pitch: (pixels, padded / LANES, OWN, LANES) v0, bias, bar, step and lower threshold; from
            pixel to pixel, 0 where all pixels share one.
        tally: (pixels, padded / LANES, 2, LANES) spikes and changes.
        lanes, lanes_end: rows of `LayerTables.lanes`.
        pools, pools_end: rows of `LayerTables.pools`, of its messages.
        column: of a read-out, its first column (of one with values -1: it is not read); of an input, its
            first value.
        wait: steps in which it takes sums in and sends nothing.
        chained: whether each sum, shifted to the left, is what the next one starts from.
        span: rows of sums that a pixel needs in memory.
        model, rectify: of neurons whose messages carry values and are read.
        levels, free, keep_u, keep_v, rest: as `nmc.kernels.fire_rules.Firing` takes them.
    """

    kind: int
    height: int = 1
    width: int = 1
    channels: int = 0
    padded: int = 0
    steps: int = 0
    rounds: int = 1
    limit: int = WORD
    keep: int = -1
    zero: int = 0
    out: int = 0
    out_row: int = 0
    out_pixel: int = 0
    out_group: int = 0
    blocks: int = 0
    blocks_end: int = 0
    groups: int = 1
    first: int = 0
    shifts: int = 0
    own: int = 0
    own_pitch: int = 0
    tally: int = 0
    lanes: int = 0
    lanes_end: int = 0
    pools: int = 0
    pools_end: int = 0
    column: int = 0
    wait: int = 0
    levels: int = 1
    free: int = 0
    keep_u: int = 0
    keep_v: int = 0
    rest: int = 0
    chained: int = 0
    span: int = 0
    model: int = 0
    rectify: int = 0


class LayerTables(NamedTuple):
    """All layers as the kernels read them. Channels are padded to whole vectors.

    Attributes:
        layers: (L, fields of `Row`).
        blocks: (B, 3): first channel, vectors, first segment.
        segments: (S, 14): accumulator group, base, row and pixel stride, stride of a step and of
            `ROWS` steps, first offset, number of offsets, first weight, whether it is the group's first; and for
            chained sums: where in ``shifts`` the left shift of what was added before it lies, first run, where its
            numbers in ``edges`` begin, and from group to group.
        offsets: within the arena, of each group of four channels.
        runs: (R, 3): offset of the first of some groups that lie one behind the other, how many, first weight.
        edges: for each row of a map the first run that meets its source, of this segment's, and the first behind
            them; then for each column how many groups of every run to skip, and how many to drop.
        weights: int8, (offsets, lanes, 4) for each segment.
        lanes: (K, 5): base, row, pixel and group stride, first scale.
        scales: int32, in units of v.
        pools: (P, 9): first byte read, its row and pixel stride, first byte written, its row and pixel
            stride, rows and columns written, side of the squares.
        first, shifts, own, tally: int32, as `Row` says.
    """

    layers: IndexArray
    blocks: IndexArray
    segments: IndexArray
    offsets: IndexArray
    runs: IndexArray
    edges: IndexArray
    weights: NDArray[np.int8]
    lanes: IndexArray
    scales: Array
    pools: IndexArray
    first: Array
    shifts: Array
    own: Array
    tally: Array


@dataclass(frozen=True, eq=False)
class Operands:
    """What reaches a population.

    Attributes:
        sums: of products.
        lanes: none but where one sum at most is there, or they are chained.
        chained: whether each sum, shifted to the left, is what the next one starts from.
    """

    sums: Sequence[Sum]
    lanes: Sequence[Lane] = ()
    chained: bool = False

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Whose messages are read."""
        return (*(feed for part in self.sums for feed in part.sources), *(lane.feed for lane in self.lanes))


@dataclass
class Layout:
    """The arrays while they are made."""

    maps: Mapping[Feed, Maps]
    rows: list[Row] = field(default_factory=list)
    blocks: list[tuple[int, int, int]] = field(default_factory=list)
    segments: Segments = field(default_factory=Segments)
    lanes: list[tuple[int, ...]] = field(default_factory=list)
    pools: list[tuple[int, ...]] = field(default_factory=list)
    parts: dict[str, list[Array]] = field(default_factory=lambda: {n: [] for n in ("scales", "first", "shifts", "own")})
    tallied: int = 0

    def _append(self, name: str, values: Array) -> int:
        """Where these values begin in their array."""
        begin = sum(map(len, self.parts[name]))
        self.parts[name].append(values.reshape(-1).astype(np.int32))
        return begin

    def place(self, row: Row, population: Population, steps: int) -> Row:
        """A row with its map, its pools and its tally."""
        maps = self.maps[population.name, 1]
        channels, height, width = maps.shape
        tally, pools = self.tallied, len(self.pools)
        self.tallied += height * width * maps.channels * 2
        for (name, side), into in self.maps.items():
            if name == population.name and side > 1:
                _, rows, columns = into.shape
                read, written = (maps.inner, maps.row, maps.pixel), (into.inner, into.row, into.pixel)
                self.pools.append((*read, *written, rows, columns, side))
        return row._replace(
            height=height,
            width=width,
            channels=channels,
            padded=maps.channels,
            steps=steps,
            zero=maps.zero,
            out=maps.inner,
            out_row=maps.row,
            out_pixel=maps.pixel,
            out_group=GROUP * maps.held,
            tally=tally,
            pools=pools,
            pools_end=len(self.pools),
        )

    def add(self, row: Row) -> None:
        """A layer without sums."""
        self.rows.append(row)

    def add_sums(self, row: Row, operands: Operands, own: Array, unit: int) -> Row:
        """A layer with its operands; its row as it is stored.

        Args:
            row: from `place`.
            operands: what reaches it.
            own: of `own_of`.
            unit: left shift of the sum a to the unit of v.
        """
        blocks = len(self.blocks)
        for channel in range(0, row.padded, 2 * LANES):
            vectors = 2 if channel + LANES < row.padded else 1
            self.segments.block = len(self.segments.rows)
            self.blocks.append((channel, vectors, self.segments.block))
            here = slice(channel, min(channel + vectors * LANES, row.channels))
            before = None
            for group, part in enumerate(operands.sums):
                left = np.zeros(vectors * LANES, dtype=np.int64)
                if operands.chained and before is not None:
                    left[: here.stop - here.start] = (part.shift - before.shift)[here]
                begins = len(self.segments.rows)
                for conv, feed in zip(part.convs, part.sources, strict=True):
                    self.segments.add(0 if operands.chained else group, conv, self.maps[feed], here, vectors * LANES)
                self._shift_before(begins, left)
                before = part
        blocks_end = len(self.blocks)
        self.blocks.append((row.padded, 0, len(self.segments.rows)))
        first, shifts = self._sums(operands.sums, row.padded)
        if operands.chained:
            first, shifts = first[:1], shifts[-1:]
        shifts[:, 1] += unit
        lanes = len(self.lanes)
        for lane in operands.lanes:
            maps, scales = self.maps[lane.feed], np.zeros(row.padded, dtype=np.int64)
            scales[: row.channels] = lane.weight << unit
            self.lanes.append((maps.inner, maps.row, maps.pixel, GROUP * maps.held, self._append("scales", scales)))
        row = row._replace(
            blocks=blocks,
            blocks_end=blocks_end,
            groups=len(first),
            chained=int(operands.chained),
            span=max(len(first) * row.rounds * ROWS, row.steps + row.wait),
            first=self._append("first", first),
            shifts=self._append("shifts", shifts),
            own=self._append("own", own),
            own_pitch=0 if len(own) == 1 else own[0].size,
            lanes=lanes,
            lanes_end=len(self.lanes),
        )
        self.rows.append(row)
        return row

    def _shift_before(self, begins: int, left: IndexArray) -> None:
        """Set the shift before each of the last segments: only the first of them has one."""
        for number in range(begins, len(self.segments.rows)):
            shift = left if number == begins else np.zeros_like(left)
            row = self.segments.rows[number]
            self.segments.rows[number] = (*row[:10], self._append("shifts", shift), *row[10:])

    def _sums(self, sums: Sequence[Sum], channels: int) -> tuple[Array, Array]:
        """What each sum starts from (the projection bias, less what the zeros of messages add), and its shifts."""
        first = np.zeros((max(len(sums), 1), channels), dtype=np.int64)
        shifts = np.zeros((max(len(sums), 1), 2, channels), dtype=np.int64)
        for group, part in enumerate(sums):
            count = len(part.bias)
            start = part.bias.copy()
            for conv, feed in zip(part.convs, part.sources, strict=True):
                start -= conv.weight.reshape(count, -1).sum(axis=1) * self.maps[feed].zero
            first[group, :count] = start
            # A sum of 32 bits has no more to lose.
            shifts[group, :, :count] = np.clip([part.shift, -part.shift], 0, 31)
        return first, shifts

    def tables(self) -> LayerTables:
        """The arrays."""
        empty = np.zeros(0, dtype=np.int64)
        parts = {name: np.concatenate([np.zeros(0, np.int32), *found]) for name, found in self.parts.items()}
        return LayerTables(
            layers=np.array(self.rows, dtype=np.int64).reshape(-1, len(Row._fields)),
            blocks=np.array(self.blocks, dtype=np.int64).reshape(-1, 3),
            segments=np.array(self.segments.rows, dtype=np.int64).reshape(-1, SEGMENT),
            offsets=np.concatenate([empty, *self.segments.offsets]).astype(np.int64),
            runs=np.array(self.segments.runs, dtype=np.int64).reshape(-1, 3),
            edges=np.array(self.segments.edges, dtype=np.int64),
            weights=_aligned(np.concatenate([np.zeros(0, dtype=np.int8), *self.segments.weights])),
            lanes=np.array(self.lanes, dtype=np.int64).reshape(-1, 5),
            pools=np.array(self.pools, dtype=np.int64).reshape(-1, 9),
            tally=np.zeros(self.tallied, dtype=np.int32),
            **parts,
        )


def _aligned(values: NDArray[np.int8]) -> NDArray[np.int8]:
    """A copy that begins with a line of the cache: a vector across two lines takes two reads."""
    whole = np.empty(len(values) + _LINE, dtype=np.int8)
    begin = -whole.ctypes.data % _LINE
    held = whole[begin : begin + len(values)]
    held[:] = values
    return held


def own_of(population: Population, channels: int, strict: int, drive: Array | None = None) -> Array:
    """Parameters of each neuron, (pixels, channels / LANES, OWN, LANES) int32: see `Row`.

    One pixel stands for all where no parameter differs within a channel. Padding channels never
    fire: their bar is out of reach.

    Args:
        population: with potentials.
        channels: in whole vectors.
        strict: 1 where a potential that equals the threshold does not fire.
        drive: (n,) input that takes the place of the bias.
    """
    own, shape = parameters_of(population.neuron), population.shape
    values = [own.v0, own.bias if drive is None else drive, own.threshold + strict, own.threshold, own.second]
    by_channel = drive is None and all(v.size == 1 or v.shape == (shape[0], *(1,) * (len(shape) - 1)) for v in values)
    pixels, count = 1 if by_channel else population.neurons // shape[0], shape[0]
    laid = np.zeros((pixels, channels, OWN), dtype=np.int32)
    laid[:, :, 2:4] = NEVER
    for which, value in enumerate(values):
        full = value if value is drive else flat(np.asarray(value), shape)
        laid[:, :count, which] = full.reshape(-1, count)[:pixels]
    return np.ascontiguousarray(laid.reshape(pixels, channels // LANES, LANES, OWN).transpose(0, 1, 3, 2))


def scratch_of(operands: Operands, row: Row) -> int:
    """Sums of one block of a few pixels, what the sums start from, and one vector."""
    return LANES + FEW * row.span * 2 * LANES + max(len(operands.sums), 1) * row.padded


def chained(sums: Sequence[Sum], centred: Callable[[Sum], bool]) -> Sequence[Sum] | None:
    """Sums as a chain: one, or two of which the first, shifted to the left, is what the second starts from; else None.

    ``(A << a) + (B << b) = ((A << (a - b)) + B) << b``; exact where no shift is to the right.

    Args:
        sums: of one population.
        centred: whether a sum starts from 0.
    """
    if len(sums) > 2 or any((part.shift > 0).any() for part in sums):
        return None
    if len(sums) < 2:
        return sums
    for first, second in (sums, sums[::-1]):
        # A channel without weights may have any shift.
        a = np.where(_silent(first), second.shift, first.shift)
        b = np.where(_silent(second), a, second.shift)
        if centred(second) and np.all(b >= a):
            return replace(first, shift=a), replace(second, shift=b)
    return None


def _silent(part: Sum) -> NDArray[np.bool_]:
    """(C,) where a sum has no weights and no bias."""
    rows = [conv.weight.reshape(len(part.shift), -1).any(axis=1) for conv in part.convs]
    silent: NDArray[np.bool_] = ~(np.any(rows, axis=0) | (part.bias != 0))
    return silent


def with_model(row: Row, model: Model, wait: int) -> Row:
    """A row with what its neurons share."""
    return row._replace(
        limit=NEVER if model.kind == IDEAL else STATE_LIMIT - 1,
        keep=-1 if model.subtract else 0,
        wait=wait,
        levels=min(model.levels, WORD),
        free=0 if model.guarded else -1,
        keep_u=4096 - model.du - 1,
        keep_v=4096 - model.dv,
        rest=model.refractory,
        model=model.kind,
        rectify=model.rectify,
    )
