"""Legalise maxima: maximum pooling and the maximum of several values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nmc.ir.connectivity import Shape, size
from nmc.ir.layers import Identity, Layer, LayerGraph, Maximum, MaxPool, Relu, Reshape, Transpose
from nmc.passes.base import Context, Program
from nmc.passes.simplify.compose import BUDGET
from nmc.passes.simplify.maxima import MaximumBuilder, edge_extended
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, without_tensor
from nmc.passes.simplify.signs import never_negative


@dataclass(frozen=True)
class LegaliseMaximum:
    """`MaxPool` and `Maximum` become ReLUs of differences: ``max(a, b) = a + relu(b - a)``.

    A pooling takes the maxima along the rows, then along the columns, by halves: a window of
    n values takes n - 1 ReLUs in about log2(n) levels, fewer where windows overlap. A maximum of n values is
    one of pairs, of pairs of pairs and so on. Outside
    the input a value that is never negative may be zero. Other values are continued by
    those at the edge, unless only ReLUs read the maximum: then the ReLU comes first, which
    is the same.

    Attributes:
        relay: a maximum that is never negative gets neurons of its own (a ReLU), so that its
            readers need one synapse instead of one for each ReLU that the maximum is made of.
    """

    relay: bool = True

    name: ClassVar[str] = "legalise-maximum"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values without `MaxPool` and `Maximum`; an error for what exceeds the budget."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, MaxPool | Maximum) for layer in graph.layers):
            return program
        positive = never_negative(graph)
        taken = {layer.name for layer in graph.layers}
        layers: list[Layer] = []
        changed: set[str] = set()
        for layer in graph.layers:
            only_relu = _only_relu(layer.name, graph)
            relay = self.relay and layer.name in positive and bool(graph.users[layer.name]) and not only_relu
            match layer.op:
                case MaxPool():
                    source = graph.by_name[layer.inputs[0]]
                    pooling = _Pooling(layer, layer.op, source.shape)
                    known = source.name in positive
                    if known or not pooling.has_border or not only_relu:
                        layers.extend(pooling.lowered(taken, context, zeros=known, relay=relay))
                    else:
                        first = fresh_name(f"{layer.name}/relu", taken)
                        layers.append(Layer(first, Relu(), (source.name,), source.shape, without_tensor(layer.origin)))
                        moved = replace(layer, inputs=(first,), origin=without_tensor(layer.origin))
                        after = _Pooling(moved, layer.op, source.shape)
                        layers.extend(after.lowered(taken, context, zeros=True, relay=False))
                        changed.update(_moved(layer.name, graph))
                case Maximum():
                    builder = MaximumBuilder(layer, taken)
                    builder.largest([builder.know(name, layer.shape) for name in layer.inputs])
                    layers.extend(builder.finished(relay=relay))
                case _:
                    layers.append(layer)
        # What was moved to the ReLU has the ReLU's values now, not the tensor's.
        named = [replace(la, origin=without_tensor(la.origin)) if la.name in changed else la for la in layers]
        return rebuilt(graph, named)


def _moved(name: str, graph: LayerGraph) -> list[str]:
    """The layers that only move a value, up to the ReLUs that read it."""
    found = [user for user in graph.users[name] if not isinstance(graph.by_name[user].op, Relu)]
    return [*found, *(further for user in found for further in _moved(user, graph))]


def _only_relu(name: str, graph: LayerGraph) -> bool:
    """Whether all that is done with a value, but for moving it, is a ReLU."""
    readers = [graph.by_name[user] for user in graph.users[name]]
    return (
        name not in graph.outputs
        and bool(readers)
        and all(
            isinstance(reader.op, Relu)
            or (isinstance(reader.op, Reshape | Transpose | Identity) and _only_relu(reader.name, graph))
            for reader in readers
        )
    )


@dataclass(frozen=True)
class _Pooling:
    """One `MaxPool` with the shape of its input."""

    layer: Layer
    op: MaxPool
    shape: Shape

    @property
    def _beyond(self) -> tuple[int, int]:
        """Rows and columns that windows read behind the input."""
        beyond = []
        for axis in (0, 1):
            windows = self.layer.shape[1 + axis] - 1
            reach = windows * self.op.stride[axis] + self.op.dilation[axis] * (self.op.kernel[axis] - 1) + 1
            beyond.append(max(reach - self.op.pads[axis] - self.shape[1 + axis], 0))
        return (beyond[0], beyond[1])

    @property
    def has_border(self) -> bool:
        """Whether a window reaches outside the input."""
        return any(self.op.pads[:2]) or any(self._beyond)

    def lowered(self, taken: set[str], context: Context, *, zeros: bool, relay: bool) -> list[Layer]:
        """The layers in its place.

        Args:
            taken: names.
            context: takes the error.
            zeros: what lies outside may count as zero.
            relay: end in a ReLU.
        """
        builder = MaximumBuilder(self.layer, taken)
        source = builder.know(self.layer.inputs[0], self.shape)
        start = (-self.op.pads[0], -self.op.pads[1])
        if self.has_border and not zeros:
            extended = edge_extended(self.shape, (self.op.pads[0], self.op.pads[1]), self._beyond)
            if size(extended.out_shape) > BUDGET:
                context.diagnostics.error(
                    "linear-chain-too-large",
                    f"this pooling has borders of its own and needs {size(extended.out_shape)} single synapses, "
                    f"the limit is {BUDGET}",
                    origin=self.layer.origin,
                    help="put a Relu before the pooling, or pool without padding and without ceil_mode",
                )
            source, start = builder.linear("edge", extended, source), (0, 0)
        for axis in (1, 0):
            op, count = self.op, self.layer.shape[1 + axis]
            source = builder.along(
                source, 1 + axis, op.kernel[axis], op.stride[axis], op.dilation[axis], start[axis], count
            )
        return builder.finished(relay=relay)
