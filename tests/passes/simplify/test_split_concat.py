"""What treats every channel by itself goes before a join of channels."""

from __future__ import annotations

import numpy as np

from nmc.ir.layers import LayerGraph, Linear
from nmc.passes.simplify.fold_batchnorm import FoldBatchnorm
from nmc.passes.simplify.fold_layout import FoldLayout
from nmc.passes.simplify.fuse_linear import FuseLinear
from nmc.passes.simplify.legalise_pooling import LegalisePooling
from nmc.passes.simplify.legalise_shortcut import LegaliseShortcut
from nmc.passes.simplify.split_concat import SplitConcat
from tests.passes.simplify.graphs import Builder, kinds, simplified


def dense_block(layers: int) -> LayerGraph:
    """Norm, ReLU and convolution of all values before, joined: what a DenseNet is made of."""
    build = Builder((4, 5, 5))
    values = [build.conv("x", 8, (1, 1))]
    for _ in range(layers):
        joined = values[0] if len(values) == 1 else build.concat(0, *values)
        values.append(build.conv(build.relu(build.norm(joined)), 4, pads=(1, 1, 1, 1)))
    return build.graph(build.dense(build.reshape(build.relu(build.concat(0, *values))), 3))


def weights(graph: LayerGraph) -> int:
    return sum(layer.op.connectivity.weight.size for layer in graph.layers if isinstance(layer.op, Linear))


def test_a_dense_block_needs_no_kernel_over_channels_that_it_does_not_make() -> None:
    steps = (FoldBatchnorm(), LegaliseShortcut(), FoldLayout(), FuseLinear())
    joined = simplified(dense_block(6), *steps)
    split = simplified(dense_block(6), steps[0], SplitConcat(), *steps[1:])
    assert all(
        np.count_nonzero(layer.op.connectivity.weight) == layer.op.connectivity.weight.size
        for layer in split.layers
        if isinstance(layer.op, Linear)
    )
    assert weights(split) < 0.5 * weights(joined)


def test_joins_of_joins_are_opened_and_maxima_are_split() -> None:
    build = Builder((2, 6, 6))
    inner = build.concat(0, build.conv("x", 2), build.conv("x", 3))
    outer = build.concat(0, inner, build.conv("x", 1))
    pooled = build.largest(build.relu(outer), (2, 2), (2, 2))
    graph = simplified(build.graph(build.conv(pooled, 2, (1, 1))), SplitConcat())
    assert kinds(graph).count("Relu") == kinds(graph).count("MaxPool") == 3
    assert graph.by_name[pooled].inputs == tuple(f"{pooled}/{number}" for number in range(3))


def test_means_are_split() -> None:
    build = Builder((2, 6, 6))
    joined = build.concat(0, build.relu(build.conv("x", 2)), build.relu(build.conv("x", 3)))
    pooled = build.pool(joined, (2, 2), (2, 2))
    steps = (SplitConcat(), LegalisePooling(), LegaliseShortcut(), FuseLinear())
    graph = simplified(build.graph(build.relu(build.conv(pooled, 2, (1, 1), bias=False))), *steps)
    kernels = [layer.op.connectivity.weight for layer in graph.layers if isinstance(layer.op, Linear)]
    assert sorted(kernel.shape for kernel in kernels)[:2] == [(2, 2, 2, 2), (2, 2, 3, 3)]
    assert all(np.all(kernel != 0) for kernel in kernels)


def test_a_join_of_rows_stays() -> None:
    build = Builder((2, 4, 4))
    build.relu(build.concat(1, build.conv("x", 2, (1, 1)), build.conv("x", 2, (1, 1))))
    graph = build.graph()
    assert simplified(graph, SplitConcat()) is graph


def test_a_join_with_a_constant_stays() -> None:
    build = Builder((2, 4, 4))
    build.relu(build.concat(0, build.conv("x", 2, (1, 1)), build.constant(np.ones((1, 4, 4)))))
    graph = build.graph()
    assert simplified(graph, SplitConcat()) is graph
