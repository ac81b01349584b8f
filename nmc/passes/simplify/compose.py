"""Products of connectivities: ``outer(inner(x))`` as one operator, exactly.

All sums run in a fixed order (SciPy's sparse loops, never a BLAS), so that equal inputs
give equal bytes on every machine.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from scipy import sparse

from nmc.ir.connectivity import (
    Array,
    Connectivity,
    Conv2d,
    Dense,
    Pool,
    Skip,
    Sparse,
    size,
)
from nmc.passes.simplify.windows import covers, fitted_conv

BUDGET = 50_000_000
"""Weights or synapses that a composed operator may store (400 MB in float64)."""


def compose(outer: Connectivity, inner: Connectivity) -> Connectivity | None:
    """The operator ``x -> outer(inner(x))``; None where it would exceed `BUDGET`.

    Args:
        outer: reads as many values as ``inner`` makes, in C order.
        inner: any operator.
    """
    aligned = outer.in_shape == inner.out_shape
    if isinstance(inner, Skip) and aligned:
        return outer.with_weight(outer.weight * inner.weight[outer.column_channel()])
    if isinstance(outer, Skip) and aligned:
        return inner.with_weight(inner.weight * outer.weight[inner.row_channel()])
    if isinstance(outer, Conv2d | Pool) and isinstance(inner, Conv2d | Pool) and aligned:
        composed = compose_windows(outer, inner)
        if composed is not None:
            return composed
    if isinstance(outer, Dense):
        if size(outer.out_shape) * size(inner.in_shape) > BUDGET or synapse_bound(inner) > 4 * BUDGET:
            return None
        weight = (to_csr(inner).T.tocsr() @ np.ascontiguousarray(outer.weight.T)).T
        return Dense(np.ascontiguousarray(weight), inner.in_shape, outer.out_shape)
    if isinstance(inner, Dense):
        if size(outer.out_shape) * size(inner.in_shape) > BUDGET or synapse_bound(outer) > 4 * BUDGET:
            return None
        return Dense(to_csr(outer) @ inner.weight, inner.in_shape, outer.out_shape)
    return _compose_sparse(outer, inner)


def _compose_sparse(outer: Connectivity, inner: Connectivity) -> Sparse | None:
    if synapse_bound(outer) > BUDGET or synapse_bound(inner) > BUDGET:
        return None
    left, right = to_csr(outer), to_csr(inner)
    work = int(np.diff(right.indptr).astype(np.int64)[left.indices].sum())
    if min(work, size(outer.out_shape) * size(inner.in_shape)) > 4 * BUDGET:
        return None
    product = (left @ right).tocsr()
    product.eliminate_zeros()
    if product.nnz > BUDGET:
        return None
    return from_csr(product, inner, outer)


def from_csr(matrix: sparse.csr_matrix, reads: Connectivity, makes: Connectivity) -> Sparse:
    """A matrix as `Sparse`, from the input of ``reads`` to the output of ``makes``."""
    matrix.sort_indices()
    return Sparse(
        matrix.data.astype(np.float64),
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int64),
        reads.in_shape,
        makes.out_shape,
    )


def to_csr(connectivity: Connectivity) -> sparse.csr_matrix:
    """An operator as a matrix (targets, sources)."""
    shape = (size(connectivity.out_shape), size(connectivity.in_shape))
    if isinstance(connectivity, Sparse):
        return sparse.csr_matrix((connectivity.weight, connectivity.indices, connectivity.indptr), shape)
    if isinstance(connectivity, Dense):
        return sparse.csr_matrix(connectivity.weight)
    target, source, weight = connectivity.synapses()
    return sparse.csr_matrix((weight, (target, source)), shape)


def synapse_bound(connectivity: Connectivity) -> int:
    """An upper bound of the synapses, without listing them."""
    match connectivity:
        case Conv2d():
            return int(np.count_nonzero(connectivity.weight)) * size(connectivity.out_shape[1:])
        case Pool():
            return size(connectivity.out_shape) * size(connectivity.kernel)
        case Skip():
            return size(connectivity.in_shape)
        case _:
            return int(connectivity.weight.size)


def copies(connectivity: Connectivity) -> bool:
    """Whether each value that an operator makes is one that it reads, times a factor."""
    weight = connectivity.weight
    match connectivity:
        case Skip():
            return True
        case Conv2d() | Dense():
            return bool(np.all(np.count_nonzero(weight.reshape(len(weight), -1), axis=1) <= 1))
        case Sparse():
            return bool(np.all(np.diff(connectivity.indptr) <= 1))
        case Pool():
            return size(connectivity.kernel) == 1
        case _:
            return False


def compose_windows(outer: Conv2d | Pool, inner: Conv2d | Pool) -> Conv2d | Pool | None:
    """One convolution for two; None where borders forbid it or it would exceed `BUDGET`.

    The outer pads stand for zeros *between* the two; they become pads of the input only
    if the inner windows that they stand for would see nothing but padding.
    """
    a = outer.as_conv() if isinstance(outer, Pool) else outer
    b = inner.as_conv() if isinstance(inner, Pool) else inner
    if not covers(a, b):
        return None
    steps, counts, strides, pads = [], [], [], []
    for axis in (0, 1):
        spread, fine = a.dilation[axis] * b.stride[axis], b.dilation[axis]
        kernels = a.weight.shape[2 + axis], b.weight.shape[2 + axis]
        step = gcd(spread if kernels[0] > 1 else 0, fine if kernels[1] > 1 else 0) or 1
        # One tap has no distance to the next; any stands for it.
        steps.append((step, max(spread // step, 1), max(fine // step, 1)))
        counts.append((spread * (kernels[0] - 1) + fine * (kernels[1] - 1)) // step + 1)
        strides.append(a.stride[axis] * b.stride[axis])
        pads.append(a.pads[axis] * b.stride[axis] + b.pads[axis])
    weight = _convolved(a, b, (counts[0], counts[1]), steps)
    if weight is None:
        return None
    groups = weight.shape[1] and b.in_shape[0] // weight.shape[1]
    composed = fitted_conv(
        weight,
        b.in_shape,
        (strides[0], strides[1]),
        (pads[0], pads[1]),
        (steps[0][0], steps[1][0]),
        groups,
        a.out_shape,
    )
    return _as_pool(composed)


def _convolved(a: Conv2d, b: Conv2d, counts: tuple[int, int], steps: list[tuple[int, int, int]]) -> Array | None:
    """The kernel of ``a`` after ``b``, (out, in / groups, *counts)."""
    picked = _picked(a, b)
    if picked is not None:
        return picked
    out, middle = a.weight.shape[0], a.in_shape[0]
    b_depthwise = b.groups == b.in_shape[0] == middle
    a_depthwise = a.groups == middle == out
    groups = a.groups if b_depthwise else b.groups if a_depthwise else gcd(a.groups, b.groups)
    per_group = b.in_shape[0] // groups
    if out * per_group * counts[0] * counts[1] > BUDGET:
        return None
    weight = np.zeros((out, per_group, *counts))
    columns = a.column_channel()[:, :, 0, 0]
    left, right = (None, None) if b_depthwise or a_depthwise else (regrouped(a, groups), regrouped(b, groups))
    for p in range(a.weight.shape[2]):
        for q in range(a.weight.shape[3]):
            if b_depthwise:
                product = a.weight[:, :, p, q, None, None] * b.weight[columns, 0]
            elif a_depthwise:
                product = a.weight[:, :, p, q, None, None] * b.weight
            elif left is not None and right is not None:
                product = _grouped_product(left[:, :, p, q], right, groups)
            rows = _taps(p, b.weight.shape[2], steps[0])
            cols = _taps(q, b.weight.shape[3], steps[1])
            weight[:, :, rows, cols] += product
    return weight


def _picked(a: Conv2d, b: Conv2d) -> Array | None:
    """The kernel where ``b`` sends every channel to one place, scaled: the columns of ``a`` that read them.

    This is what a join of channels is made of; the product would multiply zeros.
    """
    if a.groups > 1 or b.groups > 1 or b.weight.shape[2:] != (1, 1):
        return None
    table = b.weight[:, :, 0, 0]
    if not np.all(np.count_nonzero(table, axis=0) == 1):
        return None
    rows = np.abs(table).argmax(axis=0)
    factor = table[rows, np.arange(table.shape[1])]
    return np.asarray(a.weight[:, rows] * factor[:, None, None])


def _taps(position: int, count: int, step: tuple[int, int, int]) -> slice:
    """Where the inner kernel lands for one tap of the outer."""
    _, spread, fine = step
    start = position * spread
    return slice(start, start + (count - 1) * fine + 1, fine)


def _grouped_product(left: Array, right: Array, groups: int) -> Array:
    """(out, mid / groups) times (mid, in / groups, kh, kw), block by block."""
    out, middle = left.shape[0] // groups, right.shape[0] // groups
    parts = []
    for group in range(groups):
        block = sparse.csr_matrix(left[group * out : (group + 1) * out])
        parts.append(block @ right[group * middle : (group + 1) * middle].reshape(middle, -1))
    return np.concatenate(parts).reshape(groups * out, *right.shape[1:])


def regrouped(conv: Conv2d, groups: int) -> Array:
    """The kernel with fewer groups: (out, in / groups, kh, kw), zeros where nothing was."""
    if conv.groups == groups:
        return conv.weight
    out = conv.weight.shape[0]
    per_group = conv.in_shape[0] // groups
    weight = np.zeros((out, per_group, *conv.weight.shape[2:]))
    columns = conv.column_channel()[:, :, 0, 0] % per_group
    weight[np.arange(out)[:, None], columns] = conv.weight
    return weight


def _as_pool(conv: Conv2d) -> Conv2d | Pool:
    """A depthwise convolution with equal taps is a pooling."""
    out = conv.weight.shape[0]
    taps = conv.weight.reshape(out, -1)
    plain = conv.dilation == (1, 1) or conv.weight.shape[2:] == (1, 1)
    if conv.groups == out == conv.in_shape[0] and plain and bool(np.all(taps == taps[:, :1])):
        kernel = (conv.weight.shape[2], conv.weight.shape[3])
        return Pool(taps[:, 0].copy(), conv.in_shape, kernel, conv.stride, conv.pads)
    return conv


def apply(connectivity: Connectivity, values: Array) -> Array:
    """The operator on one sample, (*in_shape) to (*out_shape), in fixed order."""
    x = values.reshape(connectivity.in_shape)
    match connectivity:
        case Pool():
            return apply(connectivity.as_conv(), x)
        case Conv2d():
            return _apply_conv(connectivity, x)
        case Skip():
            return np.asarray((connectivity.weight.reshape(-1, 1) * x.reshape(len(x), -1)).reshape(x.shape))
        case _:
            return np.asarray(to_csr(connectivity) @ x.reshape(-1)).reshape(connectivity.out_shape)


def _apply_conv(conv: Conv2d, x: Array) -> Array:
    out, height, width = conv.out_shape
    below = max((height - 1) * conv.stride[0] + conv.dilation[0] * (conv.weight.shape[2] - 1) + 1, 0)
    beside = max((width - 1) * conv.stride[1] + conv.dilation[1] * (conv.weight.shape[3] - 1) + 1, 0)
    top, left = conv.pads[:2]
    padded = np.zeros((len(x), max(below, top + x.shape[1]), max(beside, left + x.shape[2])))
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    total = np.zeros((out, height * width))
    columns = conv.column_channel()[:, :, 0, 0]
    rows = np.broadcast_to(np.arange(out)[:, None], columns.shape)
    for p in range(conv.weight.shape[2]):
        for q in range(conv.weight.shape[3]):
            y, z = p * conv.dilation[0], q * conv.dilation[1]
            window = padded[
                :,
                y : y + (height - 1) * conv.stride[0] + 1 : conv.stride[0],
                z : z + (width - 1) * conv.stride[1] + 1 : conv.stride[1],
            ]
            tap = (conv.weight[:, :, p, q].reshape(-1), (rows.reshape(-1), columns.reshape(-1)))
            total += sparse.csr_matrix(tap, (out, len(x))) @ window.reshape(len(x), -1)
    return total.reshape(conv.out_shape)
