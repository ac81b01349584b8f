"""Dot products of whole windows in registers, pixel by pixel; with integrate-and-fire the sums never go to memory.

What `nmc.kernels.dot` and `nmc.kernels.fire` do one after the other, for layers whose sums share one shift.
Sources that reach one neuron each, a skip or a pooled map, are multiplied lane by lane after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nmc.kernels.dot import products
from nmc.kernels.fire import load_messages, own_of, store_messages, tally_up
from nmc.kernels.fire_rules import SHARED, Firing
from nmc.kernels.tiers import GROUP, LANES, NARROW
from nmc.kernels.vectors import I32, I64, Pointers, check, loop, splat

SEGMENT = 11
"""Numbers of a row of segments."""

LANE = 5
"""Numbers of a row of lanes."""

_CHAIN = types.UniTuple(types.int64, 11)


def _dot_fire(typing, tier, vectors, pixels, arena, tables, shared, chain, at):
    """Messages of ``vectors * LANES`` channels of a few pixels in a row, and their tally.

    ``total = (sum << left) + sum of scale * message``, then a neuron that fires once a step. The sum starts
    from ``first``; each segment shifts it to the left and adds its products.

    ``tier`` is a `Tier`, ``shared`` the numbers of `Firing`; ``vectors`` and ``pixels`` are tuples of as many ones.
    ``arena`` (uint8) holds the messages; ``tables`` are `nmc.kernels.fused_tables.LayerTables`, no segment being
    constant. ``chain``, all int64, in this order: steps, row, column, first and last segment, first and last lane,
    channel; where ``first`` and ``shifts`` begin, channels of a row of ``shifts``. ``at``: where ``own`` begins and
    from pixel to pixel; first byte sent, from pixel to pixel, from group to group; where ``tally`` begins and from
    pixel to pixel.
    """
    check({"arena": arena, "tables": tables}, _ARRAYS)
    chosen, counts = tier.instance_class, (len(vectors), len(pixels))
    signature = types.void(tier, vectors, pixels, arena, tables, SHARED, _CHAIN, types.UniTuple(types.int64, 7))

    def codegen(context, builder, sig, args):
        pointers = Pointers(context, builder, sig, args, ("tier", "vectors", "pixels", "arena", "tables"))
        _fire_chain(_Chain(chosen, *counts, pointers, args[6]), args[5], args[7])
        return context.get_dummy_value()

    return signature, codegen


dot_fire: Any = intrinsic(_dot_fire)


def _dot_sum(typing, tier, vectors, arena, tables, sums, at, chain):
    """The totals of ``vectors * LANES`` channels of a pixel, (steps, channels), to ``sums`` (int32) at ``at``.

    The other arguments are those of `dot_fire`.
    """
    check({"arena": arena, "tables": tables, "sums": sums}, _ARRAYS | {"sums": types.int32})
    chosen, count = tier.instance_class, len(vectors)
    signature = types.void(tier, vectors, arena, tables, sums, types.int64, _CHAIN)

    def codegen(context, builder, sig, args):
        pointers = Pointers(context, builder, sig, args, ("tier", "vectors", "arena", "tables", "sums"))
        _store_chain(_Chain(chosen, count, 1, pointers, args[6]), args[5])
        return context.get_dummy_value()

    return signature, codegen


dot_sum: Any = intrinsic(_dot_sum)

_INT32 = ("first", "shifts", "own", "scales", "tally")
_INT64 = ("segments", "offsets", "lanes")
_ARRAYS: dict[str, types.Type] = {"arena": types.uint8, "weights": types.int8}
_ARRAYS |= dict.fromkeys(_INT32, types.int32) | dict.fromkeys(_INT64, types.int64)


class _Chain:
    """The generator of the totals of a few neurons."""

    def __init__(self, tier: type, vectors: int, pixels: int, pointers: Pointers, numbers: Any) -> None:
        self.tier, self.pixels, self.pointers, self.builder = tier, pixels, pointers, pointers.builder
        narrow = tier in NARROW
        self.lanes = LANES // 2 if narrow else LANES
        self.parts = vectors * LANES // self.lanes
        # Sums of as many steps at once as registers hold beside what else is in use.
        self.rows = (8 if narrow else 16) // (self.parts * pixels)
        self.kind = ir.VectorType(I32, self.lanes)
        (
            self.steps,
            self.y,
            self.x,
            self.segment,
            self.segment_end,
            self.lane,
            self.lane_end,
            self.channel,
            first_at,
            into_at,
            into_pitch,
        ) = cgutils.unpack_tuple(self.builder, numbers)
        self.places = [(pixel, part) for pixel in range(pixels) for part in range(self.parts)]
        places = [part * self.lanes for part in range(self.parts)]
        self.start = [pointers.load("first", self.plus(first_at, place), self.kind) for place in places]
        self.left = [pointers.load("shifts", self.plus(into_at, into_pitch, place), self.kind) for place in places]

    def number(self, value: int) -> Any:
        return ir.Constant(I64, value)

    def plus(self, *values: Any) -> Any:
        total = values[0]
        for value in values[1:]:
            total = self.builder.add(total, self.number(value) if isinstance(value, int) else value)
        return total

    def times(self, value: Any, factor: Any) -> Any:
        return self.builder.mul(value, self.number(factor) if isinstance(factor, int) else factor)

    def window(self, state: list[Any], some: Callable[[int, Any, list[Any]], list[Any]]) -> list[Any]:
        """All steps: ``some(rows, first step, state)`` is the state after a few of them."""
        builder = self.builder
        whole = builder.sdiv(self.steps, self.number(self.rows))
        done = self.times(whole, self.rows)
        state = loop(builder, whole, state, lambda i, values: some(self.rows, self.times(i, self.rows), values))
        rest = builder.sub(self.steps, done)
        return loop(builder, rest, state, lambda i, values: some(1, builder.add(done, i), values))

    def totals(self, rows: int, step: Any) -> list[Any]:
        """The totals of all neurons in some steps: those of a step one after the other."""
        sums = [self.start[part] for _ in range(rows) for _, part in self.places]
        count = self.builder.sub(self.segment_end, self.segment)
        sums = loop(self.builder, count, sums, lambda s, values: self.segment_of(rows, step, s, values))
        shifted = self.up(sums, self.left)
        count = self.builder.sub(self.lane_end, self.lane)
        return loop(self.builder, count, shifted, lambda k, values: self.lane_of(rows, step, k, values))

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


def _fire_chain(chain: _Chain, shared: Any, at: Any) -> None:
    """The neurons of a chain, and their messages."""
    builder, pointers, lanes = chain.builder, chain.pointers, chain.lanes
    firing = Firing(builder, lanes, None, shared)
    own_at, own_pitch, out, apart, pitch, tally_at, tally_pitch = cgutils.unpack_tuple(builder, at)
    owned = [(chain.plus(own_at, chain.times(own_pitch, pixel)), part) for pixel, part in chain.places]
    own = [own_of(pointers, place, part, lanes) for place, part in owned]

    def some(rows: int, step: Any, state: list[Any]) -> list[Any]:
        totals, after = chain.totals(rows, step), list(state)
        sent = [list[Any]() for _ in chain.places]
        for row in range(rows):
            for which in range(len(own)):
                place = slice(firing.width * which, firing.width * (which + 1))
                after[place], message = firing.step(after[place], totals[row * len(own) + which], own[which])
                sent[which].append(message)
        line = chain.plus(out, chain.times(step, GROUP))
        for which, (pixel, part) in enumerate(chain.places):
            groups = chain.times(pitch, part * lanes // GROUP)
            place = chain.plus(line, chain.times(apart, pixel), groups)
            store_messages(pointers, place, pitch, sent[which], lanes)
        return after

    state = chain.window([value for values in own for value in firing.start(values)], some)
    for which, (pixel, part) in enumerate(chain.places):
        place, first = chain.plus(tally_at, chain.times(tally_pitch, pixel)), firing.width * which + 1
        tally_up(pointers, place, part, lanes, state[first : first + 2])


def _store_chain(chain: _Chain, at: Any) -> None:
    """The totals of a chain, to memory."""
    whole = chain.parts * chain.lanes

    def some(rows: int, step: Any, state: list[Any]) -> list[Any]:
        totals, line = chain.totals(rows, step), chain.plus(at, chain.times(step, whole))
        for n, total in enumerate(totals):
            # Those of a step are as many as there are parts.
            chain.pointers.store("sums", chain.plus(line, n * chain.lanes), total)
        return state

    chain.window([], some)
