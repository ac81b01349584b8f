"""Arrays as the bytes of .npy files: deterministic to write, safe to read."""

from __future__ import annotations

import io
import math

import numpy as np

from nmc.ir.connectivity import Array


def npy_bytes(array: Array) -> bytes:
    """The bytes of a .npy file: version 1.0, C order, little endian, no pickles."""
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, little, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


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
    return array.astype(dtype.newbyteorder("="), order="C")


def narrowed(array: Array) -> Array:
    """Integers in the narrowest signed type that holds them, so that 8-bit weights cost a byte."""
    if array.dtype.kind not in "iu" or array.size == 0:
        return np.asarray(array, dtype=np.int64) if array.dtype.kind in "iu" else np.asarray(array)
    low, high = int(array.min()), int(array.max())
    for narrow in (np.int8, np.int16, np.int32):
        if np.iinfo(narrow).min <= low and high <= np.iinfo(narrow).max:
            return np.asarray(array, dtype=narrow, order="C")
    return np.asarray(array, dtype=np.int64, order="C")
