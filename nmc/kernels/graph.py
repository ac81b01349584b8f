"""The analog network in float64, in an order that is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from nmc.ir.connectivity import Array, Shape, size
from nmc.ir.layers import (
    Activation,
    Add,
    ArgMax,
    AveragePool,
    BatchNorm,
    Clip,
    Concat,
    Constant,
    Dequantize,
    Identity,
    Input,
    Layer,
    LayerGraph,
    LeakyRelu,
    Linear,
    Maximum,
    MaxPool,
    Pad,
    Quantize,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Transpose,
)
from nmc.ir.reference import per_channel, sigmoid
from nmc.ir.samples import parted
from nmc.kernels.functions import function_values
from nmc.kernels.parallel import parallel
from nmc.kernels.propagate import Plan, from_channels_last, plan, to_channels_last


def _pool_mean(op: AveragePool, x: Array, out_shape: Shape) -> Array:
    (kh, kw), (sy, sx), (top, left, bottom, right) = op.kernel, op.stride, op.pads
    height, width = x.shape[2:]
    # Ceiling mode: the last window may begin inside and end beyond the padded input.
    below = max((out_shape[1] - 1) * sy + kh - height - top, 0)
    beside = max((out_shape[2] - 1) * sx + kw - width - left, 0)
    padded = np.pad(x, ((0, 0), (0, 0), (top, below), (left, beside)))
    inside = np.zeros((height + top + below, width + left + beside))
    if op.count_pads:
        inside[: height + top + bottom, : width + left + right] = 1
    else:
        inside[top : top + height, left : left + width] = 1
    total = np.zeros((len(x), *out_shape))
    count = np.zeros(out_shape[1:])
    for ky in range(kh):
        for kx in range(kw):
            window = (slice(ky, ky + (out_shape[1] - 1) * sy + 1, sy), slice(kx, kx + (out_shape[2] - 1) * sx + 1, sx))
            total += padded[(slice(None), slice(None), *window)]
            count += inside[window]
    return total / count


def _pool_max(op: MaxPool, x: Array, out_shape: Shape) -> Array:
    (sy, sx), (dy, dx) = op.stride, op.dilation
    before, after = op.pads[:2], []
    for axis in (0, 1):
        reach = (out_shape[1 + axis] - 1) * op.stride[axis] + op.dilation[axis] * (op.kernel[axis] - 1) + 1
        after.append(max(reach - x.shape[2 + axis] - before[axis], 0))
    around = ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1]))
    padded = np.pad(x, around, constant_values=-np.inf)
    top = np.full((len(x), *out_shape), -np.inf)
    for ky in range(op.kernel[0]):
        for kx in range(op.kernel[1]):
            rows = slice(ky * dy, ky * dy + (out_shape[1] - 1) * sy + 1, sy)
            columns = slice(kx * dx, kx * dx + (out_shape[2] - 1) * sx + 1, sx)
            np.maximum(top, padded[:, :, rows, columns], out=top)
    return top


def _linear(op: Linear, x: Array, laid: Plan, out_shape: Shape) -> Array:
    connectivity = op.connectivity
    source = to_channels_last(x.reshape(len(x), *connectivity.in_shape), connectivity.in_shape)
    out = np.zeros((len(x), size(connectivity.out_shape)))
    parallel(lambda i: laid.add(source[i : i + 1], out[i : i + 1]), len(x))
    bias = per_channel(op.bias, connectivity.out_shape)
    return (from_channels_last(out, connectivity.out_shape) + bias).reshape(len(x), *out_shape)


def evaluate_layer(layer: Layer, values: list[Array]) -> Array:
    """One layer on batches of its inputs, in float64: (N, *shape)."""
    op = layer.op
    match op:
        case Linear():
            return _linear(op, values[0], plan(op.connectivity, np.float64), layer.shape)
        case BatchNorm():
            return values[0] * per_channel(op.scale, layer.shape) + per_channel(op.shift, layer.shape)
        case Relu():
            return np.maximum(values[0], 0.0)
        case Add():
            total: Array = values[0]
            for value in values[1:]:
                total = total + value
            return total
        case AveragePool():
            return _pool_mean(op, values[0], layer.shape)
        case MaxPool():
            return _pool_max(op, values[0], layer.shape)
        case Maximum():
            return np.asarray(np.max(np.stack(values), axis=0))
        case Clip(low, high):
            return np.clip(values[0], -np.inf if low is None else low, np.inf if high is None else high)
        case LeakyRelu(slope):
            return np.where(values[0] > 0, values[0], values[0] * per_channel(slope, layer.shape))
        case Activation(function, alpha, gamma):
            return function_values(function, values[0], alpha, gamma)
        case Quantize(scale, zero_point, least, most):
            return np.asarray(np.clip(np.rint(values[0] / scale) + zero_point, least, most))
        case Dequantize(scale, zero_point):
            return (values[0] - zero_point) * scale
        case Pad():
            pairs = list(zip(op.before, op.after, strict=True))
            cut = tuple(slice(max(-b, 0), n - max(-a, 0)) for (b, a), n in zip(pairs, values[0].shape[1:], strict=True))
            return np.pad(values[0][(slice(None), *cut)], [(0, 0), *((max(b, 0), max(a, 0)) for b, a in pairs)])
        case Slice():
            cut = tuple(slice(*axis) for axis in zip(op.starts, op.stops, op.steps, strict=True))
            return np.ascontiguousarray(values[0][(slice(None), *cut)])
        case Concat():
            return np.concatenate(values, axis=op.axis + 1)
        case Reshape():
            return values[0].reshape(len(values[0]), *layer.shape)
        case Transpose():
            return np.ascontiguousarray(values[0].transpose(0, *(axis + 1 for axis in op.perm)))
        case Identity():
            return values[0]
        case Softmax():
            exponent = np.exp(values[0] - values[0].max(axis=op.axis + 1, keepdims=True))
            return np.asarray(exponent / exponent.sum(axis=op.axis + 1, keepdims=True))
        case Sigmoid():
            return sigmoid(values[0])
        case ArgMax():
            places = values[0].argmax(axis=op.axis + 1)
            return np.asarray(places.reshape(len(values[0]), *layer.shape), dtype=np.float64)
        case Input() | Constant():
            raise TypeError("an input or constant is not computed")


def execute_graph(
    graph: LayerGraph, x: Array, names: Iterable[str], given: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Values of the named layers, (N, *shape) float64, in fixed order on every machine.

    Args:
        graph: any `LayerGraph`.
        x: (N, *input shape); several inputs joined (`nmc.ir.samples`).
        names: layers to return; memory of others is freed as soon as it can be.
        given: what the readers of some layers get instead of the layer's own value.
    """
    given = given or {}
    wanted = set(names)
    left = {name: len(users) for name, users in graph.users.items()}
    values: dict[str, Array] = {}
    parts = dict(zip(graph.inputs, parted(x, [layer.shape for layer in graph.inputs]), strict=True))
    for layer in graph.layers:
        if isinstance(layer.op, Input):
            values[layer.name] = parts[layer].astype(np.float64)
        elif isinstance(layer.op, Constant):
            values[layer.name] = np.broadcast_to(layer.op.value.astype(np.float64), (len(x), *layer.shape))
        else:
            values[layer.name] = evaluate_layer(layer, [given.get(name, values[name]) for name in layer.inputs])
        for name in layer.inputs:
            left[name] -= 1
            if left[name] == 0 and name not in wanted:
                values.pop(name, None)
    return {name: values[name] for name in wanted}
