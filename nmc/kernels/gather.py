"""Sums of the weights of those sources that spiked: lists of channels, and rows of bytes added up in registers.

The other way to compute what `nmc.kernels.dot_fire` does: its cost follows the spikes, not the weights. Vectors that
every processor has, and no branch but the end of a list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from nmc.kernels.tiers import GROUP, LANES
from nmc.kernels.vectors import I8, I16, I32, I64, Pointers, call, check, loop, splat

ENTRIES = 32
"""Channels of a list that are copied at once; lists have room for whole multiples of it."""

SPOT = 3
"""Numbers of a place of the kernel."""

UNROLLED = 4
"""Rows that are added in one round: lists end with as many rows of zeros."""

_NIBBLE = 0x01020408
"""Times four bytes of 0 and 1, gives them as bits from bit 24 on."""


def bit_lists() -> NDArray[np.uint8]:
    """(256 * 8,) for each byte the places of its bits, one behind the other."""
    found = np.zeros((256, 8), dtype=np.uint8)
    for value in range(256):
        places = [bit for bit in range(8) if value >> bit & 1]
        found[value, : len(places)] = places
    return found.reshape(-1)


def _list_spikes(typing, arena, state, places):
    """Lists the channels of a pixel that spiked in a step; how many there are.

    ``arena`` (uint8) holds messages of 0 and 1, ``state`` a `nmc.kernels.fused_gather.Lists`. ``places``, all int64:
    the first group's byte, from group to group, pairs of groups, where in the ``lists`` (uint8) of ``state`` the list
    begins. Behind a list up to eight bytes are written.
    """
    check({"arena": arena, "state": state}, {"arena": types.uint8, "lists": types.uint8, "bits": types.uint8})
    signature = types.int64(arena, state, types.UniTuple(types.int64, 4))

    def codegen(context, builder, sig, args):
        pointers = Pointers(context, builder, sig, args, ("arena", "state"))
        first, pitch, pairs, into = cgutils.unpack_tuple(builder, args[2])
        kind = ir.VectorType(I8, 8)

        def some(index: Any, values: list[Any]) -> list[Any]:
            at, length, base = values
            second = builder.add(at, pitch)
            halves = [
                builder.lshr(builder.mul(pointers.load("arena", place, I32), ir.Constant(I32, _NIBBLE)), shift)
                for place, shift in ((at, ir.Constant(I32, 24)), (second, ir.Constant(I32, 20)))
            ]
            low = builder.and_(halves[0], ir.Constant(I32, 15))
            byte = builder.or_(low, builder.and_(halves[1], ir.Constant(I32, 240)))
            where = builder.shl(builder.zext(byte, I64), ir.Constant(I64, 3))
            channels = builder.add(pointers.load("bits", where, kind), splat(builder, base, 8))
            pointers.store("lists", builder.add(into, length), channels)
            many = builder.zext(call(builder, "llvm.ctpop.i32", I32, byte), I64)
            return [
                builder.add(second, pitch),
                builder.add(length, many),
                builder.add(base, ir.Constant(I8, 2 * GROUP)),
            ]

        start = [first, ir.Constant(I64, 0), ir.Constant(I8, 0)]
        return loop(builder, pairs, start, some)[1]

    return signature, codegen


list_spikes: Any = intrinsic(_list_spikes)


def _rows_of(typing, copies, state, places):
    """Lists the rows that the channels under a kernel stand for in a step, one list of channels behind the other.

    ``copies`` is a tuple of as many ones as lists of channels have room for `ENTRIES`; ``places``, all int64: how many
    ``spots`` (int64) of ``state`` there are, the step, where in ``rows`` (uint16) to write, from channel to channel.
    A spot is the list of the first step in ``lists`` (uint8), its number in ``lengths`` (uint16), and the row of
    channel 0. Behind the rows others are written, for which there has to be room. Returns where the rows end.
    """
    kinds: dict[str, types.Type] = {"lists": types.uint8, "lengths": types.uint16}
    check({"state": state}, kinds | {"rows": types.uint16, "spots": types.int64})
    count = len(copies)
    signature = types.int64(copies, state, types.UniTuple(types.int64, 4))

    def codegen(context, builder, sig, args):
        pointers = Pointers(context, builder, sig, args, ("copies", "state"))
        spots, step, into, scale = cgutils.unpack_tuple(builder, args[2])
        kind = ir.VectorType(I16, ENTRIES)
        scales = splat(builder, builder.trunc(scale, I16), ENTRIES)
        aside = builder.mul(step, ir.Constant(I64, count * ENTRIES))

        def some(index: Any, values: list[Any]) -> list[Any]:
            line = builder.mul(index, ir.Constant(I64, SPOT))
            listed, number, base = (
                pointers.load("spots", builder.add(line, ir.Constant(I64, n)), I64) for n in range(SPOT)
            )
            bases = splat(builder, builder.trunc(base, I16), ENTRIES)
            for copy in range(count):
                here = builder.add(builder.add(listed, aside), ir.Constant(I64, copy * ENTRIES))
                channels = pointers.load("lists", here, ir.VectorType(I8, ENTRIES))
                rows = builder.add(builder.mul(builder.zext(channels, kind), scales), bases)
                pointers.store("rows", builder.add(values[0], ir.Constant(I64, copy * ENTRIES)), rows)
            length = pointers.load("lengths", builder.add(number, step), I16)
            return [builder.add(values[0], builder.zext(length, I64))]

        return loop(builder, spots, [into], some)[0]

    return signature, codegen


rows_of: Any = intrinsic(_rows_of)


def _gather(typing, vectors, narrow, state, tables, sums, places):
    """Sums of rows of weights, shifted to the left, and of what was there before.

    ``vectors`` is a tuple of as many ones as there are vectors of `LANES` channels; ``narrow`` is not empty where 16
    bits hold every sum of some of the rows. ``places``, all int64: the first of the ``rows`` (uint16) of ``state``,
    rounds of `UNROLLED`, where in the ``synapses`` (int8) of ``state`` the block begins, the left shifts in the
    ``shifts`` (int32) of ``tables``, where in ``sums`` (int32) what was there begins, and the sums. A row counts in
    units of 16 bytes.
    """
    wanted: dict[str, types.Type] = {"rows": types.uint16, "synapses": types.int8}
    check({"state": state, "tables": tables, "sums": sums}, wanted | {"shifts": types.int32, "sums": types.int32})
    parts, inner = len(vectors), I16 if len(narrow) else I32
    signature = types.void(vectors, narrow, state, tables, sums, types.UniTuple(types.int64, 6))

    def codegen(context, builder, sig, args):
        pointers = Pointers(context, builder, sig, args, ("vectors", "narrow", "state", "tables", "sums"))
        first, rounds, block, left, before, into = cgutils.unpack_tuple(builder, args[5])
        kind = ir.VectorType(inner, LANES * min(parts, 2))
        halves = max(parts // 2, 1)

        def some(index: Any, totals: list[Any]) -> list[Any]:
            place = builder.add(first, builder.mul(index, ir.Constant(I64, UNROLLED)))
            after = list(totals)
            for number in range(UNROLLED):
                row = builder.zext(pointers.load("rows", builder.add(place, ir.Constant(I64, number)), I16), I64)
                start = builder.add(block, builder.shl(row, ir.Constant(I64, 4)))
                for half in range(halves):
                    here = builder.add(start, ir.Constant(I64, half * kind.count))
                    weights = pointers.load("synapses", here, ir.VectorType(I8, kind.count))
                    after[half] = builder.add(after[half], builder.sext(weights, kind))
            return after

        totals = loop(builder, rounds, [ir.Constant(kind, [0] * kind.count)] * halves, some)
        for half, total in enumerate(totals):
            wide = ir.VectorType(I32, kind.count)
            total = total if inner is I32 else builder.sext(total, wide)
            shift = pointers.load("shifts", builder.add(left, ir.Constant(I64, half * kind.count)), wide)
            here = ir.Constant(I64, half * kind.count)
            start = pointers.load("sums", builder.add(before, here), wide)
            pointers.store("sums", builder.add(into, here), builder.add(start, builder.shl(total, shift)))
        return context.get_dummy_value()

    return signature, codegen


gather: Any = intrinsic(_gather)
