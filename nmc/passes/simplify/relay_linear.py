"""Keep a linear value that many neurons read as neurons of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from nmc.ir.connectivity import size
from nmc.ir.layers import Add, Identity, Layer, LayerGraph, Linear, Relu
from nmc.passes.base import Context, Program
from nmc.passes.simplify.compose import copies, synapse_bound
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt

GAIN = 2.0
"""Composing must take as many times the synapses of a relay before there is one: it adds neurons and a rounding."""


@dataclass(frozen=True)
class RelayLinear:
    """A value without ReLU that many ReLUs read gets neurons of its own, which send it with its sign.

    Linear layers are composed with all that read them, so each ReLU behind one computes it anew: in a
    DenseNet each convolution as often as there are layers behind it, in a residual network of
    pre-activations each branch. A relay (`Identity` in the graph, a linear graded population of the
    network) computes it once, and its readers scale and add what it sends.

    Two rules decide, both of the graph alone. A relay costs no time step: it is read only where
    there is a step to spare on the way to the outputs; a reader that is waited for composes as
    before. And it pays: the readers that one-to-one layers and sums lead to would have `GAIN` times
    the synapses if they composed, or more. Only for codings whose messages carry a sign.
    """

    name: ClassVar[str] = "relay-linear"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same values; the same object where no relay pays."""
        graph, target = as_graph(program), context.target
        if not (target.messages.graded_bits and "graded-relu" in target.neurons.models):
            return program
        relays = _Relays(graph)
        layers = [made for layer in graph.layers for made in relays.add(layer)]
        if len(layers) == len(graph.layers):
            return program
        return replace(rebuilt(graph, layers), codes={**graph.codes, **relays.codes})


class _Relays:
    """The layers so far, in order, with relays among them.

    Attributes:
        level: of each layer: of a population its place in the chain of those that wait for each other,
            of a linear layer the latest of those that it reads.
        latest: the level that each layer may have at most, so that the network is no deeper than without relays.
        synapses: that one copy of each linear layer's value takes, at the most; 0 for populations.
        codes: of the relays.
    """

    def __init__(self, graph: LayerGraph) -> None:
        self.graph = graph
        self.taken = {layer.name for layer in graph.layers}
        self.latest = _latest(graph)
        self.level: dict[str, int] = {}
        self.synapses: dict[str, float] = {}
        self.codes = dict(graph.codes)
        self._moved: dict[tuple[str, str], str] = {}

    def add(self, layer: Layer) -> list[Layer]:
        """The layer, reading relays where it should, and its own relay where it gets one."""
        inputs = tuple(self._moved.get((layer.name, name), name) for name in layer.inputs)
        layer = layer if inputs == layer.inputs else replace(layer, inputs=inputs)
        self.level[layer.name] = _level(layer, self.level)
        self.synapses[layer.name] = self._copy(layer)
        readers = self._readers(layer)
        if not readers:
            return [layer]
        name = fresh_name(f"{layer.name}/relay", self.taken)
        self._moved |= {(reader, layer.name): name for reader in readers}
        self.level[name], self.synapses[name] = self.level[layer.name] + 1, 0.0
        if layer.name in self.codes:
            self.codes[name] = self.codes[layer.name]
        return [layer, Layer(name, Identity(), (layer.name,), layer.shape, layer.origin)]

    def _copy(self, layer: Layer) -> float:
        """Synapses that every reader of a linear layer has, if it composes."""
        match layer.op:
            case Add():
                return sum(self.synapses[name] or size(layer.shape) for name in layer.inputs)
            case Linear(connectivity, _):
                before = self.synapses[layer.inputs[0]] / size(connectivity.in_shape)
                return synapse_bound(connectivity) * max(before, 1.0)
            case _:
                return 0.0

    def _readers(self, layer: Layer) -> list[str]:
        """The readers that read a relay of the layer instead; none where it does not pay."""
        if not isinstance(layer.op, Linear | Add):
            return []
        level = self.level[layer.name] + 1
        users = [self.graph.by_name[name] for name in dict.fromkeys(self.graph.users[layer.name])]
        able = [user for user in users if isinstance(user.op, Linear | Add | Relu)]
        able = [user for user in able if level + isinstance(user.op, Relu) <= self.latest[user.name]]
        copy = self.synapses[layer.name]
        fan_in = copy / size(layer.shape)
        if fan_in <= GAIN:
            return []
        # n neurons that compose have n * fan_in synapses; with a relay n, and its own.
        enough = GAIN * copy / (fan_in - GAIN)
        return [user.name for user in able] if self._reached(able, enough) else []

    def _reached(self, readers: list[Layer], enough: float) -> bool:
        """Whether one-to-one layers and sums lead from these readers to as many neurons."""
        found, seen = 0, {reader.name for reader in readers}
        ahead = list(readers)
        while ahead and found < enough:
            layer = ahead.pop()
            if isinstance(layer.op, Relu):
                found += size(layer.shape)
            elif isinstance(layer.op, Add) or (isinstance(layer.op, Linear) and copies(layer.op.connectivity)):
                users = [name for name in self.graph.users[layer.name] if name not in seen]
                seen.update(users)
                ahead.extend(self.graph.by_name[name] for name in dict.fromkeys(users))
        return found >= enough


def _level(layer: Layer, level: Mapping[str, int]) -> int:
    before = max((level[name] for name in layer.inputs), default=0)
    return before + 1 if isinstance(layer.op, Relu | Identity) else before


def _latest(graph: LayerGraph) -> dict[str, int]:
    """The level that each layer may have at most in a network that is as deep as it is."""
    level: dict[str, int] = {}
    for layer in graph.layers:
        level[layer.name] = _level(layer, level)
    latest = dict.fromkeys(level, max(level.values(), default=0))
    for layer in reversed(graph.layers):
        before = latest[layer.name] - isinstance(layer.op, Relu | Identity)
        for name in layer.inputs:
            latest[name] = min(latest[name], before)
    return latest
