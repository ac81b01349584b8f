"""Synapses of four bytes: an accumulator and a weight of 8 bits; and fetching those that come next.

A million synapses lie beyond the nearest caches, so that their bytes, and waiting for them, are what a message costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from nmc.ir.connectivity import Array
from nmc.kernels.vectors import I8, I32, Pointers, call, check

PLACE_BITS = 24
"""Bits of the accumulator; the eight above them are the weight."""

AHEAD = 3
"""Messages whose synapses are fetched before it is their turn."""

LINE = 16
"""Synapses of a line of the cache."""

_BYTE = (1 << 7) - 1


def pack(into: NDArray[np.uint32], weight: Array) -> NDArray[np.uint32]:
    """(S,) accumulators and weights in one number each; empty where one does not fit."""
    if into.max(initial=0) >= 1 << PLACE_BITS or np.abs(weight).max(initial=0) > _BYTE:
        return np.zeros(0, dtype=np.uint32)
    packed: NDArray[np.uint32] = into | weight.astype(np.int8).view(np.uint8).astype(np.uint32) << np.uint32(PLACE_BITS)
    return packed


def _fetch(typing, packed, place):
    """Begin to fetch the line of ``packed`` (uint32) at ``place`` (int64); nothing waits for it."""
    check({"packed": packed}, {"packed": types.uint32})
    signature = types.void(packed, types.int64)

    def codegen(context, builder, sig, args):
        address = Pointers(context, builder, sig, args, ("packed",)).at("packed", args[1], I8)
        read, keep, data = (ir.Constant(I32, number) for number in (0, 3, 1))
        call(builder, "llvm.prefetch", ir.VoidType(), address, read, keep, data)
        return context.get_dummy_value()

    return signature, codegen


fetch: Any = intrinsic(_fetch)
