"""Importers of the reductions: a pooling of what is reduced, moved to the end."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.operators_pool import largest
from nmc.ir.connectivity import Pool
from nmc.ir.layers import AveragePool, BatchNorm, LeakyRelu, Linear, Op, Reshape, Transpose

Image = tuple[int, int, int]
"""Channels, height, width; the reduction is over height and width."""


def import_reduce_mean(node: Node, graph: GraphBuilder) -> None:
    """Over any axes but the batch: an average pooling."""
    _reduce(node, graph, lambda image: AveragePool(image[1:], image[1:]))


def import_reduce_sum(node: Node, graph: GraphBuilder) -> None:
    """Over any axes but the batch: one linear layer."""
    _reduce(node, graph, _total)


def import_reduce_l1(node: Node, graph: GraphBuilder) -> None:
    """The sum of the absolute values, over any axes but the batch."""
    _reduce(node, graph, _total, before=lambda channels: LeakyRelu(np.full(channels, -1.0)))


def import_reduce_max(node: Node, graph: GraphBuilder) -> None:
    """Over any axes but the batch, of up to 256 values: ReLUs of differences."""
    _reduce(node, graph, lambda image: largest(image[1:]))


def import_reduce_min(node: Node, graph: GraphBuilder) -> None:
    """Over any axes but the batch, of up to 256 values: ReLUs of differences."""
    _reduce(node, graph, lambda image: largest(image[1:]), before=_negated, after=_negated)


def _negated(channels: int) -> BatchNorm:
    return BatchNorm(np.full(channels, -1.0), np.zeros(channels))


def _total(image: Image) -> Linear:
    pool = Pool(np.ones(image[0]), image, image[1:], image[1:])
    return Linear(pool, np.zeros(image[0]))


def _reduce(
    node: Node,
    graph: GraphBuilder,
    op: Callable[[Image], Op],
    before: Callable[[int], Op] | None = None,
    after: Callable[[int], Op] | None = None,
) -> None:
    """The axes that stay become channels, the others one map for each.

    Args:
        node: with axes and keepdims.
        graph: under construction.
        op: reduces the maps of an image.
        before: done to each element first, from the number of channels.
        after: done to each result.
    """
    shape = graph.activation(node, 0)
    axes = _axes(node, graph, len(shape) + 1)
    kept = tuple(a for a in range(len(shape)) if a not in axes)
    rest = tuple(1 if a in axes else n for a, n in enumerate(shape))
    out = rest if node.integer("keepdims", 1) else tuple(shape[a] for a in kept)
    if graph.keeps_one(node, out):
        graph.patch(node).attributes["keepdims"], out = 1, rest
    source = node.input(0)
    if before is not None:
        source = graph.add_inner(node, "before", before(shape[0]), (source,), shape)
    perm = (*kept, *axes)
    if perm != tuple(range(len(shape))):
        moved = tuple(shape[a] for a in perm)
        source = graph.add_inner(node, "moved", Transpose(perm), (source,), moved)
    reduced = [shape[a] for a in axes] or [1]
    image = (math.prod(shape[a] for a in kept), math.prod(reduced[:-1]), reduced[-1])
    if graph.shape(source) != image:
        source = graph.add_inner(node, "maps", Reshape(), (source,), image)
    ends = (image[0], 1, 1)
    operations = [op(image), *([after(image[0])] if after is not None else [])]
    for number, made in enumerate(operations[:-1]):
        source = graph.add_inner(node, f"reduced{number}", made, (source,), ends)
    if out == ends:
        graph.add(node, operations[-1], (source,), out)
    else:
        source = graph.add_inner(node, "reduced", operations[-1], (source,), ends)
        graph.add(node, Reshape(), (source,), out)


def _axes(node: Node, graph: GraphBuilder, rank: int) -> tuple[int, ...]:
    """The reduced axes without the batch, ascending; the batch axis does not count."""
    given = graph.axes(node.input(1), "axes") if node.input(1) else node.integers("axes", ())
    if not given and node.integer("noop_with_empty_axes", 0):
        return ()
    axes = sorted({a + (rank if a < 0 else 0) for a in given} or set(range(rank)))
    if not all(0 <= a < rank for a in axes):
        raise Refusal("shape-invalid", f"axes {list(given)} of a tensor with {rank}")
    if axes[0] == 0:
        raise Refusal(
            "operator-unsupported", "it reduces over the batch", "name the axes, and leave the batch on axis 0 alone"
        )
    return tuple(a - 1 for a in axes)
