"""Fold the quantization that a file brings along."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.layers import (
    BatchNorm,
    Clip,
    Concat,
    Dequantize,
    Head,
    Identity,
    Input,
    Layer,
    LayerGraph,
    MaxPool,
    Op,
    Quantize,
    Reshape,
    Slice,
    Transpose,
)
from nmc.ir.samples import parted
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, without_tensor

MOVES = Identity | Reshape | Transpose | Slice | MaxPool | Concat
"""What commutes with ``(x - zero_point) * scale``; a `Concat` of values of one step."""


@dataclass(frozen=True)
class FoldQuantization:
    """`Quantize` becomes a `Clip` to the range that its integers stand for, `Dequantize` disappears.

    The scale and zero point of the file decide the range; the chip's code of the messages rounds
    instead of the `Quantize`, so that the value differs by half a step of the file at the most,
    before rounding of its own. Two places need no clip:

    * behind the input, where no calibration input leaves the range: the code of the input has
      a range of its own;
    * behind a head, which the host computes.

    What lies between the two (movements, maxima) then carries real values instead of integers, so
    those layers have no tensor in the ONNX file any more.

    Attributes:
        approximates: the values change by this pass.
    """

    name: ClassVar[str] = "fold-quantization"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph
    approximates: ClassVar[bool] = True

    def run(self, program: Program, context: Context) -> Program:
        """Nearly the same values without `Quantize` and `Dequantize`."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, Quantize | Dequantize) for layer in graph.layers):
            return program
        return _Folding(graph, context.calibration.inputs).run()


class _Folding:
    """One run of the pass.

    Attributes:
        reach: by input, the least and the largest value of the calibration samples.
        steps: by layer whose integers have become real values: their (scale, zero point).
        codes: by layer, how its values are quantized.
        layers: the new ones.
    """

    def __init__(self, graph: LayerGraph, samples: Array) -> None:
        self.graph = graph
        parts = parted(samples, [layer.shape for layer in graph.inputs])
        reach = [(float(part.min()), float(part.max())) for part in parts]
        self.reach = {layer.name: ends for layer, ends in zip(graph.inputs, reach, strict=True)}
        self.taken = {layer.name for layer in graph.layers}
        self.steps: dict[str, tuple[float, int]] = {}
        self.codes: dict[str, Quantize] = {}
        self.layers: list[Layer] = []

    def run(self) -> LayerGraph:
        for layer in self.graph.layers:
            steps = {self.steps[name] for name in layer.inputs if name in self.steps}
            inside = len(steps) == 1 and all(name in self.steps for name in layer.inputs)
            match layer.op:
                case Quantize():
                    self._quantized(layer, layer.op)
                case Dequantize(scale, zero_point):
                    self.layers.append(
                        replace(layer, op=_rescaled(layer, next(iter(steps), (1.0, 0)), scale, zero_point))
                    )
                case op if isinstance(op, MOVES) and inside:
                    self.layers.append(replace(layer, origin=without_tensor(layer.origin)))
                    self.steps[layer.name] = next(iter(steps))
                case _:
                    self.layers.append(replace(layer, inputs=tuple(self._integers(name) for name in layer.inputs)))
        # The integers of an output become a layer of their own before the graph is rebuilt.
        outputs = tuple(self._integers(name) for name in self.graph.outputs)
        for layer in self.graph.inputs:
            self._mark_input(layer)
        return replace(rebuilt(self.graph, self.layers, outputs=outputs), codes=self.codes)

    def _quantized(self, layer: Layer, op: Quantize) -> None:
        low, high = ((end - op.zero_point) * op.scale for end in (op.low, op.high))
        source = self._integers(layer.inputs[0])
        behind = self._root(layer.inputs[0])
        half = op.scale / 2
        unclipped = isinstance(behind.op, Head) or (
            isinstance(behind.op, Input)
            and low - half <= self.reach[behind.name][0]
            and self.reach[behind.name][1] <= high + half
        )
        kept: Op = Identity() if unclipped else Clip(low, high)
        readers = [self.graph.by_name[name] for name in self.graph.users[layer.name]]
        same = [r.origin.output for r in readers if r.op == Dequantize(op.scale, op.zero_point)]
        origin = replace(layer.origin, output=next(iter(same), ""))
        self.layers.append(replace(layer, op=kept, inputs=(source,), origin=origin))
        self.steps[layer.name] = (op.scale, op.zero_point)
        if not unclipped:
            self.codes[layer.name] = op

    def _mark_input(self, layer: Layer) -> None:
        """An input that all its readers quantize alike has their code, unless its values leave the code's range."""
        found, moved = set(), [layer.name]
        while moved:
            for name in self.graph.users[moved.pop()]:
                reader = self.graph.by_name[name]
                if isinstance(reader.op, Identity | Reshape | Transpose):
                    moved.append(name)
                else:
                    found.add((reader.op if isinstance(reader.op, Quantize) else None, name in self.codes))
        code, clipped = next(iter(found), (None, True))
        if len(found) == 1 and code is not None and not clipped:
            self.codes[layer.name] = code

    def _root(self, name: str) -> Layer:
        """What a value is, before it was moved."""
        layer = self.graph.by_name[name]
        while isinstance(layer.op, Identity | Reshape | Transpose | Quantize | Dequantize):
            layer = self.graph.by_name[layer.inputs[0]]
        return layer

    def _integers(self, name: str) -> str:
        """The layer with the integers that a reader wants which does not dequantize them."""
        if name not in self.steps:
            return name
        scale, zero_point = self.steps[name]
        layer = self.graph.by_name[name]
        made = fresh_name(f"{name}/integers", self.taken)
        op = _affine(layer, 1.0 / scale, float(zero_point))
        self.layers.append(Layer(made, op, (name,), layer.shape, without_tensor(layer.origin)))
        return made


def _affine(layer: Layer, scale: float, shift: float) -> BatchNorm:
    return BatchNorm(np.full(layer.shape[0], scale), np.full(layer.shape[0], shift))


def _rescaled(layer: Layer, step: tuple[float, int], scale: float, zero_point: int) -> Op:
    """From real values of one step to those that another step makes of the same integers."""
    if step == (scale, zero_point):
        return Identity()
    return _affine(layer, scale / step[0], (step[1] - zero_point) * scale)
