"""Invariants of connectivity operators and of arrays, shared by the levels of the IR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, Pool, Shape, Skip, Sparse, size
from nmc.ir.origin import Origin

Finding = tuple[str, Origin | None]
"""What is wrong, and the ONNX node that it concerns."""


def shape_problems(shape: Shape) -> Iterator[str]:
    """A shape has at least one axis, and every axis at least one element."""
    if not shape or any(n < 1 for n in shape):
        yield f"shape {shape} has no elements"


def array_problems(name: str, array: Array, shapes: Sequence[Shape]) -> Iterator[str]:
    """An array holds finite numbers and has one of the allowed shapes."""
    if array.dtype.kind not in "iuf":
        yield f"{name} holds {array.dtype}, not numbers"
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        yield f"{name} has {int((~np.isfinite(array)).sum())} values that are not finite"
    if array.shape not in shapes:
        allowed = " or ".join(str(s) for s in dict.fromkeys(shapes))
        yield f"{name} has shape {array.shape}, not {allowed}"


def connectivity_problems(operator: Connectivity) -> Iterator[str]:
    """The weights fit the operator's own shapes and parameters."""
    bad_shape = [p for p in shape_problems(operator.in_shape)]
    if bad_shape:
        yield from (f"input {p}" for p in bad_shape)
        return
    match operator:
        case Dense():
            yield from (f"output {p}" for p in shape_problems(operator.out_shape))
            yield from array_problems("weight", operator.weight, [(size(operator.out_shape), size(operator.in_shape))])
        case Skip():
            yield from array_problems("weight", operator.weight, [operator.in_shape[:1]])
        case Conv2d():
            yield from _conv_problems(operator)
        case Pool():
            yield from _pool_problems(operator)
        case Sparse():
            yield from _sparse_problems(operator)
        case _:
            yield f"{type(operator).__name__} is not a connectivity operator"


def window_problems(
    in_shape: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...] = (1, 1),
) -> Iterator[str]:
    """A sliding window over (C, H, W) has sane parameters and fits the padded input."""
    if len(in_shape) != 3:
        yield f"a window needs an input (C, H, W), found {in_shape}"
        return
    if len(kernel) != 2 or len(stride) != 2 or len(dilation) != 2 or len(pads) != 4:
        yield f"kernel {kernel}, stride {stride}, dilation {dilation} and pads {pads} are not 2-D"
        return
    if min(*kernel, *stride, *dilation) < 1 or min(pads) < 0:
        yield f"kernel {kernel}, stride {stride}, dilation {dilation} or pads {pads} out of range"
        return
    for axis in (0, 1):
        padded = in_shape[1 + axis] + pads[axis] + pads[axis + 2]
        span = dilation[axis] * (kernel[axis] - 1) + 1
        if span > padded:
            yield f"window of {span} exceeds the padded input of {padded} on axis {axis + 1}"


def _conv_problems(conv: Conv2d) -> Iterator[str]:
    if conv.weight.ndim != 4:
        yield "weight of a convolution must have 4 axes"
        return
    out, per_group, kh, kw = conv.weight.shape
    yield from array_problems("weight", conv.weight, [conv.weight.shape])
    yield from window_problems(conv.in_shape, (kh, kw), conv.stride, conv.pads, conv.dilation)
    if conv.groups < 1 or out < 1 or out % conv.groups or per_group * conv.groups != conv.in_shape[0]:
        yield (
            f"weight {conv.weight.shape} with {conv.groups} groups does not fit "
            f"{conv.in_shape[0]} input channels and {out} output channels"
        )


def _pool_problems(pool: Pool) -> Iterator[str]:
    yield from array_problems("weight", pool.weight, [pool.in_shape[:1]])
    yield from window_problems(pool.in_shape, pool.kernel, pool.stride, pool.pads)


def _sparse_problems(sparse: Sparse) -> Iterator[str]:
    yield from (f"output {p}" for p in shape_problems(sparse.out_shape))
    rows, columns, count = size(sparse.out_shape), size(sparse.in_shape), len(sparse.indices)
    yield from array_problems("weight", sparse.weight, [(count,)])
    yield from array_problems("indptr", sparse.indptr, [(rows + 1,)])
    if sparse.indices.ndim != 1 or sparse.indices.dtype.kind not in "iu" or sparse.indptr.dtype.kind not in "iu":
        yield "indptr and indices must be vectors of integers"
        return
    if sparse.indptr.shape != (rows + 1,):
        return
    if sparse.indptr[0] != 0 or sparse.indptr[-1] != count or np.any(np.diff(sparse.indptr) < 0):
        yield f"indptr must rise from 0 to {count}"
        return
    if count and (sparse.indices.min() < 0 or sparse.indices.max() >= columns):
        yield f"indices must lie in 0..{columns - 1}"
        return
    key = sparse.rows.astype(np.int64) * columns + sparse.indices
    if np.any(np.diff(key) <= 0):
        yield "indices of a row must ascend without duplicates"
