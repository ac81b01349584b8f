"""Dot products of messages and weights in vectors, in one form per tier of the processor.

Unsigned bytes (messages) times signed bytes (weights) into 32-bit sums: exact, because what
is added wraps and never saturates, and the sums are proved to fit.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nmc.kernels.tiers import (
    LANES,
    NARROW,
    ROWS,
    Bytes256,
    Bytes512,
    PortableWords,
    Vnni256,
    Vnni512,
    Words256,
    Words512,
)
from nmc.kernels.vectors import I8, I16, I32, I64, Pointers, call, check, loop, splat


def products(tier: type, builder: Any, total: Any, message: Any, weight: Any) -> Any:
    """``total`` (n x i32) plus four products per lane of ``message`` and ``weight`` (n x i32, four bytes each)."""
    lanes = total.type.count
    bits = 32 * lanes
    if tier in (Vnni512, Vnni256):
        return call(builder, f"llvm.x86.avx512.vpdpbusd.{bits}", total.type, total, message, weight)
    if tier in (Bytes512, Bytes256):
        byte, half = ir.VectorType(I8, 4 * lanes), ir.VectorType(I16, 2 * lanes)
        narrow, wide = ("pmaddubs.w.512", "pmaddw.d.512") if bits == 512 else ("pmadd.ub.sw", "pmadd.wd")
        family = "avx512" if bits == 512 else "avx2"
        pairs = call(
            builder, f"llvm.x86.{family}.{narrow}", half, builder.bitcast(message, byte), builder.bitcast(weight, byte)
        )
        ones = ir.Constant(half, [1] * (2 * lanes))
        return builder.add(total, call(builder, f"llvm.x86.{family}.{wide}", total.type, pairs, ones))
    if tier in (Words512, Words256):
        half = ir.VectorType(I16, 2 * lanes)
        name = "avx512.pmaddw.d.512" if bits == 512 else "avx2.pmadd.wd"
        pair = (builder.bitcast(operand, half) for operand in (message, weight))
        return builder.add(total, call(builder, f"llvm.x86.{name}", total.type, *pair))
    if tier is PortableWords:
        up = ir.Constant(total.type, [16] * lanes)
        for left in (up, ir.Constant(total.type, [0] * lanes)):
            m, w = (builder.ashr(builder.shl(operand, left), up) for operand in (message, weight))
            total = builder.add(total, builder.mul(m, w))
        return total
    # Bytes of a lane one after the other, in 32 bits.
    for place in range(4):
        shift = ir.Constant(total.type, [8 * place] * lanes)
        m = builder.and_(builder.lshr(message, shift), ir.Constant(total.type, [255] * lanes))
        up = ir.Constant(total.type, [24 - 8 * place] * lanes)
        w = builder.ashr(builder.shl(weight, up), ir.Constant(total.type, [24] * lanes))
        total = builder.add(total, builder.mul(m, w))
    return total


ARRAYS: dict[str, types.Type] = {
    "arena": types.uint8,
    "offsets": types.int64,
    "weights": types.int8,
    "sums": types.int32,
}


def _dot(typing, tier, vectors, arena, tables, sums, places):
    """``ROWS`` rows of ``vectors * LANES`` sums: adds the products of some groups of four channels.

    ``tier`` is a `Tier`, ``vectors`` a tuple of as many ones. Row m of group k reads the 4 bytes of
    ``arena`` (uint8) at ``base + offsets[first + k] + m * stride``; the ``weights`` (int8) of ``tables``
    hold (count, vectors * LANES, 4) from ``weight``. Rows start from ``sums`` (int32) at ``start``, ``pace``
    apart, and go to ``sums`` at ``at``, one behind the other. ``places``, all int64: base, stride, first, count,
    weight, start, pace, at.
    """
    check({"arena": arena, "tables": tables, "sums": sums}, ARRAYS)
    chosen, n_vectors = tier.instance_class, len(vectors)
    signature = types.void(tier, vectors, arena, tables, sums, types.UniTuple(types.int64, 8))

    def codegen(context, builder, sig, args):
        _emit_dot(chosen, n_vectors, context, builder, sig, args)
        return context.get_dummy_value()

    return signature, codegen


dot: Any = intrinsic(_dot)


def _emit_dot(tier: type, vectors: int, context: Any, builder: Any, signature: Any, args: Any) -> None:
    pointers = Pointers(context, builder, signature, args, ("tier", "vectors", "arena", "tables", "sums"))
    base, stride, first, count, weight, begin, pace, at = cgutils.unpack_tuple(builder, args[5])
    lanes = LANES // 2 if tier in NARROW else LANES
    parts = vectors * LANES // lanes
    kind = ir.VectorType(I32, lanes)
    rows = [builder.mul(stride, ir.Constant(I64, row)) for row in range(ROWS)]
    where = [(row, part) for row in range(ROWS) for part in range(parts)]

    def spot(origin: Any, apart: Any, row: int, part: int) -> Any:
        line = builder.add(origin, builder.mul(apart, ir.Constant(I64, row)))
        return builder.add(line, ir.Constant(I64, part * lanes))

    def step(index: Any, totals: list[Any]) -> list[Any]:
        start = builder.add(base, pointers.load("offsets", builder.add(first, index), I64))
        here = builder.add(weight, builder.mul(index, ir.Constant(I64, 4 * lanes * parts)))
        weights = [
            pointers.load("weights", builder.add(here, ir.Constant(I64, 4 * lanes * part)), kind)
            for part in range(parts)
        ]
        added = []
        for row in range(ROWS):
            message = splat(builder, pointers.load("arena", builder.add(start, rows[row]), I32), lanes)
            for part in range(parts):
                added.append(products(tier, builder, totals[row * parts + part], message, weights[part]))
        return added

    totals = loop(builder, count, [pointers.load("sums", spot(begin, pace, *which), kind) for which in where], step)
    pitch = ir.Constant(I64, vectors * LANES)
    for total, which in zip(totals, where, strict=True):
        pointers.store("sums", spot(at, pitch, *which), total)
