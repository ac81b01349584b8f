"""Importers of the operators that move, cut, join and pass values on."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from nmc.compiler.frontends.onnx.fold import BATCHES, known
from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.operators_move import copying, import_copies
from nmc.ir.connectivity import Array, Shape
from nmc.ir.layers import Concat, Constant, Identity, Linear, Pad, Reshape, Slice, Transpose

_KEEP_BATCH = "keep the batch on axis 0 and leave it alone"
_FLOATS = "keep activations in floating point"


def import_identity(node: Node, graph: GraphBuilder) -> None:
    """Removed."""
    graph.add(node, Identity(), (node.input(0),), graph.activation(node, 0))


def import_cast(node: Node, graph: GraphBuilder) -> None:
    """From floats, or from an input of integers, to floats: removed."""
    kind = node.integer("to", 0)
    if kind != TensorProto.FLOAT:
        name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else str(kind)
        raise Refusal("operator-unsupported", f"it makes {name} of an activation", _FLOATS)
    import_identity(node, graph)


def import_cast_like(node: Node, graph: GraphBuilder) -> None:
    """To the type of an activation: removed; a constant becomes a float."""
    if node.input(1) not in graph.values:
        kind = graph.constant(node.input(1), "the example of the type").dtype
        if kind != np.float32:  # what other floats the file had are float32 by now
            raise Refusal(
                "operator-unsupported", f"it makes {kind} of an activation", "keep activations in floating point"
            )
    if node.input(0) in graph.values:
        import_identity(node, graph)
        return
    value = graph.constant(node.input(0), "the operand")
    graph.known[node.proto.output[0]] = known(value.astype(np.float32))
    graph.folded.add(node.index)


def import_dropout(node: Node, graph: GraphBuilder) -> None:
    """Removed; not in training mode."""
    training = bool(node.input(2)) and bool(np.any(graph.constant(node.input(2), "training_mode")))
    if training or any(graph.is_used(name) for name in node.proto.output[1:] if name):
        raise Refusal("operator-unsupported", "it drops at random", "export in evaluation mode")
    import_identity(node, graph)


def import_flatten(node: Node, graph: GraphBuilder) -> None:
    """Everything behind the batch into one axis; from a later axis at an output, where the batch stays apart."""
    shape = graph.activation(node, 0)
    axis = node.integer("axis", 1)
    axis += len(shape) + 1 if axis < 0 else 0
    if axis == 0 and graph.batch == 1:
        graph.patch(node).attributes["axis"] = 1
    elif not 1 <= axis <= len(shape) or math.prod(shape[: axis - 1]) != 1:
        if not 1 < axis <= len(shape) or graph.is_read(node.proto.output[0]):
            raise Refusal("operator-unsupported", f"it flattens from axis {axis} and moves the batch", _KEEP_BATCH)
        rest = math.prod(shape[: axis - 1]), math.prod(shape[axis - 1 :])
        graph.patch(node).shape = rest
        graph.add(node, Reshape(), (node.input(0),), rest)
        return
    graph.add(node, Reshape(), (node.input(0),), (math.prod(shape),))


def _reshaped(shape: Array, source: tuple[int, ...], allow_zero: bool) -> tuple[int, ...] | None:
    """The dims that a Reshape makes of ``source``; None where it cannot."""
    dims = [int(d) for d in shape.reshape(-1)]
    if not allow_zero:
        dims = [source[i] if d == 0 and i < len(source) else d for i, d in enumerate(dims)]
    total, rest = math.prod(source), math.prod(d for d in dims if d != -1)
    if dims.count(-1) == 1 and rest > 0 and total % rest == 0:
        dims[dims.index(-1)] = total // rest
    return tuple(dims) if min(dims, default=0) > 0 and math.prod(dims) == total else None


def import_reshape(node: Node, graph: GraphBuilder) -> None:
    """To a static shape, the batch stays on axis 0."""
    source = graph.activation(node, 0)
    target = graph.known.get(node.input(1))
    if target is None:
        graph.constant(node.input(1), "the shape")
        return
    allow_zero = bool(node.integer("allowzero", 0))
    made = [_reshaped(s, (b, *source), allow_zero) for s, b in zip(target.at, BATCHES, strict=True)]
    rest: Shape | None = None
    if made[0] and made[1] and [m[0] for m in made if m] == list(BATCHES) and made[0][1:] == made[1][1:]:
        rest = made[0][1:]
    elif graph.batch is not None and target.constant:
        # The file fixed its batch and wrote it into the shape.
        fixed = _reshaped(target.value, (graph.batch, *source), allow_zero)
        if fixed is not None and fixed[0] == graph.batch:
            rest = fixed[1:]
    if rest is None:
        shown = target.at[0].reshape(-1).tolist()
        raise Refusal(
            "operator-unsupported",
            f"reshaping [batch, {', '.join(map(str, source))}] to {shown} moves the batch or does not fit",
            _KEEP_BATCH,
        )
    _static_reshape(node, graph, rest)


def _static_reshape(node: Node, graph: GraphBuilder, rest: Shape) -> None:
    rest = (1,) if graph.keeps_one(node, rest) else rest
    patch = graph.patch(node)
    patch.inputs[1], patch.attributes["allowzero"] = np.array((0, *rest), dtype=np.int64), 0
    graph.add(node, Reshape(), (node.input(0),), rest)


def import_squeeze(node: Node, graph: GraphBuilder) -> None:
    """Named axes of size 1, not the batch; at the end of the network one may stay."""
    shape = graph.activation(node, 0)
    if not node.input(1):
        raise Refusal("operator-unsupported", "it squeezes every axis of size 1, the batch too", "name the axes")
    axes = {a + (len(shape) + 1 if a < 0 else 0) for a in graph.axes(node.input(1), "axes")}
    if 0 in axes or not all(1 <= a <= len(shape) and shape[a - 1] == 1 for a in axes):
        raise Refusal(
            "operator-unsupported", f"axes {sorted(axes)} of [batch, {shape}] cannot be squeezed", _KEEP_BATCH
        )
    rest = tuple(n for axis, n in enumerate(shape) if axis + 1 not in axes)
    if graph.keeps_one(node, rest):
        graph.patch(node).passes_on, rest = True, shape
    graph.add(node, Reshape(), (node.input(0),), rest)


def import_unsqueeze(node: Node, graph: GraphBuilder) -> None:
    """New axes of size 1 behind the batch."""
    shape = graph.activation(node, 0)
    given = graph.axes(node.input(1), "axes")
    rank = len(shape) + 1 + len(given)
    axes = {a + (rank if a < 0 else 0) for a in given}
    if 0 in axes or len(axes) != len(given) or not all(1 <= a < rank for a in axes):
        raise Refusal("operator-unsupported", f"axes {sorted(axes)} put something before the batch", _KEEP_BATCH)
    left = iter(shape)
    rest = tuple(1 if axis in axes else next(left) for axis in range(1, rank))
    graph.add(node, Reshape(), (node.input(0),), rest)


def import_transpose(node: Node, graph: GraphBuilder) -> None:
    """Any permutation that keeps the batch on axis 0."""
    shape = graph.activation(node, 0)
    perm = node.integers("perm", tuple(reversed(range(len(shape) + 1))))
    if sorted(perm) != list(range(len(shape) + 1)):
        raise Refusal("shape-invalid", f"perm {list(perm)} is no permutation of {len(shape) + 1} axes")
    if perm[0] != 0:
        raise Refusal("operator-unsupported", f"perm {list(perm)} moves the batch", _KEEP_BATCH)
    inner = tuple(axis - 1 for axis in perm[1:])
    graph.add(node, Transpose(inner), (node.input(0),), tuple(shape[axis] for axis in inner))


def import_pad(node: Node, graph: GraphBuilder) -> None:
    """Any mode, negative pads crop; not along the batch. Zeros go into the layers around it."""
    shape = graph.activation(node, 0)
    other = bool(node.input(2)) and np.any(graph.constant(node.input(2), "the padding value") != 0)
    if node.text("mode", "constant") != "constant" or other:
        import_copies(node, graph)
        return
    pads = graph.axes(node.input(1), "pads")
    rank = len(shape) + 1
    axes = graph.axes(node.input(3), "axes") if node.input(3) else tuple(range(rank))
    axes = tuple(a + (rank if a < 0 else 0) for a in axes)
    if len(pads) != 2 * len(axes) or not all(0 <= a < rank for a in axes) or len(set(axes)) != len(axes):
        raise Refusal("shape-invalid", f"{len(pads)} pads do not fit {len(axes)} axes of {rank}")
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis], after[axis] = pads[position], pads[position + len(axes)]
    if before[0] or after[0]:
        raise Refusal("operator-unsupported", "it pads the batch", _KEEP_BATCH)
    if any(n + min(b, 0) + min(a, 0) < 1 for n, b, a in zip(shape, before[1:], after[1:], strict=True)):
        raise Refusal("shape-invalid", f"pads {list(pads)} leave nothing of {list(shape)}")
    out = tuple(n + b + a for n, b, a in zip(shape, before[1:], after[1:], strict=True))
    graph.add(node, Pad(tuple(before[1:]), tuple(after[1:])), (node.input(0),), out)


def import_slice(node: Node, graph: GraphBuilder) -> None:
    """Constant bounds and steps; not along the batch."""
    shape = graph.activation(node, 0)
    rank = len(shape) + 1
    starts, ends = graph.axes(node.input(1), "starts"), graph.axes(node.input(2), "ends")
    axes = graph.axes(node.input(3), "axes") if node.input(3) else tuple(range(len(starts)))
    steps = graph.axes(node.input(4), "steps") if node.input(4) else (1,) * len(starts)
    axes = tuple(a + (rank if a < 0 else 0) for a in axes)
    if not len(starts) == len(ends) == len(axes) == len(steps) or not all(0 <= a < rank for a in axes):
        raise Refusal("shape-invalid", f"starts {list(starts)}, ends {list(ends)}, axes {list(axes)} do not fit")
    if 0 in axes:
        _keep_batch_whole(node, graph, starts, ends, steps, axes.index(0))
    if min(steps, default=1) < 1:
        import_copies(node, graph)
        return
    cuts = [(0, n, 1) for n in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis == 0:
            continue
        low, high, _ = slice(start, end, step).indices(shape[axis - 1])
        if high <= low:
            raise Refusal("shape-invalid", f"{start}:{end}:{step} leaves nothing of {shape[axis - 1]}")
        cuts[axis - 1] = (low, high, step)
    first, stop, stride = (tuple(cut[i] for cut in cuts) for i in range(3))
    out = tuple(len(range(*cut)) for cut in cuts)
    graph.add(node, Slice(first, stop, stride), (node.input(0),), out)


def _keep_batch_whole(
    node: Node, graph: GraphBuilder, starts: tuple[int, ...], ends: tuple[int, ...], steps: tuple[int, ...], at: int
) -> None:
    """A slice along the batch must take all of it: any batch, or the one that the file has fixed.

    Raises:
        Refusal: it does not.
    """

    def whole(batch: int) -> bool:
        return slice(starts[at], ends[at], steps[at]).indices(batch) == (0, batch, 1)

    if whole(2**31 - 1):
        return
    if graph.batch is None or not whole(graph.batch):
        raise Refusal("operator-unsupported", "it slices the batch", _KEEP_BATCH)
    free = [2**31 - 1 if position == at else end for position, end in enumerate(ends)]
    graph.patch(node).inputs[2] = np.array(free, dtype=np.int64)


def import_split(node: Node, graph: GraphBuilder) -> None:
    """Equal or constant parts, not along the batch."""
    shape = graph.activation(node, 0)
    axis = node.integer("axis", 0)
    axis += len(shape) + 1 if axis < 0 else 0
    if not 1 <= axis <= len(shape):
        raise Refusal("operator-unsupported", f"it splits axis {axis}, the batch or none", _KEEP_BATCH)
    count, total = len(node.proto.output), shape[axis - 1]
    if node.input(1):
        parts = graph.axes(node.input(1), "the sizes")
    else:
        # The last part is the smaller one where the parts cannot be equal.
        part = -(-total // count)
        parts = (*(part,) * (count - 1), total - part * (count - 1))
    if len(parts) != count or min(parts) < 1 or sum(parts) != total:
        raise Refusal("shape-invalid", f"{total} values do not split into {count} parts of {list(parts)}")
    start = 0
    for number, part in enumerate(parts):
        starts = tuple(start if a + 1 == axis else 0 for a in range(len(shape)))
        out = tuple(part if a + 1 == axis else n for a, n in enumerate(shape))
        stops = tuple(s + n for s, n in zip(starts, out, strict=True))
        graph.add_output(node, number, Slice(starts, stops, (1,) * len(shape)), (node.input(0),), out)
        start += part


def import_gather(node: Node, graph: GraphBuilder) -> None:
    """Constant places along one axis, not the batch."""
    shape = graph.activation(node, 0)
    axis = node.integer("axis", 0)
    axis += len(shape) + 1 if axis < 0 else 0
    if not 1 <= axis <= len(shape):
        raise Refusal("operator-unsupported", f"it gathers along axis {axis}, the batch or none", _KEEP_BATCH)
    places = graph.constant(node.input(1), "the places")
    total = shape[axis - 1]
    if places.dtype.kind not in "iu" or places.size < 1:
        raise Refusal("model-invalid", f"places {list(places.shape)} of {places.dtype}, they must be integers")
    index = places.reshape(-1).astype(np.int64)
    if index.min() < -total or index.max() >= total:
        raise Refusal("shape-invalid", f"places from {index.min()} to {index.max()} of {total}")
    source = np.arange(math.prod(shape)).reshape(shape).take(np.where(index < 0, index + total, index), axis=axis - 1)
    op = Linear(copying(source, shape), np.zeros(source.shape[0]))
    out = (*shape[: axis - 1], *places.shape, *shape[axis:])
    alone = graph.keeps_one(node, out)
    if alone:
        graph.patch(node).inputs[1] = places.reshape(1)
    if places.ndim == 1 or alone:
        graph.add(node, op, (node.input(0),), source.shape)
        return
    kept = graph.add_inner(node, "place", op, (node.input(0),), source.shape)
    graph.add(node, Reshape(), (kept,), out)


def import_concat(node: Node, graph: GraphBuilder) -> None:
    """Activations and constants, not along the batch."""
    names = list(node.proto.input)
    data = [name for name in names if name in graph.values]
    rank = len(graph.shape(data[0])) + 1
    axis = node.integer("axis", 1)
    axis += rank if axis < 0 else 0
    if not 1 <= axis < rank:
        raise Refusal("operator-unsupported", f"it joins along axis {axis}, the batch or none", _KEEP_BATCH)
    tensors, shapes = [], []
    for position, name in enumerate(names):
        if name in graph.values:
            tensors.append(name)
        else:
            value = _one_sample(graph, name)
            graph.patch(node).expanded[position] = value
            tensors.append(graph.add_inner(node, f"constant{position}", Constant(value), (), value.shape))
        shapes.append(graph.shape(tensors[-1]))
    around = {(s[: axis - 1], s[axis:]) for s in shapes}
    if len(around) != 1:
        raise Refusal("shape-invalid", f"shapes {[list(s) for s in shapes]} cannot be joined along axis {axis}")
    out = list(shapes[0])
    out[axis - 1] = sum(s[axis - 1] for s in shapes)
    graph.add(node, Concat(axis - 1), tuple(tensors), tuple(out))


def _one_sample(graph: GraphBuilder, tensor: str) -> Array:
    """A constant operand without its batch axis; it must be the same for every sample."""
    samples: list[Array] = []
    for array, batch in zip(graph.known[tensor].at, BATCHES, strict=True):
        if array.ndim < 2 or array.shape[0] not in (1, batch, graph.batch) or np.any(array != array[:1]):
            raise Refusal("operator-unsupported", f"a constant {list(array.shape)} differs between samples")
        samples.append(array[0].astype(np.float64))
    if samples[0].shape != samples[1].shape or np.any(samples[0] != samples[1]):
        raise Refusal("operator-unsupported", "a constant depends on the batch size")
    return samples[0]
