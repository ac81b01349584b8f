"""What a confined ONNX Runtime and its parent say to each other: a JSON head, then arrays as raw bytes.

Nothing in a frame selects code, and the parent checks every field of it: the other side runs a
model that may be hostile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from nmc.ir.connectivity import Array

HEAD_LIMIT = 1 << 26
"""Bytes of a head: names of the tensors of a model."""

BYTES_MAX = 1 << 34
"""Bytes of one array."""

DTYPES = ("<f4", "<f8", "<f2", "<i8", "<i4", "<i2", "|i1", "|u1", "|b1")
"""Types that an array may have."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One message.

    Attributes:
        head: what it says.
        arrays: what goes with it.
    """

    head: dict[str, Any]
    arrays: tuple[Array, ...] = field(default=())


def write_frame(file: IO[bytes], head: dict[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Write a message; arrays are not copied where they are contiguous.

    Raises:
        TypeError: an array of another type than `DTYPES`.
    """
    laid = [np.asarray(array, array.dtype.newbyteorder("<"), order="C") for array in arrays]
    unknown = [array.dtype.str for array in laid if array.dtype.str not in DTYPES]
    if unknown:
        raise TypeError(f"arrays of {unknown[0]} are not sent")
    described = [{"dtype": array.dtype.str, "shape": list(array.shape)} for array in laid]
    text = json.dumps({"head": head, "arrays": described}).encode()
    file.write(len(text).to_bytes(8, "little") + text)
    for array in laid:
        file.write(array.reshape(-1).view(np.uint8).data)
    file.flush()


def read_frame(file: IO[bytes]) -> Frame:
    """Read a message.

    Raises:
        EOFError: there is no more.
        ValueError: it is none.
    """
    size = int.from_bytes(_exactly(file, 8), "little")
    if size > HEAD_LIMIT:
        raise ValueError(f"a head of {size} bytes")
    try:
        tree = json.loads(_exactly(file, size))
        described = [(item["dtype"], tuple(item["shape"])) for item in tree["arrays"]]
        head = tree["head"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no message: {type(error).__name__}") from error
    if not isinstance(head, dict):
        raise ValueError("no message")
    return Frame(head, tuple(_array(file, dtype, shape) for dtype, shape in described))


def _array(file: IO[bytes], dtype: object, shape: tuple[object, ...]) -> Array:
    lengths = [n for n in shape if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
    if dtype not in DTYPES or len(lengths) != len(shape):
        raise ValueError("an array of no known type")
    kind = np.dtype(str(dtype))
    size = math.prod(lengths) * kind.itemsize
    if size > BYTES_MAX:
        raise ValueError(f"an array of {size} bytes")
    return np.frombuffer(_exactly(file, size), dtype=kind).reshape(lengths)


def _exactly(file: IO[bytes], size: int) -> bytes:
    """So many bytes, without a copy. Memory that is asked for and not filled costs nothing but addresses.

    Raises:
        EOFError: there are fewer.
    """
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content
