"""Dot products and integrate-and-fire of a few neurons over a whole window, in registers from end to end.

What `nmc.kernels.dot` and `nmc.kernels.fire` do one after the other, without the sums ever
going to memory: for layers whose sums share one shift. Sources that reach one neuron each, a
skip or a pooled map, are multiplied lane by lane after it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nmc.kernels.dot import products
from nmc.kernels.fire import Firing, load_messages, own_of, store_messages, tally_up
from nmc.kernels.tiers import GROUP, LANES, Bytes256, Vnni256
from nmc.kernels.vectors import I8, I32, I64, Pointers, check, loop, splat

SEGMENT = 11
"""Numbers of a row of segments."""

LANE = 5
"""Numbers of a row of lanes."""


def _dot_fire(typing, tier, vectors, pixels, arena, tables, at):
    """Messages of ``vectors * LANES`` channels of a few pixels in a row, and their tally.

    ``total = (sum << left) + sum of scale * message``, then a neuron as in `nmc.kernels.fire`. The sum starts
    from ``first``; each segment shifts it to the left and adds its products.

    ``tier`` is a `Tier`; ``vectors`` and ``pixels`` are tuples of as many ones.
    ``arena`` (uint8) holds the messages; ``tables`` are `nmc.kernels.fused_tables.LayerTables`, no segment being
    constant. ``at``, all int64, in this order: steps, limit, keep, row, column, first and last segment, first
    and last lane, channel; then where ``first``, ``shifts`` and ``own`` begin, channels of a row of ``shifts``, from
    pixel to pixel of ``own``; first byte sent, from pixel to pixel, from group to group; where ``tally`` begins
    and from pixel to pixel.
    """
    check({"arena": arena, "tables": tables}, _ARRAYS)
    chosen, counts = tier.instance_class, (len(vectors), len(pixels))
    signature = types.void(tier, vectors, pixels, arena, tables, types.UniTuple(types.int64, 20))

    def codegen(context, builder, sig, args):
        _DotFire(chosen, *counts, context, builder, sig, args).emit()
        return context.get_dummy_value()

    return signature, codegen


dot_fire: Any = intrinsic(_dot_fire)

_INT32 = ("first", "shifts", "own", "scales", "tally")
_INT64 = ("segments", "offsets", "lanes")
_ARRAYS: dict[str, types.Type] = {"arena": types.uint8, "weights": types.int8}
_ARRAYS |= dict.fromkeys(_INT32, types.int32) | dict.fromkeys(_INT64, types.int64)


class _DotFire:
    """The generator of one form of `dot_fire`."""

    def __init__(
        self, tier: type, vectors: int, pixels: int, context: Any, builder: Any, signature: Any, args: Any
    ) -> None:
        self.tier, self.pixels, self.builder = tier, pixels, builder
        narrow = tier in (Vnni256, Bytes256)
        self.lanes = LANES // 2 if narrow else LANES
        self.parts = vectors * LANES // self.lanes
        # Sums of as many steps at once as registers hold beside what else is in use.
        self.rows = (8 if narrow else 16) // (self.parts * pixels)
        self.kind, self.byte = ir.VectorType(I32, self.lanes), ir.VectorType(I8, self.lanes)
        self.pointers = Pointers(context, builder, signature, args, ("tier", "vectors", "pixels", "arena", "tables"))
        (
            self.steps,
            limit,
            keep,
            self.y,
            self.x,
            self.segment,
            self.segment_end,
            self.lane,
            self.lane_end,
            self.channel,
            self.first_at,
            self.into_at,
            self.own_at,
            self.into_pitch,
            self.own_pitch,
            self.out,
            self.apart,
            self.pitch,
            self.tally_at,
            self.tally_pitch,
        ) = cgutils.unpack_tuple(builder, args[5])
        self.places = [(pixel, part) for pixel in range(pixels) for part in range(self.parts)]
        self.firing = Firing(builder, self.lanes, limit, keep)

    def number(self, value: int) -> Any:
        return ir.Constant(I64, value)

    def plus(self, *values: Any) -> Any:
        total = values[0]
        for value in values[1:]:
            total = self.builder.add(total, self.number(value) if isinstance(value, int) else value)
        return total

    def times(self, value: Any, factor: Any) -> Any:
        return self.builder.mul(value, self.number(factor) if isinstance(factor, int) else factor)

    def emit(self) -> None:
        """The whole window."""
        load, lanes = self.pointers.load, self.lanes
        own = [
            own_of(self.pointers, self.plus(self.own_at, self.times(self.own_pitch, pixel)), part, lanes)
            for pixel, part in self.places
        ]
        self.own = own
        self.start = [load("first", self.plus(self.first_at, part * lanes), self.kind) for part in range(self.parts)]
        self.left = [
            load("shifts", self.plus(self.into_at, self.into_pitch, part * lanes), self.kind)
            for part in range(self.parts)
        ]
        zero = ir.Constant(self.kind, [0] * lanes)
        state = [value for values in own for value in (values[0], zero, zero)]
        whole = self.builder.sdiv(self.steps, self.number(self.rows))
        done = self.times(whole, self.rows)
        state = loop(self.builder, whole, state, lambda index, values: self.round(self.rows, index, values))
        rest = self.builder.sub(self.steps, done)
        state = loop(
            self.builder, rest, state, lambda index, values: self.round(1, self.builder.add(done, index), values)
        )
        for which, (pixel, part) in enumerate(self.places):
            place = self.plus(self.tally_at, self.times(self.tally_pitch, pixel))
            tally_up(self.pointers, place, part, lanes, state[3 * which + 1 : 3 * which + 3])

    def round(self, rows: int, index: Any, state: list[Any]) -> list[Any]:
        """Some steps of all neurons."""
        step = self.times(index, rows)
        sums = [self.start[part] for _ in range(rows) for _, part in self.places]
        count = self.builder.sub(self.segment_end, self.segment)
        sums = loop(self.builder, count, sums, lambda s, values: self.segment_of(rows, step, s, values))
        shifted = self.up(sums, self.left)
        count = self.builder.sub(self.lane_end, self.lane)
        totals = loop(self.builder, count, shifted, lambda k, values: self.lane_of(rows, step, k, values))
        after = list(state)
        sent = [list[Any]() for _ in self.places]
        for row in range(rows):
            for which in range(len(self.places)):
                total = totals[row * len(self.places) + which]
                new, fired = self.firing.step(after[3 * which : 3 * which + 3], total, self.own[which])
                after[3 * which : 3 * which + 3] = new
                sent[which].append(self.builder.zext(fired, self.byte))
        line = self.plus(self.out, self.times(step, GROUP))
        for which, (pixel, part) in enumerate(self.places):
            groups = self.times(self.pitch, part * self.lanes // GROUP)
            place = self.plus(line, self.times(self.apart, pixel), groups)
            store_messages(self.pointers, place, self.pitch, sent[which], self.lanes)
        return after

    def up(self, sums: list[Any], left: list[Any]) -> list[Any]:
        """Sums shifted to the left, channel by channel."""
        return [self.builder.shl(total, left[self.places[n % len(self.places)][1]]) for n, total in enumerate(sums)]

    def where(self, table: str, line: Any, base: int, step: Any) -> Any:
        """The first byte of a segment or lane at this pixel and step; ``base``: of its base, row and column pitch."""

        def number(place: int) -> Any:
            return self.pointers.load(table, self.plus(line, place), I64)

        place = self.plus(number(base), self.times(self.y, number(base + 1)), self.times(self.x, number(base + 2)))
        return self.plus(place, self.times(step, GROUP))

    def segment_of(self, rows: int, step: Any, index: Any, sums: list[Any]) -> list[Any]:
        """Adds the products of one segment."""
        builder, load = self.builder, self.pointers.load
        line = self.times(self.plus(self.segment, index), SEGMENT)
        across, first, count, place, more = (load("segments", self.plus(line, n), I64) for n in (3, 6, 7, 8, 10))
        base = self.where("segments", line, 1, step)
        pixels = [self.plus(base, self.times(across, pixel)) for pixel in range(self.pixels)]

        def group(k: Any, values: list[Any]) -> list[Any]:
            offset = load("offsets", self.plus(first, k), I64)
            here = self.plus(place, self.times(k, 4 * self.lanes * self.parts))
            weights = [load("weights", self.plus(here, 4 * self.lanes * part), self.kind) for part in range(self.parts)]
            bases = [self.plus(pixel, offset) for pixel in pixels]
            added: list[Any] = []
            for row in range(rows):
                for pixel in range(self.pixels):
                    message = splat(builder, load("arena", self.plus(bases[pixel], GROUP * row), I32), self.lanes)
                    for part in range(self.parts):
                        added.append(products(self.tier, builder, values[len(added)], message, weights[part]))
            return added

        left = [load("shifts", self.plus(more, part * self.lanes), self.kind) for part in range(self.parts)]
        return loop(builder, count, self.up(sums, left), group)

    def lane_of(self, rows: int, step: Any, index: Any, totals: list[Any]) -> list[Any]:
        """Adds one lane: the messages of as many neurons, times a scale each."""
        builder, load = self.builder, self.pointers.load
        line = self.times(self.plus(self.lane, index), LANE)
        across, pitch, scale = (load("lanes", self.plus(line, n), I64) for n in (2, 3, 4))
        groups = builder.sdiv(self.channel, self.number(GROUP))
        base = self.plus(self.where("lanes", line, 0, step), self.times(groups, pitch))
        scale = self.plus(scale, self.channel)
        added = list(totals)
        for which, (pixel, part) in enumerate(self.places):
            place = self.plus(base, self.times(across, pixel), self.times(pitch, part * self.lanes // GROUP))
            scales = load("scales", self.plus(scale, part * self.lanes), self.kind)
            for row, message in enumerate(load_messages(self.pointers, place, pitch, rows, self.lanes)):
                number = row * len(self.places) + which
                added[number] = builder.add(added[number], builder.mul(builder.zext(message, self.kind), scales))
        return added
