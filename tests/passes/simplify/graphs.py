"""Layer graphs for the simplify tests, and the contract that every pass keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nmc.hardware.target import CoreLimits, Grid, MessageLimits, NeuronLimits, Target, WeightLimits
from nmc.ir.connectivity import Array, Conv2d, Dense, Shape, size
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.layers import (
    Add,
    AveragePool,
    BatchNorm,
    Clip,
    Concat,
    Constant,
    Identity,
    Input,
    Layer,
    LayerGraph,
    LeakyRelu,
    Linear,
    Maximum,
    MaxPool,
    Op,
    Pad,
    Relu,
    Reshape,
    Slice,
    Transpose,
)
from nmc.ir.neurons import Reset
from nmc.ir.origin import Origin
from nmc.ir.verify import verify_program
from nmc.kernels.graph import execute_graph
from nmc.passes.base import Context, Pass

TOLERANCE = 1e-9


class Builder:
    """A graph under construction; every method returns the name of the new layer."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers: list[Layer] = []
        self.add("x", Input(), (), shape)

    def add(self, name: str, op: Op, inputs: Sequence[str], shape: Shape) -> str:
        self.layers.append(Layer(name, op, tuple(inputs), shape, Origin(name, type(op).__name__, f"{name}:0")))
        return name

    def shape(self, name: str) -> Shape:
        return next(layer.shape for layer in self.layers if layer.name == name)

    def _next(self, name: str) -> str:
        return f"{name}{len(self.layers)}"

    def conv(
        self,
        source: str,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        stride: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias: bool = True,
        name: str = "",
    ) -> str:
        shape = self.shape(source)
        weight = self.rng.normal(size=(out, shape[0] // groups, *kernel))
        conv = Conv2d(weight, shape, stride, pads, dilation, groups)
        values = self.rng.normal(size=out) if bias else np.zeros(out)
        return self.add(name or self._next("conv"), Linear(conv, values), [source], conv.out_shape)

    def dense(self, source: str, out: int, name: str = "") -> str:
        shape = self.shape(source)
        dense = Dense(self.rng.normal(size=(out, size(shape))), shape, (out,))
        return self.add(name or self._next("dense"), Linear(dense, self.rng.normal(size=out)), [source], (out,))

    def relu(self, source: str, name: str = "") -> str:
        return self.add(name or self._next("relu"), Relu(), [source], self.shape(source))

    def norm(self, source: str, name: str = "") -> str:
        shape = self.shape(source)
        op = BatchNorm(self.rng.normal(size=shape[0]), self.rng.normal(size=shape[0]))
        return self.add(name or self._next("norm"), op, [source], shape)

    def sum(self, *sources: str, name: str = "") -> str:
        return self.add(name or self._next("sum"), Add(), sources, self.shape(sources[0]))

    def pool(
        self,
        source: str,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        *,
        count_pads: bool = False,
        ceil: bool = False,
        name: str = "",
    ) -> str:
        op = AveragePool(kernel, stride, pads, count_pads)
        return self.add(name or self._next("pool"), op, [source], self._pooled(source, kernel, stride, pads, ceil))

    def _pooled(
        self, source: str, span: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int], ceil: bool
    ) -> Shape:
        shape = self.shape(source)
        out = [shape[0]]
        for axis in (0, 1):
            n = shape[1 + axis] + pads[axis] + pads[axis + 2]
            reach = n - span[axis]
            count = reach // stride[axis] + 1
            if ceil and reach % stride[axis] and count * stride[axis] < shape[1 + axis] + pads[axis]:
                count += 1
            out.append(count)
        return tuple(out)

    def largest(
        self,
        source: str,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        *,
        ceil: bool = False,
        name: str = "",
    ) -> str:
        span = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
        op = MaxPool(kernel, stride, pads, dilation)
        return self.add(name or self._next("largest"), op, [source], self._pooled(source, span, stride, pads, ceil))

    def larger(self, *sources: str, name: str = "") -> str:
        return self.add(name or self._next("larger"), Maximum(), sources, self.shape(sources[0]))

    def clip(self, source: str, low: float | None, high: float | None, name: str = "") -> str:
        return self.add(name or self._next("clip"), Clip(low, high), [source], self.shape(source))

    def leaky(self, source: str, *slopes: float, name: str = "") -> str:
        shape = self.shape(source)
        slope = np.array(slopes) if slopes else self.rng.normal(size=shape[0])
        return self.add(name or self._next("leaky"), LeakyRelu(slope), [source], shape)

    def pad(self, source: str, before: tuple[int, ...], after: tuple[int, ...], name: str = "") -> str:
        shape = tuple(n + b + a for n, b, a in zip(self.shape(source), before, after, strict=True))
        return self.add(name or self._next("pad"), Pad(before, after), [source], shape)

    def slice(self, source: str, *cuts: tuple[int, int, int], name: str = "") -> str:
        starts, stops, steps = (tuple(cut[i] for cut in cuts) for i in range(3))
        shape = tuple(len(range(*cut)) for cut in cuts)
        return self.add(name or self._next("slice"), Slice(starts, stops, steps), [source], shape)

    def concat(self, axis: int, *sources: str, name: str = "") -> str:
        shapes = [self.shape(source) for source in sources]
        shape = list(shapes[0])
        shape[axis] = sum(s[axis] for s in shapes)
        return self.add(name or self._next("concat"), Concat(axis), sources, tuple(shape))

    def constant(self, value: Array, name: str = "") -> str:
        return self.add(name or self._next("constant"), Constant(value), [], value.shape)

    def transpose(self, source: str, *perm: int, name: str = "") -> str:
        shape = self.shape(source)
        return self.add(name or self._next("turn"), Transpose(perm), [source], tuple(shape[axis] for axis in perm))

    def reshape(self, source: str, *shape: int, name: str = "") -> str:
        return self.add(name or self._next("reshape"), Reshape(), [source], shape or (size(self.shape(source)),))

    def identity(self, source: str, name: str = "") -> str:
        return self.add(name or self._next("same"), Identity(), [source], self.shape(source))

    def graph(self, output: str = "") -> LayerGraph:
        graph = LayerGraph("test", tuple(self.layers), (output or self.layers[-1].name,))
        verify_program(graph)
        return graph


def new_context() -> Context:
    """A context with a target without limits; the passes under test look at no data."""
    target = Target(
        "roomy",
        "test",
        "no limits",
        Grid(1, 1),
        CoreLimits(neurons=1 << 20),
        NeuronLimits(("lif",), (Reset.SUBTRACT,)),
        MessageLimits(),
        WeightLimits(bits=8, step=1, low=-128, high=127),
        (),
    )
    return Context(target, DiagnosticSink(), NoCalibration())


class NoCalibration:
    """An oracle that was never asked."""

    from_data = False

    @property
    def inputs(self) -> Array:
        raise AssertionError("the simplify stage looks at no data")

    def activations(self, graph: LayerGraph, names: Iterable[str]) -> dict[str, Array]:
        raise AssertionError("the simplify stage looks at no data")


def simplified(graph: LayerGraph, *steps: Pass) -> LayerGraph:
    """The graph after the passes, each of which must keep its contract.

    The output, and every layer whose origin still names the tensor that it named before,
    have the values that they had.
    """
    for step in steps:
        context = new_context()
        after = step.run(graph, context)
        assert isinstance(after, LayerGraph)
        assert not context.diagnostics.errors
        verify_program(after)
        assert_same_values(graph, after)
        assert step.run(after, new_context()) is after or step.name in ("canonicalise",)
        graph = after
    return graph


def assert_same_values(before: LayerGraph, after: LayerGraph) -> None:
    """Equal outputs and equal tensors, to 1e-9 of the largest value."""
    x = np.random.default_rng(7).normal(size=(2, *before.input.shape))
    tensors = {layer.origin.output: layer.name for layer in before.layers if layer.origin.output}
    old = execute_graph(before, x, [layer.name for layer in before.layers])
    new = execute_graph(after, x, [layer.name for layer in after.layers])
    pairs = [(before.output, after.output)]
    pairs += [(tensors[la.origin.output], la.name) for la in after.layers if la.origin.output in tensors]
    for left, right in pairs:
        a, b = old[left].reshape(2, -1), new[right].reshape(2, -1)
        assert a.shape == b.shape, (left, right)
        scale = float(np.abs(a).max()) + 1e-30
        assert float(np.abs(a - b).max()) <= TOLERANCE * scale, (left, right)


def kinds(graph: LayerGraph) -> list[str]:
    """The kind of each layer, ``Linear:Conv2d`` for linear ones."""
    return [
        f"Linear:{type(layer.op.connectivity).__name__}" if isinstance(layer.op, Linear) else type(layer.op).__name__
        for layer in graph.layers
    ]


def linear(graph: LayerGraph, name: str) -> Linear:
    """The operation of a linear layer."""
    op = graph.by_name[name].op
    assert isinstance(op, Linear)
    return op
