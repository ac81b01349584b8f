"""Pool over the depth of a volume without leaving its slices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, Conv2d, Shape
from nmc.ir.layers import AveragePool, Layer, LayerGraph, Linear, Maximum, MaxPool, Reshape
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, without_tensor


@dataclass(frozen=True)
class PoolSlices:
    """A pooling over the first axis of (C, D, H * W) becomes one over the channels of (C * D, H, W).

    A volume is read as an image of C * D channels. Pooling over its depth looks at (C, D, H * W),
    which has the same C order but another shape, so that a convolution behind it would have to be
    stored synapse by synapse. Over (C * D, H, W) a maximum is one of as many values as the
    window has slices, and a mean is a 1x1 convolution.
    """

    name: ClassVar[str] = "pool-slices"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values; the same object where nothing pools over slices."""
        graph = as_graph(program)
        taken = {layer.name for layer in graph.layers}
        layers: list[Layer] = []
        for layer in graph.layers:
            image = _image_behind(layer, graph)
            layers.extend([layer] if image is None else _pooled(layer, image, graph, taken))
        return program if len(layers) == len(graph.layers) else rebuilt(graph, layers)


def _image_behind(layer: Layer, graph: LayerGraph) -> Layer | None:
    """The layer (C * D, H, W) that a pooling over depth sees as (C, D, H * W)."""
    op = layer.op
    if not isinstance(op, MaxPool | AveragePool):
        return None
    across = (op.kernel[1], op.stride[1], op.pads[1], op.pads[3])
    if across != (1, 1, 0, 0):
        return None
    seen = graph.by_name[layer.inputs[0]]
    source = seen
    while isinstance(source.op, Reshape):
        source = graph.by_name[source.inputs[0]]
        if len(source.shape) == 3 and source.shape[0] == seen.shape[0] * seen.shape[1]:
            return source
    return None


def _pooled(layer: Layer, image: Layer, graph: LayerGraph, taken: set[str]) -> list[Layer]:
    op = layer.op
    channels, depth = graph.by_name[layer.inputs[0]].shape[:2]
    shape = (channels * layer.shape[1], *image.shape[1:])
    origin = without_tensor(layer.origin)
    name = fresh_name(f"{layer.name}/slices", taken)
    made: list[Layer] = []
    if isinstance(op, AveragePool):
        conv = _mixed(_shares(op, depth, layer.shape[1]), image.shape, channels)
        made = [Layer(name, Linear(conv, np.zeros(shape[0])), (image.name,), shape, origin)]
    elif isinstance(op, MaxPool):
        for tap in range(op.kernel[0]):
            conv = _mixed(_picked(op, depth, layer.shape[1], tap), image.shape, channels)
            pick = fresh_name(f"{layer.name}/slice{tap}", taken)
            made.append(Layer(pick, Linear(conv, np.zeros(shape[0])), (image.name,), shape, origin))
        if len(made) == 1:
            name = made[0].name
        else:
            made.append(Layer(name, Maximum(), tuple(part.name for part in made), shape, origin))
    return [*made, replace(layer, op=Reshape(), inputs=(name,))]


def _mixed(weight: Array, shape: Shape, channels: int) -> Conv2d:
    """The same sums of slices in each of the C channels: ``weight`` (D', D)."""
    kernel = np.tile(weight, (channels, 1))[:, :, None, None]
    return Conv2d(kernel, shape, groups=channels)


def _shares(op: AveragePool, depth: int, count: int) -> Array:
    weight = np.zeros((count, depth))
    for number in range(count):
        start = number * op.stride[0] - op.pads[0]
        stop = start + op.kernel[0]
        inside = range(max(start, 0), min(stop, depth))
        # Padding counts if asked; what a ceiling window reaches beyond it never does.
        weight[number, inside] = 1.0 / (min(stop, depth + op.pads[2]) - start if op.count_pads else len(inside))
    return weight


def _picked(op: MaxPool, depth: int, count: int, tap: int) -> Array:
    """One slice of each window; outside the volume the nearest, which the window holds anyway."""
    weight = np.zeros((count, depth))
    for number in range(count):
        place = number * op.stride[0] - op.pads[0] + tap * op.dilation[0]
        weight[number, min(max(place, 0), depth - 1)] = 1.0
    return weight
