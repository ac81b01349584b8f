"""Approximate smooth activations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, Skip
from nmc.ir.layers import Activation, Add, Layer, LayerGraph, Linear, Op, Relu
from nmc.kernels.functions import asymptotes, function_values
from nmc.passes.base import Context, Program
from nmc.passes.simplify.polyline import POINTS, Polyline, fit_polyline
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, without_tensor

BEYOND = 0.1
"""The range is this much wider than the calibrated one at both ends."""

ASSUMED = 8.0
"""Without calibration data the range reaches this far at least: all that saturates does so before."""

RAMP = 1 / 128
"""Width of what stands for a jump, as part of the calibrated range beyond it: messages have some 8 steps there."""


@dataclass(frozen=True)
class ApproximateActivation:
    """`Activation` becomes a sum of ReLUs: the polyline with few corners whose largest error is small.

    The range is the calibrated one of the values that the function reads; beyond it the outer
    pieces go on. Each corner takes a population of its own.

    Attributes:
        error: largest error that is aimed at, relative to the standard deviation of the
            function's values on the calibration inputs.
        most: ReLUs for each neuron at the most; then the error is larger.
        relay: the sum gets neurons of its own, so that its readers need one synapse instead of
            one for each ReLU.
        approximates: the values change by this pass.
    """

    error: float = 0.02
    most: int = 16
    relay: bool = True

    name: ClassVar[str] = "approximate-activation"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph
    approximates: ClassVar[bool] = True

    def run(self, program: Program, context: Context) -> Program:
        """Nearly the same values without `Activation`; a warning for each with its largest error."""
        graph = as_graph(program)
        smooth = [layer for layer in graph.layers if isinstance(layer.op, Activation)]
        if not smooth:
            return program
        read = context.calibration.activations([layer.inputs[0] for layer in smooth])
        taken = {layer.name for layer in graph.layers}
        layers: list[Layer] = []
        for layer in graph.layers:
            if not isinstance(layer.op, Activation):
                layers.append(layer)
                continue
            x = read[layer.inputs[0]].astype(np.float64)
            if layer.op.function == "thresholded-relu":
                layers.extend(self._jumped(layer, layer.op.alpha, x, graph, taken, context))
                continue
            low, high = _range(x, assured=context.calibration.from_data)
            line = self._fitted(layer.op, x, low, high)
            relayed = self.relay and bool(graph.users[layer.name])
            least = float(line.at(np.linspace(low, high, POINTS)).min()) if relayed else None
            made = _Sum(layer, taken).build(line, least)
            populations = sum(isinstance(part.op, Relu) for part in made)
            context.diagnostics.warning(
                "activation-approximated",
                f"{layer.op.function} is approximated by a sum of ReLUs, with an error of {line.error:.2g} at the most "
                f"between {low:.4g} and {high:.4g}; it takes {populations} neurons for each value",
                origin=layer.origin,
                help="train with Relu instead; --strict refuses approximations",
            )
            layers.extend(made)
        return rebuilt(graph, layers)

    def _jumped(
        self, layer: Layer, alpha: float, x: Array, graph: LayerGraph, taken: set[str], context: Context
    ) -> list[Layer]:
        """The layers of a function that jumps from 0 to alpha, and a warning that says where they are wrong."""
        width = max(float(x.max()) - alpha, 0.0) * RAMP or abs(alpha) * RAMP
        context.diagnostics.warning(
            "activation-approximated",
            f"thresholded-relu jumps at {alpha:.4g}, its approximation rises up to {alpha + 2 * width:.4g}: "
            f"{100 * _share(x, alpha, 2 * width):.2g} % of the calibration values are between them, with an error of "
            f"{abs(alpha) + 2 * width:.2g} at the most; it takes 2 neurons for each value, 3 with a relay",
            origin=layer.origin,
            help="train with Relu instead; --strict refuses approximations",
        )
        relayed = self.relay and bool(graph.users[layer.name])
        # A value at the threshold is 0: the ramp begins one width beyond, where no rounding takes such a value.
        return _Sum(layer, taken).jump(alpha + width, width, min(alpha, 0.0) if relayed else None)

    def _fitted(self, op: Activation, x: Array, low: float, high: float) -> Polyline:
        def function(values: Array) -> Array:
            return function_values(op.function, values, op.alpha, op.gamma)

        size = float(np.std(function(x))) or 1.0
        lines = asymptotes(op.function, op.alpha, op.gamma)
        return fit_polyline(function, low, high, lines, self.error * size, self.most)


def _range(x: Array, *, assured: bool) -> tuple[float, float]:
    """Where the polyline is to be good; zero is inside."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    wider = BEYOND * (high - low)
    low, high = (low - wider if low < 0 else 0.0), (high + wider if high > 0 else 0.0)
    if not assured or low == high:
        low, high = min(low, -ASSUMED), max(high, ASSUMED)
    return low, high


def _share(x: Array, alpha: float, width: float) -> float:
    """Share of values on the ramp."""
    return float(np.mean((x > alpha) & (x < alpha + width)))


class _Sum:
    """The sum of ReLUs in the place of a layer, whose name and origin it keeps.

    ``relu(x)`` and ``relu(-x)`` are populations that read what the layer read; the hinges read
    those one to one, since ``relu(x - c) = relu(relu(x) - c)`` for c >= 0; the sum is a
    population again. So neither the weights before nor those behind it are stored more than twice.
    """

    def __init__(self, layer: Layer, taken: set[str]) -> None:
        self.layers: list[Layer] = []
        self._layer = layer
        self._taken = taken

    def _add(self, suffix: str, op: Op, *inputs: str) -> str:
        name = fresh_name(f"{self._layer.name}/{suffix}", self._taken)
        self.layers.append(Layer(name, op, inputs, self._layer.shape, without_tensor(self._layer.origin)))
        return name

    def _affine(self, scale: float, shift: float) -> Linear:
        channels = self._layer.shape[0]
        return Linear(Skip(np.full(channels, scale), self._layer.shape), np.full(channels, shift))

    def build(self, line: Polyline, least: float | None) -> list[Layer]:
        """The layers.

        Args:
            line: what they compute.
            least: the smallest value; the sum, which is not below, becomes a population. None: it does not.
        """
        halves: dict[int, str] = {}
        parts: list[str] = []
        start = line.value - (least or 0.0)
        for number, (corner, side, slope) in enumerate(line.hinges):
            if side not in halves:
                signed = self._add("signed", self._affine(float(side), 0.0), self._layer.inputs[0])
                halves[side] = self._add("positive" if side > 0 else "negative", Relu(), signed)
            hinge = halves[side]
            if corner:
                hinge = self._add(f"hinge{number}", Relu(), self._add("beyond", self._affine(1.0, -abs(corner)), hinge))
            parts.append(self._add(f"part{number}", self._affine(slope, start if not parts else 0.0), hinge))
        if not parts:
            return [replace(self._layer, op=self._affine(0.0, line.value))]
        return self._end(parts, least)

    def jump(self, alpha: float, width: float, least: float | None) -> list[Layer]:
        """``x`` beyond alpha and 0 elsewhere, but for a ramp of some width.

        ``r + alpha - alpha / width * relu(width - r)`` with ``r = relu(x - alpha)``: the second ReLU is
        0 beyond the ramp and ``width`` before it, so that the steep factor makes nothing of rounding errors there.
        """
        above = self._add("above", Relu(), self._add("beyond", self._affine(1.0, -alpha), self._layer.inputs[0]))
        below = self._add("below", Relu(), self._add("short", self._affine(-1.0, width), above))
        start = alpha - (least or 0.0)
        parts = [
            self._add("part0", self._affine(1.0, start), above),
            self._add("part1", self._affine(-alpha / width, 0.0), below),
        ]
        return self._end(parts, least)

    def _end(self, parts: list[str], least: float | None) -> list[Layer]:
        """The sum of the parts in the place of the layer; arguments as in `build`."""
        total = self._add("sum", Add(), *parts) if len(parts) > 1 else parts[0]
        if least is None:
            last = self.layers.pop()
            return [*self.layers, replace(self._layer, op=last.op, inputs=last.inputs)]
        value = self._add("value", Relu(), total)
        return [*self.layers, replace(self._layer, op=self._affine(1.0, least), inputs=(value,))]
