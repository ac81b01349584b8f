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
from nmc.kernels.fire import load_messages, own_of, send, tally_up
from nmc.kernels.fire_rules import SHARED, Firing
from nmc.kernels.fused_tables import SEGMENT
from nmc.kernels.tiers import GROUP, LANES, NARROW, ROWS, Bytes512, Vnni512
from nmc.kernels.vectors import I32, I64, Pointers, align_stack, check, loop, splat

LANE = 5
"""Numbers of a row of lanes."""

_CHAIN = types.UniTuple(types.int64, 12)


def _dot_fire(typing, tier, vectors, pixels, arena, tables, shared, chain, at):
    """Messages of ``vectors * LANES`` channels of a few pixels in a row, and their tally.

    ``total = (sum << left) + sum of scale * message``, then a neuron that fires once a step. The sum starts
    from ``first``; each segment shifts it to the left and adds its products.

    ``tier`` is a `Tier`, ``shared`` the numbers of `Firing`; ``vectors`` and ``pixels`` are tuples of as many ones.
    ``arena`` (uint8) holds the messages; ``tables`` are `nmc.kernels.fused_tables.LayerTables`, no segment being
    constant. ``chain``, all int64, in this order: steps, rows of the map, row, column, first and last segment, first
    and last lane, channel; where ``first`` and ``shifts`` begin, channels of a row of ``shifts``. ``at``: where
    ``own``, the same for all these pixels, begins; first byte sent, from pixel to pixel, from group to group; where
    ``tally`` begins and from pixel to pixel. Several pixels are `at_once`, and the steps then a multiple of four.
    """
    check({"arena": arena, "tables": tables}, _ARRAYS)
    chosen, counts = tier.instance_class, (len(vectors), len(pixels))
    signature = types.void(tier, vectors, pixels, arena, tables, SHARED, _CHAIN, types.UniTuple(types.int64, 6))

    def codegen(context, builder, sig, args):
        pointers = Pointers(context, builder, sig, args, ("tier", "vectors", "pixels", "arena", "tables"))
        _fire_chain(_Chain(chosen, *counts, pointers, args[6]), args[5], args[7])
        return context.get_dummy_value()

    return signature, codegen


dot_fire: Any = intrinsic(_dot_fire)


def _at_once(typing, tier, vectors):
    """Pixels whose sums of four steps have room in the registers; their neurons then wait for each other less."""
    wide = tier.instance_class in (Vnni512, Bytes512)

    def codegen(context, builder, sig, args):
        return ir.Constant(I64, 4 // len(vectors) if wide else 1)

    return types.int64(tier, vectors), codegen


at_once: Any = intrinsic(_at_once)


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
_INT64 = ("segments", "runs", "edges", "lanes")
_ARRAYS: dict[str, types.Type] = {"arena": types.uint8, "weights": types.int8}
_ARRAYS |= dict.fromkeys(_INT32, types.int32) | dict.fromkeys(_INT64, types.int64)


class _Chain:
    """The generator of the totals of a few neurons."""

    def __init__(self, tier: type, vectors: int, pixels: int, pointers: Pointers, numbers: Any) -> None:
        self.tier, self.pixels, self.pointers, self.builder = tier, pixels, pointers, pointers.builder
        align_stack(self.builder)
        narrow = tier in NARROW
        self.lanes = LANES // 2 if narrow else LANES
        self.parts = vectors * LANES // self.lanes
        # Sums of as many steps at once as registers hold beside what else is in use.
        self.rows = min(ROWS, (8 if narrow else 16) // (self.parts * pixels))
        # Bytes of the weights of a group of channels.
        self.group = 4 * self.lanes * self.parts
        self.kind = ir.VectorType(I32, self.lanes)
        (
            self.steps,
            self.height,
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
        if self.pixels > 1:
            return state
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
        across, fresh, more, run, edges, pitch = (
            load("segments", self.plus(line, n), I64) for n in (3, 9, 10, 11, 12, 13)
        )
        base = self.where("segments", line, 1, step)
        pixels = [self.plus(base, self.times(across, pixel)) for pixel in range(self.pixels)]

        def shifted(_: Any, values: list[Any]) -> list[Any]:
            left = [load("shifts", self.plus(more, part * self.lanes), self.kind) for part in range(self.parts)]
            return self.up(values, left)

        # What a block's first segment starts from is in its unit.
        sums = loop(builder, builder.sub(self.number(1), fresh), sums, shifted)
        here = self.plus(edges, self.times(self.y, 2))
        first, last = (load("edges", self.plus(here, n), I64) for n in range(2))
        # Pixels side by side that have different edges take the groups of both.
        skip = drop = self.number(0)
        if self.pixels == 1:
            here = self.plus(edges, self.times(self.plus(self.height, self.x), 2))
            skip, drop = (load("edges", self.plus(here, n), I64) for n in range(2))

        def some(number: Any, values: list[Any]) -> list[Any]:
            place = self.times(self.plus(run, first, number), 3)
            offset, count, weight = (load("runs", self.plus(place, n), I64) for n in range(3))
            offset = self.plus(offset, self.times(skip, pitch))
            weight = self.plus(weight, self.times(skip, self.group))
            count = builder.sub(count, self.plus(skip, drop))
            return self.run_of(rows, [self.plus(pixel, offset) for pixel in pixels], pitch, weight, count, values)

        return loop(builder, builder.sub(last, first), sums, some)

    def run_of(self, rows: int, pixels: list[Any], pitch: Any, weight: Any, count: Any, sums: list[Any]) -> list[Any]:
        """Adds the products of groups that lie one behind the other."""
        builder, load = self.builder, self.pointers.load

        def group(k: Any, values: list[Any]) -> list[Any]:
            here, away = self.plus(weight, self.times(k, self.group)), self.times(k, pitch)
            weights = [load("weights", self.plus(here, 4 * self.lanes * part), self.kind) for part in range(self.parts)]
            bases = [self.plus(pixel, away) for pixel in pixels]
            added: list[Any] = []
            for row in range(rows):
                for pixel in range(self.pixels):
                    message = splat(builder, load("arena", self.plus(bases[pixel], GROUP * row), I32), self.lanes)
                    for part in range(self.parts):
                        added.append(products(self.tier, builder, values[len(added)], message, weights[part]))
            return added

        return loop(builder, count, sums, group)

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
                added[number] = builder.add(added[number], builder.mul(message, scales))
        return added


def _fire_chain(chain: _Chain, shared: Any, at: Any) -> None:
    """The neurons of a chain, and their messages."""
    builder, pointers, lanes = chain.builder, chain.pointers, chain.lanes
    firing = Firing(builder, lanes, None, shared)
    own_at, out, apart, pitch, tally_at, tally_pitch = cgutils.unpack_tuple(builder, at)
    parts = [firing.prepared(own_of(pointers, own_at, part, lanes)) for part in range(chain.parts)]
    own = [parts[part] for _, part in chain.places]

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
            send(pointers, firing, place, pitch, sent[which])
        return after

    state = chain.window([value for values in own for value in firing.start(values)], some)
    for which, (pixel, part) in enumerate(chain.places):
        own_state = state[firing.width * which : firing.width * (which + 1)]
        place = chain.plus(tally_at, chain.times(tally_pitch, pixel))
        tally_up(pointers, place, part, lanes, firing.tally(own_state, chain.steps))


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
