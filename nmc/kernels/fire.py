"""Integrate-and-fire in vectors that every processor has: what follows the sums of `nmc.kernels.dot`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nmc.kernels.tiers import GROUP, LANES, ROWS
from nmc.kernels.vectors import I8, I32, I64, Pointers, check, joined, loop, pieces, splat


def _shift(typing, vectors, tables, sums, places):
    """Adds shifted sums to the first rows: ``sums[row] = (fresh ? 0 : sums[row]) + ((part >> right) << left)``.

    ``vectors`` is a tuple of as many ones. ``places``, all int64: where in ``sums`` (int32) the rows of
    ``vectors * LANES`` to be shifted begin, how many there are, where in the ``shifts`` (int32) of
    ``tables`` the right and the left ones are, and whether they are the first.
    """
    check({"tables": tables, "sums": sums}, {"shifts": types.int32, "sums": types.int32})
    count = len(vectors)
    signature = types.void(vectors, tables, sums, types.UniTuple(types.int64, 5))

    def codegen(context, builder, sig, args):
        _emit_shift(count, context, builder, sig, args)
        return context.get_dummy_value()

    return signature, codegen


shift: Any = intrinsic(_shift)


def _emit_shift(vectors: int, context: Any, builder: Any, signature: Any, args: Any) -> None:
    pointers = Pointers(context, builder, signature, args, ("vectors", "tables", "sums"))
    at, rows, right, left, first = cgutils.unpack_tuple(builder, args[3])
    kind = ir.VectorType(I32, LANES)
    fresh = builder.icmp_signed("!=", first, ir.Constant(I64, 0))

    def place(origin: Any, vector: int) -> Any:
        return builder.add(origin, ir.Constant(I64, vector * LANES))

    down = [pointers.load("shifts", place(right, vector), kind) for vector in range(vectors)]
    up = [pointers.load("shifts", place(left, vector), kind) for vector in range(vectors)]
    none = ir.Constant(kind, [0] * LANES)

    def step(index: Any, values: list[Any]) -> list[Any]:
        row = builder.mul(index, ir.Constant(I64, vectors * LANES))
        for vector in range(vectors):
            sums = pointers.load("sums", place(builder.add(at, row), vector), kind)
            total = builder.shl(builder.ashr(sums, down[vector]), up[vector])
            before = builder.select(fresh, none, pointers.load("sums", place(row, vector), kind))
            pointers.store("sums", place(row, vector), builder.add(before, total))
        return values

    loop(builder, rows, [], step)


class Firing:
    """The update of neurons in a vector.

    ``x = clip(v + total + bias);  s = x >= bar;  v = x - step if s``, or 0.

    Args:
        builder: of the code.
        lanes: neurons.
        limit: v stays within +- this.
        keep: -1 where a spike subtracts, 0 where it resets to zero.
    """

    def __init__(self, builder: Any, lanes: int, limit: Any, keep: Any) -> None:
        self.builder = builder
        self.kind = ir.VectorType(I32, lanes)
        self.high = splat(builder, builder.trunc(limit, I32), lanes)
        self.low = splat(builder, builder.trunc(builder.neg(limit), I32), lanes)
        self.mask = splat(builder, builder.trunc(keep, I32), lanes)

    def step(self, state: list[Any], total: Any, own: list[Any]) -> tuple[list[Any], Any]:
        """One step: potential, spikes and changes counted, after it, and who fired.

        Args:
            state: potential, spikes and changes before it.
            total: the sum, in units of v.
            own: of `own_of`.
        """
        builder, (v, count, changed), (_, bias, bar, taken) = self.builder, state, own
        x = builder.add(v, builder.add(total, bias))
        x = builder.select(builder.icmp_signed("<", x, self.low), self.low, x)
        x = builder.select(builder.icmp_signed(">", x, self.high), self.high, x)
        fired = builder.icmp_signed(">=", x, bar)
        moved = builder.or_(builder.icmp_signed("!=", x, v), fired)
        v = builder.select(fired, builder.and_(builder.sub(x, taken), self.mask), x)
        counted = builder.add(count, builder.zext(fired, self.kind))
        return [v, counted, builder.add(changed, builder.zext(moved, self.kind))], fired


def own_of(pointers: Pointers, place: Any, part: int, lanes: int) -> list[Any]:
    """v0, bias, bar and step of one part of a block, from blocks of (4, LANES) int32 at ``place`` on."""
    builder = pointers.builder
    block, inside = divmod(part * lanes, LANES)
    first = builder.add(place, ir.Constant(I64, block * 4 * LANES + inside))
    kind = ir.VectorType(I32, lanes)
    return [pointers.load("own", builder.add(first, ir.Constant(I64, n * LANES)), kind) for n in range(4)]


def tally_up(pointers: Pointers, place: Any, part: int, lanes: int, counts: list[Any]) -> None:
    """Add spikes and changes of one part to blocks of (2, LANES) int32 at ``place`` on."""
    builder = pointers.builder
    block, inside = divmod(part * lanes, LANES)
    for which, value in enumerate(counts):
        at = builder.add(place, ir.Constant(I64, block * 2 * LANES + inside + which * LANES))
        pointers.store("tally", at, builder.add(pointers.load("tally", at, value.type), value))


def store_messages(pointers: Pointers, place: Any, group_pitch: Any, messages: list[Any], lanes: int) -> None:
    """Messages of some steps, one after the other, into maps of groups of four channels.

    Args:
        pointers: of the arguments.
        place: of the first group at the first step.
        group_pitch: from group to group.
        messages: (lanes,) bytes for each step.
        lanes: neurons.
    """
    builder, steps = pointers.builder, len(messages)
    whole = joined(builder, messages)
    order = [
        [step * lanes + GROUP * g + c for step in range(steps) for c in range(GROUP)] for g in range(lanes // GROUP)
    ]
    for g, piece in enumerate(pieces(builder, whole, order)):
        pointers.store("arena", builder.add(place, builder.mul(group_pitch, ir.Constant(I64, g))), piece)


def load_messages(pointers: Pointers, place: Any, group_pitch: Any, steps: int, lanes: int) -> list[Any]:
    """The inverse of `store_messages`: (lanes,) bytes for each step."""
    builder, kind = pointers.builder, ir.VectorType(I8, GROUP * steps)
    found = [
        pointers.load("arena", builder.add(place, builder.mul(group_pitch, ir.Constant(I64, g))), kind)
        for g in range(lanes // GROUP)
    ]
    whole = joined(builder, found)
    order = [
        [g * GROUP * steps + step * GROUP + c for g in range(lanes // GROUP) for c in range(GROUP)]
        for step in range(steps)
    ]
    return pieces(builder, whole, order)


def _fire(typing, vectors, pixels, constant, arena, tables, sums, places):
    """Integrate-and-fire of ``vectors * LANES`` channels of a few pixels over a window, the state in registers.

    ``vectors`` and ``pixels`` are tuples of as many ones; ``constant`` is not empty where every step has the same
    sums. ``places``, all int64, in this order:

    * steps, limit of v, keep mask of the reset.
    * ``sums`` (int32), in units of v: first, from step to step; pixels and vectors follow each other.
    * the ``own`` (int32) of ``tables``, blocks (4, LANES) of v0, bias, bar and step: first, from pixel to pixel.
    * ``arena`` (uint8), the messages: first, from pixel to pixel, from group to group of four channels.
    * the ``tally`` (int32) of ``tables``, blocks (2, LANES) to which spikes and updates that changed v are added:
      first, from pixel to pixel.
    """
    wanted: dict[str, types.Type] = {
        "sums": types.int32,
        "own": types.int32,
        "arena": types.uint8,
        "tally": types.int32,
    }
    check({"arena": arena, "tables": tables, "sums": sums}, wanted)
    counts, same = (len(vectors), len(pixels)), bool(len(constant))
    numbers = types.UniTuple(types.int64, 12)
    signature = types.void(vectors, pixels, constant, arena, tables, sums, numbers)

    def codegen(context, builder, sig, args):
        _emit_fire(counts, same, context, builder, sig, args)
        return context.get_dummy_value()

    return signature, codegen


fire: Any = intrinsic(_fire)


def _emit_fire(counts: tuple[int, int], constant: bool, context: Any, builder: Any, signature: Any, args: Any) -> None:
    vectors, pixels = counts
    names = ("vectors", "pixels", "constant", "arena", "tables", "sums")
    pointers = Pointers(context, builder, signature, args, names)
    steps, limit, keep, at, stride, mine, owned, out, apart, pitch, blocks, next_block = cgutils.unpack_tuple(
        builder, args[6]
    )
    kind, byte = ir.VectorType(I32, LANES), ir.VectorType(I8, LANES)
    parts = [(pixel, vector) for pixel in range(pixels) for vector in range(vectors)]

    def along(start: Any, pitch_of: Any, pixel: int) -> Any:
        return builder.add(start, builder.mul(pitch_of, ir.Constant(I64, pixel)))

    def sums_at(index: Any) -> list[Any]:
        first = builder.add(at, builder.mul(index, stride))
        return [pointers.load("sums", builder.add(first, ir.Constant(I64, n * LANES)), kind) for n in range(len(parts))]

    own = [own_of(pointers, along(mine, owned, pixel), vector, LANES) for pixel, vector in parts]
    firing = Firing(builder, LANES, limit, keep)
    fixed = sums_at(ir.Constant(I64, 0)) if constant else []

    def some(count: int, first: Any, index: Any, values: list[Any]) -> list[Any]:
        begin = builder.add(first, builder.mul(index, ir.Constant(I64, count)))
        after, sent = list(values), [list[Any]() for _ in parts]
        for row in range(count):
            totals = fixed or sums_at(builder.add(begin, ir.Constant(I64, row)))
            for which in range(len(parts)):
                new, fired = firing.step(after[3 * which : 3 * which + 3], totals[which], own[which])
                after[3 * which : 3 * which + 3] = new
                sent[which].append(builder.zext(fired, byte))
        line = builder.add(out, builder.mul(begin, ir.Constant(I64, GROUP)))
        for which, (pixel, vector) in enumerate(parts):
            begins = builder.add(
                along(line, apart, pixel), builder.mul(pitch, ir.Constant(I64, vector * LANES // GROUP))
            )
            store_messages(pointers, begins, pitch, sent[which], LANES)
        return after

    # Messages of so many steps find room in registers.
    together = 2 * ROWS // max(len(parts), 2)
    zero, none = ir.Constant(kind, [0] * LANES), ir.Constant(I64, 0)
    state = [value for found in own for value in (found[0], zero, zero)]
    rounds = builder.sdiv(steps, ir.Constant(I64, together))
    done = builder.mul(rounds, ir.Constant(I64, together))
    state = loop(builder, rounds, state, lambda index, values: some(together, none, index, values))
    last = loop(builder, builder.sub(steps, done), state, lambda index, values: some(1, done, index, values))
    for which, (pixel, vector) in enumerate(parts):
        counted = last[3 * which + 1 : 3 * which + 3]
        tally_up(pointers, along(blocks, next_block, pixel), vector, LANES, counted)
