"""Importers of operators that copy elements to fixed places.

What goes where is asked of ONNX Runtime: the operator is run on the numbers of the elements, at
two batch sizes, so that every mode and every corner of its rules comes out as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from nmc.compiler.frontends.onnx.fold import BATCHES, FoldError, Known, fold, known
from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.ir.connectivity import Array, Connectivity, Conv2d, IndexArray, Shape, sparse_from_synapses
from nmc.ir.layers import Linear, Reshape, Transpose

NUMBERS_MAX = 2**24
"""Elements of a batch of two or three samples that float32 can number."""

_KEEP_BATCH = "keep the batch on axis 0 and leave it alone"


@dataclass(frozen=True, eq=False)
class Copies:
    """What each element of an output is.

    Attributes:
        index: of the output's shape: flat number of the input element, -1 for none.
        fill: of the output's shape: what is there instead.
    """

    index: IndexArray
    fill: Array


def probed(node: Node, graph: GraphBuilder, data: tuple[Array, Array]) -> Known:
    """The first output of a node whose first input is given at each of `BATCHES`.

    Raises:
        Refusal: another input is no constant, or ONNX Runtime refuses.
    """
    inputs = {node.input(0): Known(data)}
    for position, name in enumerate(node.proto.input):
        if position and name:
            if name not in graph.known:
                graph.constant(name, f"input {position}")
            inputs[name] = graph.known[name]
    try:
        return fold(node.proto, inputs, graph.opset)[node.proto.output[0]]
    except FoldError as error:
        raise Refusal("shape-invalid", f"ONNX Runtime cannot compute it: {error}") from error


def copies_of(node: Node, graph: GraphBuilder) -> Copies:
    """Where the elements of a node's first output come from.

    Raises:
        Refusal: they do not come from the same sample, or the activation is too large to number.
    """
    shape = graph.activation(node, 0)
    values = math.prod(shape)
    if values * max(BATCHES) >= NUMBERS_MAX:
        raise Refusal(
            "operator-unsupported",
            f"it moves {values} elements, the limit is {NUMBERS_MAX // max(BATCHES) - 1}",
            "make the activation smaller",
        )
    numbers = [np.arange(1, b * values + 1, dtype=np.float32).reshape(b, *shape) for b in BATCHES]
    made = probed(node, graph, (numbers[0], numbers[1]))
    blank = probed(node, graph, (0 * numbers[0], 0 * numbers[1]))
    found: list[Copies] = []
    for batch, placed, fill in zip(BATCHES, made.at, blank.at, strict=True):
        if placed.ndim < 1 or placed.shape[0] != batch:
            raise Refusal("operator-unsupported", f"it makes {list(placed.shape)} of a batch of {batch}", _KEEP_BATCH)
        from_input = placed != fill
        index = np.where(from_input, placed.astype(np.int64) - 1, -1)
        own = index - values * np.arange(batch).reshape(-1, *(1,) * (placed.ndim - 1))
        if np.any(from_input & ((own < 0) | (own >= values))) or np.any(np.where(from_input, own, -1) != index[:1]):
            raise Refusal("operator-unsupported", "it moves elements between samples", _KEEP_BATCH)
        found.append(Copies(index[0], fill[0].astype(np.float64)))
    first, second = found
    if first.index.shape != second.index.shape or np.any(first.index != second.index):
        raise Refusal("operator-unsupported", "it depends on the batch size", _KEEP_BATCH)
    if first.index.ndim == 0:
        raise Refusal("operator-unsupported", "nothing is left behind the batch axis", "keep one axis, e.g. (N, 1)")
    return first


def import_expand(node: Node, graph: GraphBuilder) -> None:
    """Copies of elements to fixed places; not along the batch."""
    shape = graph.constant(node.input(1), "the shape")
    rank = len(graph.activation(node, 0)) + 1
    if graph.batch is not None and shape.size == rank and shape[0] == graph.batch != 1:
        # The file fixed its batch and wrote it into the shape.
        free = np.array([1, *shape[1:]], dtype=np.int64)
        graph.patch(node).inputs[1] = free
        node = with_inputs(node, graph, {1: free})
    import_copies(node, graph)


def with_inputs(node: Node, graph: GraphBuilder, constants: dict[int, Array | None]) -> Node:
    """The node with other constants at some inputs, None for no input there."""
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    for position, array in constants.items():
        name = f"\0{node.name}/input{position}"
        proto.input[position] = name if array is not None else ""
        if array is not None:
            graph.known[name] = known(array)
    return Node(proto, node.index)


def import_copies(node: Node, graph: GraphBuilder) -> None:
    """Copies of elements to fixed places, and constants; not between samples."""
    shape, copies = graph.activation(node, 0), copies_of(node, graph)
    out = copies.index.shape
    if copies.index.size == math.prod(shape) and np.array_equal(copies.index.reshape(-1), np.arange(copies.index.size)):
        graph.add(node, Reshape(), (node.input(0),), out)
        return
    bias = copies.fill if np.any(copies.fill) else np.zeros(out[0])
    graph.add(node, Linear(copying(copies.index, shape), bias), (node.input(0),), out)


def copying(index: IndexArray, shape: Shape) -> Connectivity:
    """The operator that makes ``x.flat[index]``, zero where the index is -1.

    A 1x1 convolution where whole channels of an image are copied, else single synapses.
    """
    out = index.shape
    if len(shape) == 3 and out[1:] == shape[1:]:
        places = np.arange(shape[1] * shape[2]).reshape(1, *shape[1:])
        channel = np.where(index >= 0, index // places.size, -1)
        whole = np.all(channel == channel[:, :1, :1]) and np.all((index < 0) | (index % places.size == places))
        if whole:
            source = channel[:, 0, 0]
            weight = np.zeros((out[0], shape[0], 1, 1))
            weight[np.flatnonzero(source >= 0), source[source >= 0]] = 1.0
            return Conv2d(weight, shape)
    target = np.flatnonzero(index.reshape(-1) >= 0)
    return sparse_from_synapses(target, index.reshape(-1)[target], np.ones(len(target)), shape, out)


def import_depth_to_space(node: Node, graph: GraphBuilder) -> None:
    """Moved by the layers around it."""
    channels, height, width = _image(node, graph)
    size = node.integer("blocksize", 0)
    if size < 1 or channels % size**2:
        raise Refusal("shape-invalid", f"{channels} channels do not make blocks of {size} x {size}")
    out = channels // size**2
    column_first = node.text("mode", "DCR") == "DCR"
    split = (size, size, out, height, width) if column_first else (out, size, size, height, width)
    perm = (2, 3, 0, 4, 1) if column_first else (0, 3, 1, 4, 2)
    _rearrange(node, graph, split, perm, (out, height * size, width * size))


def import_space_to_depth(node: Node, graph: GraphBuilder) -> None:
    """Moved by the layers around it."""
    channels, height, width = _image(node, graph)
    size = node.integer("blocksize", 0)
    if size < 1 or height % size or width % size:
        raise Refusal("shape-invalid", f"{height} x {width} do not split into blocks of {size} x {size}")
    split = (channels, height // size, size, width // size, size)
    # The blocks become channels in the order row, column, channel; newer opsets name another.
    row_first = node.text("mode", "DCR") == "DCR"
    perm = (2, 4, 0, 1, 3) if row_first else (0, 2, 4, 1, 3)
    _rearrange(node, graph, split, perm, (channels * size**2, height // size, width // size))


def _image(node: Node, graph: GraphBuilder) -> tuple[int, int, int]:
    shape = graph.activation(node, 0)
    if len(shape) != 3:
        raise Refusal("shape-invalid", f"its input has {len(shape) + 1} axes, it must have 4")
    return (shape[0], shape[1], shape[2])


def _rearrange(node: Node, graph: GraphBuilder, split: Shape, perm: tuple[int, ...], out: Shape) -> None:
    parts = graph.add_inner(node, "blocks", Reshape(), (node.input(0),), split)
    moved = graph.add_inner(node, "moved", Transpose(perm), (parts,), tuple(split[axis] for axis in perm))
    graph.add(node, Reshape(), (moved,), out)
