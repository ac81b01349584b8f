"""Importers of the operators that carry weights."""

from __future__ import annotations

import numpy as np

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.window import ImageView, Window, WindowAxis, resolve_axes
from nmc.ir.connectivity import Array, Conv2d, Dense, Shape, Sparse, size, sparse_from_synapses
from nmc.ir.layers import Add, BatchNorm, Linear, Reshape, Transpose
from nmc.ir.uniform import is_uniform

_MOVE_BATCH = "keep the batch on axis 0 and put the weights second"


def real(array: Array, what: str) -> Array:
    """A weight in float64; one of `LARGE` elements or more as the file has it, not copied.

    Raises:
        Refusal: it is no floating-point tensor, or holds numbers that are not finite.
    """
    if array.dtype.kind != "f":
        raise Refusal(
            "operator-unsupported", f"{what} is {array.dtype}, not a floating-point tensor", "export the float model"
        )
    if not np.all(np.isfinite(array.reshape(-1)[:1] if is_uniform(array) else array)):
        raise Refusal("model-weights-not-finite", f"{what} holds NaN or infinite numbers", "export a good checkpoint")
    if array.size >= LARGE and is_uniform(array):
        return np.broadcast_to(array.reshape(-1)[0].astype(np.float64), array.shape)
    return array if array.size >= LARGE else array.astype(np.float64)


def _in_order(array: Array) -> Array:
    """An array in C order; one of one value needs none."""
    return array if is_uniform(array) else np.ascontiguousarray(array)


LARGE = 1 << 22
"""Weights that keep the precision of the file, and take no memory beside it (16 MiB of float32)."""

SYNAPSES_MAX = 50_000_000
"""Single synapses of a layer that is no convolution and no matrix (1.2 GB while they are made)."""

SMALLER = "make the activation smaller, or end the model before it"


def check_synapses(synapses: int) -> None:
    """Refuse what takes too many single synapses.

    Raises:
        Refusal: there are more than `SYNAPSES_MAX`.
    """
    if synapses > SYNAPSES_MAX:
        raise Refusal(
            "operator-unsupported", f"it needs {synapses} single synapses, the limit is {SYNAPSES_MAX}", SMALLER
        )


KERNEL_MAX = 2**26
"""Weights of a 2-D kernel that stands for a 3-D one (512 MiB)."""


def import_conv(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D, constant kernel; groups, strides, dilations, any padding, auto_pad."""
    view = ImageView(node, graph)
    channels = view.shape[0]
    weight = real(graph.constant(node.input(1), "the kernel"), "the kernel")
    groups = node.integer("group", 1)
    if weight.ndim != len(view.shape) + 1 or min(weight.shape) < 1:
        raise Refusal(
            "shape-invalid", f"the kernel has the shape {list(weight.shape)}, it must have {len(view.shape) + 1} axes"
        )
    if groups < 1 or weight.shape[0] % groups or weight.shape[1] * groups != channels:
        raise Refusal(
            "shape-invalid",
            f"a kernel {list(weight.shape)} with {groups} groups does not fit an input of {channels} channels",
        )
    own = weight.shape[2:]
    if node.integers("kernel_shape", own) != own:
        raise Refusal(
            "shape-invalid",
            f"kernel_shape {list(node.integers('kernel_shape', own))} contradicts the kernel {list(weight.shape)}",
        )
    axes = resolve_axes(node, view.sizes, own)
    bias = bias_of(node, graph, weight.shape[0])
    y, x = (WindowAxis(1), *axes)[-2:]
    if len(axes) == 3:
        weight, bias = _banded(weight, axes[0]), np.repeat(bias, axes[0].count())
    window = Window.of(y, x)
    kernel = weight.reshape(*weight.shape[:2], *window.kernel)
    connectivity = Conv2d(kernel, graph.shape(view.source), window.stride, window.pads, window.dilation, groups)
    out = (weight.shape[0] // (axes[0].count() if len(axes) == 3 else 1), *(axis.count() for axis in axes))
    view.finish(Linear(connectivity, bias), connectivity.out_shape, out)


def bias_of(node: Node, graph: GraphBuilder, channels: int) -> Array:
    """The constant bias of a convolution, (channels,); zeros where it has none."""
    if not node.input(2):
        return np.zeros(channels)
    bias = real(graph.constant(node.input(2), "the bias"), "the bias")
    if bias.shape != (channels,):
        raise Refusal("shape-invalid", f"a bias {list(bias.shape)} does not fit {channels} channels")
    return bias


def _banded(weight: Array, depth: WindowAxis) -> Array:
    """A kernel over slices: (out * D', in / groups * D, kh, kw), where each output slice reads its band of slices."""
    out, per_group, taps, *rest = weight.shape
    slices = depth.count()
    size = out * slices * per_group * depth.size * rest[0] * rest[1]
    if size > KERNEL_MAX:
        raise Refusal(
            "operator-unsupported",
            f"over {depth.size} slices it needs a 2-D kernel of {size} weights, the limit is {KERNEL_MAX}",
            "use fewer slices or channels",
        )
    banded = np.zeros((out, slices, per_group, depth.size, *rest))
    for number in range(slices):
        for tap in range(taps):
            place = number * depth.stride - depth.before + tap * depth.dilation
            if 0 <= place < depth.size:
                banded[:, number, :, place] = weight[:, :, tap]
    return banded.reshape(out * slices, per_group * depth.size, *rest)


def import_gemm(node: Node, graph: GraphBuilder) -> None:
    """Data times constant; transB, alpha, beta; the bias an activation, or a constant without batch."""
    shape = graph.activation(node, 0)
    if len(shape) != 1:
        raise Refusal("shape-invalid", f"its input has {len(shape) + 1} axes, it must have 2", "flatten it first")
    if node.integer("transA", 0):
        raise Refusal("operator-unsupported", "transA moves the batch away from axis 0", _MOVE_BATCH)
    weight = real(graph.constant(node.input(1), "the weight"), "the weight")
    if weight.ndim != 2:
        raise Refusal("shape-invalid", f"the weight has the shape {list(weight.shape)}, it must have 2 axes")
    weight, alpha = weight if node.integer("transB", 0) else weight.T, node.number("alpha", 1.0)
    weight = weight if alpha == 1.0 else weight * alpha
    if weight.shape[1] != shape[0]:
        raise Refusal("shape-invalid", f"a weight for {weight.shape[1]} inputs does not fit {shape[0]} features")
    out = weight.shape[:1]
    bias = np.zeros(out)
    if node.input(2) and node.input(2) not in graph.values:
        added = real(graph.constant(node.input(2), "the bias"), "the bias")
        if added.ndim > 2 or added.shape[-1:] not in ((), (1,), out) or (added.ndim == 2 and added.shape[0] != 1):
            raise Refusal("shape-invalid", f"a bias {list(added.shape)} does not fit {out[0]} outputs")
        bias = np.broadcast_to(added.reshape(-1), out) * node.number("beta", 1.0)
    linear = Linear(Dense(_in_order(weight), shape, out), np.array(bias))
    if node.input(2) not in graph.values:
        graph.add(node, linear, (node.input(0),), out)
        return
    product = graph.add_inner(node, "product", linear, (node.input(0),), out)
    graph.add(node, Add(), (product, _computed_bias(node, graph, out)), out)


def _computed_bias(node: Node, graph: GraphBuilder, out: Shape) -> str:
    """The bias of a Gemm that is an activation, times beta."""
    shape = graph.shape(node.input(2))
    if shape not in (out, (1,)):
        raise Refusal("shape-invalid", f"a bias [batch, {', '.join(map(str, shape))}] does not fit {out[0]} outputs")
    spread = np.eye(out[0]) if shape == out else np.ones((*out, 1))
    linear = Linear(Dense(spread * node.number("beta", 1.0), shape, out), np.zeros(out))
    return graph.add_inner(node, "bias", linear, (node.input(2),), out)


def import_matmul(node: Node, graph: GraphBuilder) -> None:
    """Data times a constant matrix, over the last axis; or a constant matrix times data, over the last but one."""
    if node.input(0) in graph.values:
        _times_matrix(node, graph)
        return
    shape = graph.activation(node, 1)
    weight = _matrix(real(graph.constant(node.input(0), "the first factor"), "the first factor"))
    if len(shape) < 2 or weight.ndim != 2 or weight.shape[1] != shape[-2]:
        raise Refusal(
            "operator-unsupported",
            f"a factor {list(weight.shape)} before [batch, {', '.join(map(str, shape))}] mixes samples or does not fit",
            "exchange the operands",
        )
    perm = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    turned = graph.add_inner(node, "turned", Transpose(perm), (node.input(1),), (*shape[:-2], shape[-1], shape[-2]))
    made = (*shape[:-2], shape[-1], weight.shape[0])
    linear = _over_last(weight.T, graph.shape(turned))
    product = graph.add_inner(node, "product", Linear(linear, np.zeros(made[0])), (turned,), made)
    graph.add(node, Transpose(perm), (product,), (*shape[:-2], weight.shape[0], shape[-1]))


def _matrix(weight: Array) -> Array:
    """Without leading axes of size 1."""
    single = weight.ndim > 2 and weight.size == size(weight.shape[-2:])
    return weight.reshape(weight.shape[-2:]) if single else weight


def _times_matrix(node: Node, graph: GraphBuilder) -> None:
    shape = graph.activation(node, 0)
    given = real(graph.constant(node.input(1), "the second factor"), "the second factor")
    weight = given[:, None] if given.ndim == 1 else given
    if weight.ndim <= len(shape) + 1:
        weight = _matrix(weight)
    if weight.ndim < 2 or weight.shape[-2] != shape[-1]:
        raise Refusal(
            "shape-invalid",
            f"a factor {list(given.shape)} does not fit {shape[-1]} features; it must be a matrix with as many rows",
        )
    connectivity = _over_last(weight, shape) if weight.ndim == 2 else _stacked(weight, shape)
    made, bias = connectivity.out_shape, np.zeros(connectivity.out_shape[0])
    if given.ndim == 1 and graph.keeps_one(node, made[:-1]):
        graph.patch(node).inputs[1] = weight.astype(np.float32)
    elif given.ndim == 1:
        product = graph.add_inner(node, "product", Linear(connectivity, bias), (node.input(0),), made)
        graph.add(node, Reshape(), (product,), made[:-1])
        return
    graph.add(node, Linear(connectivity, bias), (node.input(0),), made)


def _stacked(weight: Array, shape: Shape) -> Sparse:
    """``x @ weight`` for x of this shape and a stack of matrices, broadcast as in numpy.

    Raises:
        Refusal: the stack differs between samples, does not fit, or is too large.
    """
    if weight.ndim == len(shape) + 1 and weight.shape[0] == 1:
        weight = weight[0]
    try:
        stack = np.broadcast_shapes(shape[:-2], weight.shape[:-2])
    except ValueError:
        stack = ()
    if weight.ndim > len(shape) or len(stack) != len(shape) - 2:
        raise Refusal(
            "operator-unsupported",
            f"a factor {list(weight.shape)} behind [batch, {', '.join(map(str, shape))}] differs between samples or "
            "does not fit",
            "multiply by one matrix",
        )
    rows, inner, columns = shape[-2], shape[-1], weight.shape[-1]
    out = (*stack, rows, columns)
    check_synapses(size(out) * inner)
    source = np.broadcast_to(np.arange(size(shape)).reshape(shape), (*stack, rows, inner))[..., None]
    target = np.arange(size(out)).reshape(out)[..., None, :]
    terms = (*stack, rows, inner, columns)
    each = [np.broadcast_to(a, terms).reshape(-1) for a in (target, source, weight[..., None, :, :])]
    return sparse_from_synapses(each[0], each[1], each[2], shape, out)


def _over_last(weight: Array, shape: Shape) -> Dense | Sparse:
    """``x @ weight`` for x of this shape."""
    out = (*shape[:-1], weight.shape[1])
    if len(shape) == 1:
        return Dense(_in_order(weight.T), shape, out)
    rows, columns = (a.reshape(-1) for a in np.meshgrid(*(np.arange(n) for n in weight.shape), indexing="ij"))
    block = np.arange(size(shape[:-1]))[:, None]
    return sparse_from_synapses(
        (block * weight.shape[1] + columns).reshape(-1),
        (block * weight.shape[0] + rows).reshape(-1),
        np.broadcast_to(weight.reshape(-1), (len(block), weight.size)).reshape(-1),
        shape,
        out,
    )


def import_batch_normalization(node: Node, graph: GraphBuilder) -> None:
    """At inference: running statistics as constants."""
    shape = graph.activation(node, 0)
    if node.integer("training_mode", 0) or any(graph.is_used(name) for name in node.proto.output[1:] if name):
        raise Refusal(
            "operator-unsupported", "it normalises with the statistics of the batch", "export in evaluation mode"
        )
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (
        real(graph.constant(node.input(i + 1), f"the {name}"), f"the {name}") for i, name in enumerate(names)
    )
    for name, array in zip(names, (gamma, beta, mean, variance), strict=True):
        if array.shape != shape[:1]:
            raise Refusal("shape-invalid", f"the {name} {list(array.shape)} does not fit {shape[0]} channels")
    floor = variance + node.number("epsilon", 1e-5)
    if np.any(floor <= 0):
        raise Refusal("model-invalid", f"a variance plus epsilon is {floor.min():g}, it must be positive")
    scale = gamma / np.sqrt(floor)
    graph.add(node, BatchNorm(scale, beta - mean * scale), (node.input(0),), shape)
