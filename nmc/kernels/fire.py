"""Integrate-and-fire in vectors that every processor has: what follows the sums of `nmc.kernels.dot`."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nmc.kernels.tiers import LANES
from nmc.kernels.vectors import I8, I32, I64, Pointers, contiguous, length, loop, splat


def _shift(typing, vectors, sums, at, rows, shifts, right, left, into, fresh):
    """Adds shifted sums to the first rows: ``into[row] = (fresh ? 0 : into[row]) + ((sum >> right) << left)``.

    ``vectors`` is a tuple of as many ones. ``sums`` (int32) hold ``rows`` rows of ``vectors * LANES``
    from ``at``, ``into`` as many from its start; ``right`` and ``left`` are places in ``shifts`` (int32).
    """
    if not all(contiguous(kind, types.int32) for kind in (sums, shifts, into)):
        raise numba.errors.TypingError("shift takes C-contiguous arrays of int32")
    count, whole = len(vectors), types.int64
    signature = types.void(vectors, sums, whole, whole, shifts, whole, whole, into, types.boolean)

    def codegen(context, builder, sig, args):
        _emit_shift(count, context, builder, sig, args)
        return context.get_dummy_value()

    return signature, codegen


shift: Any = intrinsic(_shift)


def _emit_shift(vectors: int, context: Any, builder: Any, signature: Any, args: Any) -> None:
    pointers = Pointers(context, builder, signature, args)
    _, _, at, rows, _, right, left, _, fresh = args
    kind = ir.VectorType(I32, LANES)

    def place(origin: Any, vector: int) -> Any:
        return builder.add(origin, ir.Constant(I64, vector * LANES))

    down = [pointers.load(4, place(right, vector), kind) for vector in range(vectors)]
    up = [pointers.load(4, place(left, vector), kind) for vector in range(vectors)]
    none = ir.Constant(kind, [0] * LANES)

    def step(index: Any, values: list[Any]) -> list[Any]:
        row = builder.mul(index, ir.Constant(I64, vectors * LANES))
        for vector in range(vectors):
            sums = pointers.load(1, place(builder.add(at, row), vector), kind)
            total = builder.shl(builder.ashr(sums, down[vector]), up[vector])
            before = builder.select(fresh, none, pointers.load(7, place(row, vector), kind))
            pointers.store(7, place(row, vector), builder.add(before, total))
        return values

    loop(builder, rows, [], step)


def _fire(typing, vectors, pixels, steps, limit, keep, sums, shifts, own, sent, tally, places):
    """Integrate-and-fire of ``vectors * LANES`` channels of a few pixels over a window, the state in registers.

    ``v = clip(v + ((sum >> right) << left) + bias);  s = v >= bar;  v = v - step if s``, or 0.

    ``vectors`` and ``pixels`` are tuples of as many ones. v stays within +- ``limit``; ``keep`` is -1
    where a spike subtracts, 0 where it resets to zero. ``places`` are where the arrays begin and how
    they go on, all int64, in this order:

    * ``sums`` (int32): first, from step to step; pixels and vectors follow each other.
    * ``shifts`` (int32), all right ones, then all left ones: first channel.
    * ``own`` (int32), blocks (4, LANES) of v0, bias, bar and step: first block, from pixel to pixel.
    * ``sent`` (uint8), the messages: first, from pixel to pixel, from step to step.
    * ``tally`` (int32), blocks (2, LANES) to which spikes and updates that changed v are added:
      first block, from pixel to pixel.
    """
    wanted = ((sums, types.int32), (shifts, types.int32), (own, types.int32), (sent, types.uint8), (tally, types.int32))
    if not all(contiguous(kind, dtype) for kind, dtype in wanted):
        raise numba.errors.TypingError("fire takes C-contiguous arrays of int32 and uint8")
    n_vectors, n_pixels, whole = len(vectors), len(pixels), types.int64
    numbers = types.UniTuple(whole, 10)
    signature = types.void(vectors, pixels, whole, whole, whole, sums, shifts, own, sent, tally, numbers)

    def codegen(context, builder, sig, args):
        _emit_fire(n_vectors, n_pixels, context, builder, sig, args)
        return context.get_dummy_value()

    return signature, codegen


fire: Any = intrinsic(_fire)


def _emit_fire(vectors: int, pixels: int, context: Any, builder: Any, signature: Any, args: Any) -> None:
    pointers = Pointers(context, builder, signature, args)
    _, _, steps, limit, keep = args[:5]
    at, stride, channel, mine, owned, out, apart, pitch, neuron, blocks = cgutils.unpack_tuple(builder, args[10])
    kind, byte = ir.VectorType(I32, LANES), ir.VectorType(I8, LANES)
    parts = [(pixel, vector) for pixel in range(pixels) for vector in range(vectors)]

    def number(value: int) -> Any:
        return ir.Constant(I64, value)

    def block(start: Any, next_pixel: Any, pixel: int, vector: int) -> Any:
        first = builder.add(start, builder.mul(next_pixel, number(pixel)))
        return builder.add(first, number(vector))

    def own(which: int, *part: int) -> Any:
        place = builder.add(builder.mul(block(mine, owned, *part), number(4 * LANES)), number(which * LANES))
        return pointers.load(7, place, kind)

    channels = builder.sdiv(length(context, builder, signature, args, 6), number(2))
    shifts = [
        [
            pointers.load(6, builder.add(row, builder.add(channel, number(vector * LANES))), kind)
            for row in (number(0), channels)
        ]
        for vector in range(vectors)
    ]
    fixed = [[own(which, *part) for which in range(4)] for part in parts]
    high = splat(builder, builder.trunc(limit, I32), LANES)
    low = splat(builder, builder.trunc(builder.neg(limit), I32), LANES)
    mask = splat(builder, builder.trunc(keep, I32), LANES)

    def step(index: Any, values: list[Any]) -> list[Any]:
        after = []
        for which, (pixel, vector) in enumerate(parts):
            v, count, changed = values[3 * which : 3 * which + 3]
            _, bias, bar, taken = fixed[which]
            place = builder.add(builder.add(at, builder.mul(index, stride)), number(which * LANES))
            right, left = shifts[vector]
            total = builder.shl(builder.ashr(pointers.load(5, place, kind), right), left)
            x = builder.add(v, builder.add(total, bias))
            x = builder.select(builder.icmp_signed("<", x, low), low, x)
            x = builder.select(builder.icmp_signed(">", x, high), high, x)
            fired = builder.icmp_signed(">=", x, bar)
            moved = builder.or_(builder.icmp_signed("!=", x, v), fired)
            v = builder.select(fired, builder.and_(builder.sub(x, taken), mask), x)
            line = builder.add(out, builder.add(builder.mul(index, pitch), builder.mul(apart, number(pixel))))
            pointers.store(8, builder.add(line, number(vector * LANES)), builder.zext(fired, byte))
            after += [v, builder.add(count, builder.zext(fired, kind)), builder.add(changed, builder.zext(moved, kind))]
        return after

    zero = ir.Constant(kind, [0] * LANES)
    start = [value for found in fixed for value in (found[0], zero, zero)]
    last = loop(builder, steps, start, step)
    for number_of, part in enumerate(parts):
        for which in range(2):
            place = builder.add(builder.mul(block(neuron, blocks, *part), number(2 * LANES)), number(which * LANES))
            before = pointers.load(9, place, kind)
            pointers.store(9, place, builder.add(before, last[3 * number_of + 1 + which]))
