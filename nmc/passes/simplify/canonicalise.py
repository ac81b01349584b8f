"""The canonical form, and its check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Skip
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.ir.layers import (
    Add,
    ArgMax,
    Head,
    Identity,
    Input,
    Layer,
    LayerGraph,
    Linear,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
    Transpose,
)
from nmc.passes.base import Context, Program
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, without_tensor


@dataclass(frozen=True)
class Canonicalise:
    """Bring the last details into the canonical form and check it.

    The canonical form, which the convert stage reads:

    * Layers are `Input`, `Linear`, `Add`, `Relu`, `Identity` (a relay: neurons that send a linear
      value as it is), and a `Head` as an output only.
    * At most one `Transpose` or `Reshape`, directly behind the input and its only reader:
      a layout (e.g. NHWC) that the host changes while it encodes. Below, "the input" is
      its value then.
    * A `Linear` reads the input, a `Relu` or a relay; a geometric operator (`Conv2d`, `Pool`,
      `Skip`) reads a value of its own ``in_shape``.
    * An `Add` reads `Linear`, `Relu`, relays or the input, two or more, none twice.
    * A `Relu` or relay reads a `Linear` or an `Add`. An output is a `Linear`, `Add` or `Relu`,
      perhaps under a `Head`.
    * ``origin.output`` names the ONNX tensor with the layer's value (a reshaped tensor has
      the same C order); it is empty where the ONNX file has no such tensor.
    """

    name: ClassVar[str] = "canonicalise"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values in canonical form.

        Raises:
            NmcError: exit INTERNAL if a pass before left something behind.
        """
        graph = _with_linear_at_ends(_with_linear_before_relu(as_graph(program)))
        # What came from another pass that reported an error need not be canonical.
        if not context.diagnostics.errors:
            problems = [Diagnostic("graph-not-canonical", text, origin=layer.origin) for layer, text in faults(graph)]
            if problems:
                raise NmcError(problems, ExitCode.INTERNAL)
        return graph


def _with_linear_at_ends(graph: LayerGraph) -> LayerGraph:
    """An output that is the input itself, or the input moved, reads it through a one-to-one linear layer."""
    taken = {layer.name for layer in graph.layers}
    layers = {layer.name: layer for layer in graph.layers}
    outputs, copies = [], dict[str, str]()
    for name in graph.outputs:
        last = layers[name]
        tail = layers[last.inputs[0]] if isinstance(last.op, Head) else last
        if isinstance(tail.op, Input | Transpose | Reshape):
            if tail.name not in copies:
                copy = copies[tail.name] = fresh_name(f"{tail.name}/output", taken)
                op = Linear(Skip(np.ones(tail.shape[0]), tail.shape), np.zeros(tail.shape[0]))
                layers[copy] = Layer(copy, op, (tail.name,), tail.shape, tail.origin)
            if isinstance(last.op, Head):
                layers[name] = replace(last, inputs=(copies[tail.name],))
            else:
                name = copies[tail.name]
        outputs.append(name)
    if len(layers) == len(graph.layers):
        return graph
    return rebuilt(graph, layers.values(), outputs=tuple(outputs))


def _with_linear_before_relu(graph: LayerGraph) -> LayerGraph:
    """A ReLU of the input reads it through a one-to-one linear layer."""
    taken = {layer.name for layer in graph.layers}
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer.op, Relu) and not isinstance(graph.by_name[layer.inputs[0]].op, Linear | Add):
            op = Linear(Skip(np.ones(layer.shape[0]), layer.shape), np.zeros(layer.shape[0]))
            name = fresh_name(f"{layer.name}/input", taken)
            layers.append(Layer(name, op, layer.inputs, layer.shape, without_tensor(layer.origin)))
            layer = replace(layer, inputs=(name,))
        layers.append(layer)
    return graph if len(layers) == len(graph.layers) else rebuilt(graph, layers)


def faults(graph: LayerGraph) -> list[tuple[Layer, str]]:
    """What keeps a graph from being canonical, by layer."""
    found: list[tuple[Layer, str]] = []
    for layer in graph.layers:
        sources = [graph.by_name[name] for name in layer.inputs]
        ops = [source.op for source in sources]
        match layer.op:
            case Input():
                continue
            case Transpose() | Reshape():
                fine = isinstance(ops[0], Input) and len(graph.users[sources[0].name]) == 1
            case Linear(connectivity, _):
                fine = _is_value(graph, sources[0])
                if isinstance(connectivity, Skip) or hasattr(connectivity, "pads"):
                    fine = fine and connectivity.in_shape == sources[0].shape
            case Add():
                fine = all(isinstance(s.op, Linear) or _is_value(graph, s) for s in sources)
                fine = fine and len(set(layer.inputs)) == len(sources) >= 2
            case Relu() | Identity():
                fine = isinstance(ops[0], Linear | Add)
            case Softmax() | Sigmoid() | ArgMax():
                fine = layer.name in graph.outputs and isinstance(ops[0], Linear | Add | Relu)
                fine = fine and not graph.users[layer.name]
            case _:
                fine = False
        if not fine:
            read = ", ".join(type(op).__name__ for op in ops)
            found.append((layer, f"layer '{layer.name}' is a {type(layer.op).__name__} of {read or 'nothing'}"))
    return found


def _is_value(graph: LayerGraph, layer: Layer) -> bool:
    """Whether a layer is a ReLU, a relay or the input as the chip sees it."""
    if isinstance(layer.op, Input):
        return not any(isinstance(graph.by_name[name].op, Transpose | Reshape) for name in graph.users[layer.name])
    return isinstance(layer.op, Relu | Identity | Transpose | Reshape)
