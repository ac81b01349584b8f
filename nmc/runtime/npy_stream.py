"""The beginning of a .npy read from a stream, without trusting what its header claims."""

from __future__ import annotations

import math
from typing import IO

import numpy as np

from nmc.ir.connectivity import Array

BYTES_MAX = 8 << 30
"""Bytes of one array; more would not fit beside its float32 copy on an ordinary machine."""

BLOCK = 1 << 24
"""Bytes read at a time, so that a header cannot make us reserve what the file does not hold."""


def read_npy(stream: IO[bytes], limit: int | None) -> Array:
    """At most ``limit`` rows (None: all) of a .npy of numbers.

    Raises:
        ValueError: not a .npy of numbers, shorter than its header says, or too large.
    """
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"npy version {version[0]}.{version[1]} is not known")
    if dtype.hasobject:
        raise ValueError("it holds Python objects (dtype object), not numbers")
    if dtype.kind not in "iufb":
        raise ValueError(f"it holds {dtype}, not numbers")
    if any(n < 0 for n in shape):
        raise ValueError(f"it claims the shape {shape}")
    if shape and limit is not None and not (fortran and len(shape) > 1):
        shape = (min(limit, shape[0]), *shape[1:])
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > BYTES_MAX:
        raise ValueError(f"{wanted} bytes are more than the limit of {BYTES_MAX}; take the first N with :N")
    blocks, left = [], wanted
    while left:
        block = stream.read(min(left, BLOCK))
        if not block:
            raise ValueError(f"it ends {left} bytes too early")
        blocks.append(block)
        left -= len(block)
    array = np.frombuffer(b"".join(blocks), dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return array[:limit] if shape and limit is not None else array
