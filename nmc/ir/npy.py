"""Arrays as the bytes of .npy files: deterministic to write, safe to read."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import numpy as np

from nmc.ir.connectivity import Array

BLOCK = 1 << 20
"""Elements that are written at once."""

COPIED = 1 << 24
"""Bytes up to which an array that was read is a copy, which may be written to."""


def npy_bytes(array: Array) -> bytes:
    """The bytes of a .npy file: version 1.0, C order, little endian, no pickles."""
    return b"".join(npy_parts(array))


def npy_parts(array: Array) -> Iterator[bytes]:
    """The same bytes in parts: the header, then blocks, so that a large array is never held twice."""
    dtype = array.dtype.newbyteorder("<")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    yield buffer.getvalue()
    flat = array.reshape(-1)
    for first in range(0, flat.size, BLOCK):
        yield flat[first : first + BLOCK].astype(dtype, copy=False).tobytes()


def npy_array(content: bytes) -> Array:
    """The array of a .npy file's bytes; the size that the header claims is checked first.

    Raises:
        ValueError: not a .npy of integers, floats or booleans, or its length is wrong.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"npy version {version[0]}.{version[1]} is not known")
    if dtype.hasobject or dtype.kind not in "iufb":
        raise ValueError(f"holds {dtype}, not numbers")
    payload = len(content) - stream.tell()
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != payload:
        raise ValueError(f"{shape} of {dtype} does not fill {payload} bytes")
    flat = np.frombuffer(content, dtype=dtype, offset=stream.tell())
    array = flat.reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C", copy=payload <= COPIED)


def narrowed(array: Array) -> Array:
    """Integers in the narrowest signed type that holds them, so that 8-bit weights cost a byte."""
    if array.dtype.kind not in "iu" or array.size == 0:
        return np.asarray(array, dtype=np.int64) if array.dtype.kind in "iu" else np.asarray(array)
    low, high = int(array.min()), int(array.max())
    for narrow in (np.int8, np.int16, np.int32):
        if np.iinfo(narrow).min <= low and high <= np.iinfo(narrow).max:
            return np.asarray(array, dtype=narrow, order="C")
    return np.asarray(array, dtype=np.int64, order="C")
