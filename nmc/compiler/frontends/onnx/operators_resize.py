"""Importers of what makes images larger: Resize, and the transposed convolution."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, helper

from nmc.compiler.frontends.onnx.fold import BATCHES, FoldError, fold, known
from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.operators_linear import SMALLER, bias_of, check_synapses, real
from nmc.compiler.frontends.onnx.operators_move import probed, with_inputs
from nmc.ir.connectivity import Array, Connectivity, Conv2d, Shape, Sparse, sparse_from_synapses
from nmc.ir.layers import Linear

PROBE_MAX = 2**24
"""Numbers of a probe of a whole activation (64 MiB)."""


def import_resize(node: Node, graph: GraphBuilder) -> None:
    """Nearest, linear and cubic, any coordinates and scales: a fixed linear map along each axis."""
    shape = graph.activation(node, 0)
    if node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise Refusal("operator-unsupported", "it crops while it resizes", "crop with a Slice before it")
    sizes = graph.axes(node.input(3), "the sizes") if node.input(3) and node.input(3) in graph.known else ()
    if len(sizes) == len(shape) + 1 and graph.batch == sizes[0]:
        # The file fixed its batch and wrote it into the sizes; factors say the same for any batch.
        factors = np.array([1.0, *(_factor(n, m) for n, m in zip(shape, sizes[1:], strict=True))], dtype=np.float32)
        patch = graph.patch(node)
        patch.inputs[2], patch.dropped = factors, {3}
        node = with_inputs(node, graph, {2: patch.inputs[2], 3: None})
    zeros = [np.zeros((batch, *shape), dtype=np.float32) for batch in BATCHES]
    made = probed(node, graph, (zeros[0], zeros[1]))
    out = made.at[0].shape[1:]
    if any(at.shape != (batch, *out) for at, batch in zip(made.at, BATCHES, strict=True)):
        raise Refusal("operator-unsupported", "it resizes the batch", "keep the batch on axis 0 and leave it alone")
    maps = [_axis_map(node, graph, axis, shape[axis], out[axis]) for axis in range(len(shape))]
    graph.add(node, Linear(along_axes(maps), np.zeros(out[0])), (node.input(0),), out)


def _factor(size: int, wanted: int) -> np.float32:
    """The factor in float32 that makes ``wanted`` of ``size``, where the product is rounded down."""
    factor = np.float32(wanted / size)
    while int(float(factor) * size) < wanted:
        factor = np.nextafter(factor, np.float32(np.inf), dtype=np.float32)
    return np.float32(factor)


def import_upsample(node: Node, graph: GraphBuilder) -> None:
    """Of older opsets; read as Resize."""
    import_resize(node, graph)


def _axis_map(node: Node, graph: GraphBuilder, axis: int, size: int, wanted: int) -> Array:
    """What a Resize does along one axis, as a matrix (wanted, size)."""
    scale = _scale(node, graph, axis)
    if scale is not None and int(np.float32(scale) * np.float32(size)) != wanted:
        # A factor that follows from the sizes of other axes is rounded as no factor that is named.
        return _whole_map(node, graph, axis, scale)
    if size == wanted and scale in (None, 1.0):
        return np.eye(size)
    left_out = ("axes", "keep_aspect_ratio_policy")
    # The samples of this probe are the unit vectors along the axis.
    values = {"x": known(np.eye(size, dtype=np.float32).reshape(size, 1, 1, size))}
    if scale is not None:
        values["scales"] = known(np.array([1, 1, 1, scale], dtype=np.float32))
        names = ["x", "", "scales"]
    else:
        values["sizes"] = known(np.array([size, 1, 1, wanted], dtype=np.int64))
        names = ["x", "", "", "sizes"]
    probe: NodeProto = helper.make_node("Resize", names, ["y"])
    probe.attribute.extend(attribute for attribute in node.proto.attribute if attribute.name not in left_out)
    try:
        made = fold(probe, values, graph.opset)["y"].value
    except FoldError as error:
        raise Refusal("operator-unsupported", f"ONNX Runtime cannot resize one axis: {error}", SMALLER) from error
    return np.asarray(made.reshape(size, wanted).T, dtype=np.float64)


def _whole_map(node: Node, graph: GraphBuilder, axis: int, scale: float) -> Array:
    """`_axis_map`, of the node as it is: other axes hold ones, which every interpolation keeps."""
    shape = graph.activation(node, 0)
    size = shape[axis]
    if not node.input(3) or 0 in node.integers("axes", (0,)) or math.prod(shape) * size > PROBE_MAX:
        raise Refusal("operator-unsupported", f"it resizes {size} by the factor {scale:g}", "name the sizes")
    units = np.eye(size, dtype=np.float32).reshape(size, *(size if a == axis else 1 for a in range(len(shape))))
    units = np.ascontiguousarray(np.broadcast_to(units, (size, *shape)))
    made = np.moveaxis(probed(node, graph, (units, units)).at[0], axis + 1, -1)
    return np.asarray(made.reshape(size, -1, made.shape[-1])[:, 0].T, dtype=np.float64)


def _scale(node: Node, graph: GraphBuilder, axis: int) -> float | None:
    """The factor that a node names for an axis; None where it names sizes."""
    shape = graph.activation(node, 0)
    rank = len(shape) + 1
    axes = [a + (rank if a < 0 else 0) for a in node.integers("axes", tuple(range(rank)))]
    scales = graph.known[node.input(2)].at[0].reshape(-1) if node.input(2) else np.zeros(0)
    if not len(scales):
        policy = node.text("keep_aspect_ratio_policy", "stretch")
        if policy == "stretch":
            return None
        # One factor for all axes that are named, the smallest or the largest that they ask for.
        sizes = graph.axes(node.input(3), "the sizes")
        asked = [wanted / shape[a - 1] for wanted, a in zip(sizes, axes, strict=True) if a > 0]
        scales = np.full(len(axes), min(asked) if policy == "not_larger" else max(asked))
    return float(scales[axes.index(axis + 1)]) if axis + 1 in axes else 1.0


def along_axes(maps: list[Array]) -> Sparse:
    """One matrix (wanted, size) applied along each axis.

    Raises:
        Refusal: it takes more than `SYNAPSES_MAX` synapses.
    """
    out, shape = tuple(len(matrix) for matrix in maps), tuple(matrix.shape[1] for matrix in maps)
    entries = [np.nonzero(matrix) for matrix in maps]
    check_synapses(math.prod(len(rows) for rows, _ in entries))
    target, source, weight = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.ones(1)
    for matrix, (rows, columns), n, m in zip(maps, entries, shape, out, strict=True):
        target = (target[:, None] * m + rows).reshape(-1)
        source = (source[:, None] * n + columns).reshape(-1)
        weight = (weight[:, None] * matrix[rows, columns]).reshape(-1)
    return sparse_from_synapses(target, source, weight, shape, out)


def import_conv_transpose(node: Node, graph: GraphBuilder) -> None:
    """1-D to 3-D, constant kernel; groups, strides, dilations, pads, output_padding, output_shape, auto_pad."""
    shape = graph.activation(node, 0)
    weight = real(graph.constant(node.input(1), "the kernel"), "the kernel")
    axes = len(shape) - 1
    groups = node.integer("group", 1)
    if axes not in (1, 2, 3) or weight.ndim != axes + 2 or min(weight.shape) < 1:
        raise Refusal("shape-invalid", f"a kernel {list(weight.shape)} does not fit an input {list(shape)}")
    if groups < 1 or weight.shape[0] != shape[0] or shape[0] % groups:
        raise Refusal(
            "shape-invalid",
            f"a kernel {list(weight.shape)} with {groups} groups does not fit an input of {shape[0]} channels",
        )
    kernel = weight.shape[2:]
    if node.integers("kernel_shape", kernel) != kernel:
        raise Refusal("shape-invalid", f"kernel_shape contradicts the kernel {list(weight.shape)}")
    zeros = [np.zeros((batch, *shape), dtype=np.float32) for batch in BATCHES]
    spread = probed(node, graph, (zeros[0], zeros[1])).at[0].shape[2:]
    channels = weight.shape[1] * groups
    bias, out = bias_of(node, graph, channels), (channels, *spread)
    begins = _begins(node, shape[1:], kernel, spread)
    connectivity = _transposed(node, weight, shape, out, begins, groups)
    graph.add(node, Linear(connectivity, bias), (node.input(0),), out)


def _begins(node: Node, sizes: Shape, kernel: Shape, out: Shape) -> tuple[int, ...]:
    """The pads before the output along each axis: what is cut off there."""
    axes = len(sizes)
    strides, dilations = node.integers("strides", (1,) * axes), node.integers("dilations", (1,) * axes)
    added = node.integers("output_padding", (0,) * axes)
    mode = node.text("auto_pad", "NOTSET")
    pads = node.integers("pads", (0,) * (2 * axes))
    begins = []
    for axis in range(axes):
        whole = strides[axis] * (sizes[axis] - 1) + added[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = max(whole - out[axis], 0)
        if mode in ("NOTSET", "") and not node.integers("output_shape", ()):
            begins.append(pads[axis])
        elif mode == "VALID":
            begins.append(0)
        else:
            begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return tuple(begins)


def _transposed(
    node: Node, weight: Array, shape: Shape, out: Shape, begins: tuple[int, ...], groups: int
) -> Connectivity:
    """Input i adds ``weight[k]`` times itself to output ``stride * i + dilation * k - begin``."""
    axes = len(shape) - 1
    strides, dilations = node.integers("strides", (1,) * axes), node.integers("dilations", (1,) * axes)
    kernel = weight.shape[2:]
    # With stride 1 it is a convolution with the kernel turned round.
    spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    pads = [(s - b, o - n + b) for s, b, o, n in zip(spans, begins, out[1:], shape[1:], strict=True)]
    if axes == 2 and set(strides) == {1} and min(min(pair) for pair in pads) >= 0:
        parts = weight.reshape(groups, shape[0] // groups, weight.shape[1], *kernel)
        flipped = parts.transpose(0, 2, 1, 3, 4)[:, :, :, ::-1, ::-1].reshape(out[0], shape[0] // groups, *kernel)
        around = (pads[0][0], pads[1][0], pads[0][1], pads[1][1])
        return Conv2d(flipped.copy(), shape, (1, 1), around, (dilations[0], dilations[1]), groups)
    check_synapses(weight.size * math.prod(shape[1:]))
    per_group = weight.shape[1]
    channel, made, *taps = (a.reshape(-1) for a in np.meshgrid(*(np.arange(n) for n in weight.shape), indexing="ij"))
    source: Array = channel[:, None]
    target: Array = (source // (shape[0] // groups)) * per_group + made[:, None]
    values, inside = weight.reshape(-1, 1), np.ones((weight.size, 1), dtype=bool)
    for axis in range(axes):
        place = np.arange(shape[axis + 1])
        reached = strides[axis] * place + (dilations[axis] * taps[axis] - begins[axis])[:, None]
        rows = len(target)
        inside = (inside[:, :, None] & ((reached >= 0) & (reached < out[axis + 1]))[:, None, :]).reshape(rows, -1)
        target = (target[:, :, None] * out[axis + 1] + reached[:, None, :]).reshape(rows, -1)
        source = (source[:, :, None] * shape[axis + 1] + place[None, None, :]).reshape(rows, -1)
    values = np.broadcast_to(values, inside.shape)
    return sparse_from_synapses(target[inside], source[inside], values[inside], shape, out)
