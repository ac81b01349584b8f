"""The simplified `LayerGraph` seen as neurons-to-be: sums of linear terms with or without ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Dense, Shape, Skip, Sparse
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import Add, Head, Identity, Layer, LayerGraph, Linear, Relu, Reshape, Transpose
from nmc.ir.network import OutputSpec
from nmc.ir.origin import Origin
from nmc.ir.reference import per_channel


@dataclass(frozen=True, eq=False)
class Term:
    """What one source contributes: a connectivity over float64 weights."""

    source: str
    connectivity: Connectivity
    origin: Origin


@dataclass(frozen=True, eq=False)
class Unit:
    """A population-to-be: ``relu(sum of terms + bias)``, or without the ReLU (a read-out or a relay).

    Attributes:
        name: of the layer whose value it holds.
        bias: ``()``, (channels,) or the full shape.
    """

    name: str
    shape: Shape
    terms: tuple[Term, ...]
    bias: Array
    relu: bool
    origin: Origin


@dataclass(frozen=True)
class UnitOutput:
    """An output of the network.

    Attributes:
        unit: that is read.
        shape: of the output in the ONNX file.
        head: what the host computes behind it, as in `nmc.ir.network.OutputSpec`.
        name: in the ONNX file.
    """

    unit: str
    shape: Shape
    head: str
    name: str


@dataclass(frozen=True, eq=False)
class UnitInput:
    """An input of the network.

    Attributes:
        layer: that is the input as the chip sees it (after a transposition or reshape on the
            host, if there is one).
        shape: of a sample in the ONNX file.
        perm: transposition of a sample's axes that the host does, or None.
        name: in the ONNX file; empty where there is one input only.
    """

    layer: Layer
    shape: Shape
    perm: tuple[int, ...] | None
    name: str


@dataclass(frozen=True, eq=False)
class Units:
    """All units in topological order, and the two ends of the network.

    Attributes:
        inputs: in the order of the ONNX file.
        outputs: likewise.
    """

    units: tuple[Unit, ...]
    inputs: tuple[UnitInput, ...]
    outputs: tuple[UnitOutput, ...]

    def output_specs(self, scale: float) -> tuple[OutputSpec, ...]:
        """The network's outputs; ``scale`` is the real value of one unit of every read-out."""
        return tuple(OutputSpec(o.unit, np.array(scale), o.shape, o.head, o.name) for o in self.outputs)


def _bias_sum(biases: list[tuple[Array, Shape]], shape: Shape) -> Array:
    if all(values.ndim <= 1 and len(own) == len(shape) for values, own in biases):
        return np.asarray(sum((values for values, _ in biases), np.zeros(shape[0])))
    total = np.zeros(shape)
    for values, own in biases:
        total = total + np.broadcast_to(per_channel(values, own), own).reshape(shape)
    return total


def _shaped(connectivity: Connectivity, in_shape: Shape, out_shape: Shape) -> Connectivity:
    """The operator between populations of these shapes; flattening keeps the C order."""
    if isinstance(connectivity, Dense | Sparse):
        return replace(connectivity, in_shape=in_shape, out_shape=out_shape)
    return connectivity


def _terms(layer: Layer, layers: Mapping[str, Layer]) -> tuple[tuple[Term, ...], Array]:
    """The linear terms and the bias behind a Linear or Add layer."""
    members = [layers[name] for name in layer.inputs] if isinstance(layer.op, Add) else [layer]
    terms: list[Term] = []
    biases: list[tuple[Array, Shape]] = []
    for member in members:
        if isinstance(member.op, Linear):
            connectivity = _shaped(member.op.connectivity, layers[member.inputs[0]].shape, layer.shape)
            terms.append(Term(member.inputs[0], connectivity, member.origin))
            biases.append((member.op.bias, member.op.connectivity.out_shape))
        else:
            shape = member.shape
            terms.append(Term(member.name, Skip(np.ones(shape[0]), shape), layer.origin))
    return tuple(terms), _bias_sum(biases, layer.shape)


def read_units(graph: LayerGraph) -> Units:
    """Read a canonical graph (the end of the simplify stage) as units.

    Raises:
        NmcError: `graph` is not canonical (an internal fault of an earlier pass).
    """
    layers = graph.by_name
    inputs = _inputs(graph)
    ends = [layers[name] for name in graph.outputs]
    tails = [layers[end.inputs[0]] if isinstance(end.op, Head) else end for end in ends]
    units: list[Unit] = []
    for layer in graph.layers:
        if isinstance(layer.op, Relu | Identity):
            before = layers[layer.inputs[0]]
            if isinstance(before.op, Linear | Add):
                terms, bias = _terms(before, layers)
            else:  # a ReLU of the input itself
                terms, bias = (
                    (Term(before.name, Skip(np.ones(before.shape[0]), before.shape), layer.origin),),
                    np.zeros(before.shape[0]),
                )
            units.append(Unit(layer.name, layer.shape, terms, bias, isinstance(layer.op, Relu), layer.origin))
        elif layer in tails and isinstance(layer.op, Linear | Add):
            terms, bias = _terms(layer, layers)
            units.append(Unit(layer.name, layer.shape, terms, bias, False, layer.origin))
    units.extend(_counter(tail) for tail in dict.fromkeys(tails) if isinstance(tail.op, Relu))
    known = {*(entry.layer.name for entry in inputs), *(unit.name for unit in units)}
    for unit in units:
        for term in unit.terms:
            if term.source not in known:
                raise NmcError.single(
                    "graph-not-canonical",
                    f"{unit.name} reads {term.source}, which is neither an input nor a ReLU",
                    ExitCode.INTERNAL,
                    origin=unit.origin,
                )
    if not units:
        raise NmcError.single(
            "graph-empty",
            "the network has no layer with weights to put on a chip",
            ExitCode.MODEL,
            help="compile a network with at least one Conv, Gemm or MatMul",
        )
    outputs = tuple(
        UnitOutput(
            _counter(tail).name if isinstance(tail.op, Relu) else tail.name,
            end.shape,
            type(end.op).__name__.lower() if isinstance(end.op, Head) else "",
            name,
        )
        for name, end, tail in zip(graph.output_names or graph.outputs, ends, tails, strict=True)
    )
    return Units(tuple(units), inputs, outputs)


def _inputs(graph: LayerGraph) -> tuple[UnitInput, ...]:
    """The inputs as the chip sees them."""
    found = []
    for layer in graph.inputs:
        seen, perm = layer, None
        moved = [graph.by_name[name] for name in graph.users[layer.name]]
        for reader in moved:
            if isinstance(reader.op, Transpose | Reshape):
                # Encoding brings the input into the population's shape, so a reshape needs no more.
                seen, perm = reader, reader.op.perm if isinstance(reader.op, Transpose) else None
        name = layer.origin.node if len(graph.inputs) > 1 else ""
        found.append(UnitInput(seen, layer.shape, perm, name))
    return tuple(found)


def _counter(relu: Layer) -> Unit:
    """The read-out of a ReLU: a unit that adds up what the ReLU's population sends."""
    shape = relu.shape
    term = Term(relu.name, Skip(np.ones(shape[0]), shape), relu.origin)
    return Unit(f"{relu.name}:read-out", shape, (term,), np.zeros(shape[0]), False, relu.origin)
