"""Reshapes and transpositions as index arrays, and what they do to linear layers.

A movement is the array ``index`` with ``output.flat[j] = input.flat[index[j]]``.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np

from nmc.ir.connectivity import (
    Array,
    Connectivity,
    Conv2d,
    Dense,
    IndexArray,
    Pool,
    Shape,
    Skip,
    Sparse,
    size,
    sparse_from_synapses,
)
from nmc.ir.layers import Layer, Linear, Reshape, Transpose
from nmc.ir.uniform import is_uniform
from nmc.passes.simplify.compose import BUDGET, to_csr
from nmc.passes.simplify.rewrite import flat_index, full, shortest


def movement_index(layer: Layer, source: Shape) -> IndexArray:
    """The index array of a `Reshape` or `Transpose` of a value of shape ``source``."""
    index = flat_index(source)
    if isinstance(layer.op, Transpose):
        index = index.transpose(layer.op.perm)
    return index.reshape(-1)


def is_still(index: IndexArray) -> bool:
    """Whether the C order stays."""
    return bool(np.all(index == np.arange(len(index))))


def simplest(source: Shape, target: Shape, index: IndexArray) -> Reshape | Transpose | None:
    """One operation that moves like ``index``; None where it takes more.

    A transposition where the rank stays and one does it, else a reshape: the host can
    transpose the input, and a reshape that moves axes of size 1 only is a transposition.
    """
    if len(source) == len(target) <= 5:
        for perm in permutations(range(len(source))):
            if tuple(source[axis] for axis in perm) == target:
                moved = flat_index(source).transpose(perm).reshape(-1)
                if bool(np.all(moved == index)):
                    return Transpose(perm)
    return Reshape() if is_still(index) else None


def diagonal_of(connectivity: Connectivity) -> Array | None:
    """The weights of a one-to-one operator, flat; None for others."""
    n = size(connectivity.in_shape)
    if isinstance(connectivity, Skip):
        return np.repeat(connectivity.weight, n // connectivity.in_shape[0])
    if isinstance(connectivity, Sparse) and connectivity.in_shape == connectivity.out_shape:
        one_each = len(connectivity.indices) == n and is_still(connectivity.indices) and is_still(connectivity.rows)
        return connectivity.weight if one_each else None
    return None


def diagonal(weights: Array, shape: Shape) -> Skip | Sparse:
    """A one-to-one operator with these flat weights."""
    rows = weights.reshape(shape[0], -1)
    if bool(np.all(rows == rows[:, :1])):
        return Skip(rows[:, 0].copy(), shape)
    index = np.arange(size(shape))
    return sparse_from_synapses(index, index, weights, shape, shape)


def lifted_diagonal(op: Linear, index: IndexArray, target: Shape) -> Linear:
    """``D`` with ``D(move(x)) == move(op(x))`` for a one-to-one ``op``."""
    weights = diagonal_of(op.connectivity)
    if weights is None:
        raise TypeError("not one to one")
    bias = full(op.bias, op.connectivity.out_shape).reshape(-1)
    return Linear(diagonal(weights[index], target), shortest(bias[index].reshape(target), target))


def sunk_diagonal(op: Linear, index: IndexArray, source: Shape) -> Linear:
    """``D`` with ``move(D(x)) == op(move(x))`` for a one-to-one ``op``."""
    inverse = np.argsort(index)
    return lifted_diagonal(op, inverse, source)


def absorbs_rows(op: Linear) -> bool:
    """Whether a movement behind the layer can become an order of its rows."""
    match op.connectivity:
        case Dense():
            return True
        case Sparse():
            return diagonal_of(op.connectivity) is None
        case Conv2d() | Pool():
            out, height, width = op.connectivity.out_shape
            return height == width == 1 and out * size(op.connectivity.in_shape) <= BUDGET
        case _:
            return False


def gathered_rows(op: Linear, index: IndexArray, target: Shape) -> Linear:
    """``move(op(x))`` as one layer, for an ``op`` that `absorbs_rows`.

    Args:
        op: a dense or sparse layer, or a convolution with one output position.
        index: of the movement.
        target: shape that the movement makes.
    """
    connectivity = op.connectivity
    bias = full(op.bias, connectivity.out_shape).reshape(-1)[index].reshape(target)
    gathered: Connectivity
    if isinstance(connectivity, Sparse):
        matrix = to_csr(connectivity)[index].tocoo()
        gathered = sparse_from_synapses(
            matrix.row.astype(np.int64), matrix.col.astype(np.int64), matrix.data, connectivity.in_shape, target
        )
    elif isinstance(connectivity, Dense):
        gathered = Dense(connectivity.weight[index], connectivity.in_shape, target)
    else:
        gathered = Dense(to_csr(connectivity).toarray()[index], connectivity.in_shape, target)
    return Linear(gathered, shortest(bias, target))


def gathered_columns(connectivity: Connectivity, index: IndexArray, source: Shape) -> Connectivity | None:
    """``connectivity(move(x))`` as one operator; None for operators that keep their geometry.

    Args:
        connectivity: reads the moved value.
        index: of the movement.
        source: shape of ``x``.
    """
    if isinstance(connectivity, Dense):
        weight = connectivity.weight
        if not is_uniform(weight):
            weight = weight[:, np.argsort(index)]
        return replace(connectivity, weight=weight, in_shape=source)
    if isinstance(connectivity, Sparse) and diagonal_of(connectivity) is None:
        columns = index[connectivity.indices]
        return sparse_from_synapses(connectivity.rows, columns, connectivity.weight, source, connectivity.out_shape)
    return None


def permutation_operator(index: IndexArray, source: Shape, target: Shape) -> Connectivity:
    """The movement as synapses of weight one: a 1x1 convolution where only channels move."""
    if len(source) == 3 and source == target:
        channels = index.reshape(source[0], -1) // size(source[1:])
        places = index.reshape(source[0], -1) % size(source[1:])
        if bool(np.all(channels == channels[:, :1])) and bool(np.all(places == np.arange(size(source[1:])))):
            weight = np.zeros((source[0], source[0], 1, 1))
            weight[np.arange(source[0]), channels[:, 0]] = 1.0
            return Conv2d(weight, source)
    return sparse_from_synapses(np.arange(len(index)), index, np.ones(len(index)), source, target)
