"""Arrays of one value, held as a view of it: what ConstantOfShape makes takes no memory."""

from __future__ import annotations

from nmc.ir.connectivity import Array


def is_uniform(array: Array) -> bool:
    """Whether all elements of an array are one and the same place in memory."""
    return array.size > 1 and all(stride == 0 or n == 1 for stride, n in zip(array.strides, array.shape, strict=True))
