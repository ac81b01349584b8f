"""Fuse chains of linear layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, Pool, Shape, Skip, Sparse
from nmc.ir.layers import Add, Head, Identity, Layer, LayerGraph, Linear, Relu
from nmc.passes.base import Context, Program
from nmc.passes.simplify.compose import BUDGET, apply, compose
from nmc.passes.simplify.rewrite import as_graph, fresh_name, full, rebuilt, shortest, without_tensor


@dataclass(frozen=True, eq=False)
class Term:
    """What one source contributes to a sum.

    Attributes:
        source: a layer that is no linear layer and no sum.
        connectivity: None for the source's value itself.
        bias: full shape of the connectivity's output; None is zero.
        layer: the linear layer of the graph with exactly this value, if there is one.
    """

    source: str
    connectivity: Connectivity | None = None
    bias: Array | None = None
    layer: Layer | None = None


@dataclass(frozen=True)
class FuseLinear:
    """Linear layers of linear layers become one; sums of sums become flat.

    Afterwards every `Linear` reads the input, its movement, a `Relu` or a relay (`RelayLinear`), and
    every `Add` is read by a `Relu`, a relay, a `Head` or an output. A linear layer over a sum is
    distributed over its terms. The products are exact: convolutions and poolings compose
    to a convolution where borders allow it, and to `Sparse` or `Dense` elsewhere.
    """

    name: ClassVar[str] = "fuse-linear"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values of all ReLUs and of the outputs; an error for what exceeds the budget."""
        fusion = _Fusion(as_graph(program), context)
        fused = fusion.run()
        same = len(fused.layers) == len(fusion.graph.layers) and all(
            fusion.graph.by_name.get(layer.name) is layer for layer in fused.layers
        )
        return program if same else fused


class _Fusion:
    """One run of the pass.

    Attributes:
        terms: of each layer's value.
        made: the new layers by name.
    """

    def __init__(self, graph: LayerGraph, context: Context) -> None:
        self.graph = graph
        self.context = context
        self.taken = {layer.name for layer in graph.layers}
        self.terms: dict[str, tuple[Term, ...]] = {}
        self.made: dict[str, Layer] = {}

    def run(self) -> LayerGraph:
        for layer in self.graph.layers:
            match layer.op:
                case Linear():
                    self.terms[layer.name] = self._through(layer, layer.op)
                case Add():
                    self.terms[layer.name] = tuple(term for name in layer.inputs for term in self.terms[name])
                case _:
                    if isinstance(layer.op, Relu | Identity | Head):
                        self._materialise(layer.inputs[0])
                    self.made[layer.name] = layer
                    self.terms[layer.name] = (Term(layer.name),)
        for name in self.graph.outputs:
            self._materialise(name)
        return rebuilt(self.graph, self.made.values())

    def _through(self, layer: Layer, op: Linear) -> tuple[Term, ...]:
        """The terms of a linear layer: those of its input, each through its connectivity."""
        terms: list[Term] = []
        own = full(op.bias, op.connectivity.out_shape) if np.any(op.bias) else None
        for term in self.terms[layer.inputs[0]]:
            connectivity: Connectivity | None = op.connectivity
            if term.connectivity is not None:
                connectivity = compose(op.connectivity, term.connectivity)
            if connectivity is None:
                self._too_large(layer, term)
                self._materialise(layer.inputs[0])
                return (Term(layer.inputs[0], op.connectivity, own, layer),)
            bias = None if term.bias is None else apply(op.connectivity, term.bias)
            if own is not None:
                bias, own = (own if bias is None else bias.reshape(own.shape) + own), None
            terms.append(Term(term.source, connectivity, bias))
        if len(terms) == 1:
            unchanged = self.terms[layer.inputs[0]][0].connectivity is None
            return (replace(terms[0], layer=layer if unchanged else self._fused(layer, terms[0])),)
        return tuple(terms)

    def _fused(self, layer: Layer, term: Term) -> Layer:
        return replace(layer, op=_linear(term), inputs=(term.source,))

    def _too_large(self, layer: Layer, term: Term) -> None:
        self.context.diagnostics.error(
            "linear-chain-too-large",
            f"this layer and the linear layers before it, back to '{term.source}', would need more than "
            f"{BUDGET} synapses as one layer",
            origin=layer.origin,
            help="put a Relu between them, or make the layers smaller",
        )

    def _materialise(self, name: str) -> None:
        """Make the layer with this value, and the linear layers that it adds."""
        layer = self.graph.by_name[name]
        if name in self.made or not isinstance(layer.op, Linear | Add):
            return
        terms = _merged(self.terms[name], layer.shape)
        if len(terms) == 1:
            term = terms[0]
            if term.connectivity is None:
                term = replace(term, connectivity=Skip(np.ones(layer.shape[0]), layer.shape))
            own = term.layer is not None and term.layer.name == name
            self.made[name] = term.layer if own and term.layer else self._fused(layer, term)
            return
        self.made[name] = replace(layer, op=Add(), inputs=tuple(self._operand(layer, term) for term in terms))
        if self.made[name].inputs == layer.inputs and isinstance(layer.op, Add):
            self.made[name] = layer

    def _operand(self, layer: Layer, term: Term) -> str:
        if term.connectivity is None:
            return term.source
        if term.layer is not None:
            self.made.setdefault(term.layer.name, term.layer)
            return term.layer.name
        name = fresh_name(f"{layer.name}/{term.source}", self.taken)
        self.made[name] = Layer(name, _linear(term), (term.source,), layer.shape, without_tensor(layer.origin))
        return name


def _linear(term: Term) -> Linear:
    if term.connectivity is None:
        raise TypeError("a value itself is no linear layer")
    shape: Shape = term.connectivity.out_shape
    bias = np.zeros(shape[0]) if term.bias is None else shortest(term.bias.reshape(shape), shape)
    return Linear(term.connectivity, bias)


def _merged(terms: tuple[Term, ...], shape: Shape) -> tuple[Term, ...]:
    """Terms of one source added up where the sum keeps its form."""
    merged: list[Term] = []
    for term in terms:
        for position, other in enumerate(merged):
            total = _added(other, term, shape) if other.source == term.source else None
            if total is not None:
                merged[position] = total
                break
        else:
            merged.append(_plain(term))
    return tuple(merged)


def _plain(term: Term) -> Term:
    """A one-to-one term of weight one is the value itself."""
    connectivity = term.connectivity
    if isinstance(connectivity, Skip) and term.bias is None and bool(np.all(connectivity.weight == 1)):
        return Term(term.source, layer=term.layer)
    return term


def _added(first: Term, second: Term, shape: Shape) -> Term | None:
    """Two terms of one source as one; None where that would change their form."""
    a, b = first.connectivity, second.connectivity
    biases = [bias for bias in (first.bias, second.bias) if bias is not None]
    bias = biases[0] + biases[1].reshape(biases[0].shape) if len(biases) == 2 else biases[0] if biases else None
    if a is None and b is None:
        return Term(first.source, Skip(np.full(shape[0], 2.0), shape))
    if a is None or b is None:
        given = a if b is None else b
        if isinstance(given, Skip):
            return Term(first.source, given.with_weight(given.weight + 1), bias)
        return None
    if _same_form(a, b):
        return Term(first.source, a.with_weight(a.weight + b.weight), bias)
    return None


def _same_form(a: Connectivity, b: Connectivity) -> bool:
    """Whether equal places in the two weights are equal synapses."""
    if a.in_shape != b.in_shape or a.out_shape != b.out_shape or a.weight.shape != b.weight.shape:
        return False
    match a, b:
        case (Dense(), Dense()) | (Skip(), Skip()):
            return True
        case Conv2d(), Conv2d():
            return (a.stride, a.pads, a.dilation, a.groups) == (b.stride, b.pads, b.dilation, b.groups)
        case Pool(), Pool():
            return (a.kernel, a.stride, a.pads) == (b.kernel, b.stride, b.pads)
        case Sparse(), Sparse():
            return np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices)
        case _:
            return False
