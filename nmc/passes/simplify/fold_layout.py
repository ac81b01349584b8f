"""Fold reshapes and transpositions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Shape
from nmc.ir.layers import Add, Input, Layer, LayerGraph, Linear, Op, Relu, Reshape, Transpose
from nmc.passes.base import Context, Program
from nmc.passes.simplify.movement import (
    absorbs_rows,
    diagonal_of,
    gathered_columns,
    gathered_rows,
    is_still,
    lifted_diagonal,
    movement_index,
    permutation_operator,
    simplest,
    sunk_diagonal,
)
from nmc.passes.simplify.rewrite import as_graph, fresh_name, rebuilt, without_tensor


@dataclass(frozen=True)
class FoldLayout:
    """`Reshape` and `Transpose` (here: movements) disappear into the layers around them.

    In this order, each to its end:

    1. Movements of movements merge. Dense layers take movements before them into their
       columns, and those behind them, reached through ReLUs and sums, into their rows.
    2. What is left behind a convolution sinks through ReLUs and sums towards a reader that
       can take it. A layer that a transposition has sunk through has its values in another
       order than the ONNX tensor; its origin then names no tensor.
    3. What is still left becomes a linear layer that permutes; `FuseLinear` merges it.

    One movement may stay directly behind the input, where nothing else reads the input:
    the host does it while it encodes. It is a `Transpose` if one says it, else a `Reshape`.
    """

    name: ClassVar[str] = "fold-layout"
    stage: ClassVar[str] = "simplify"
    consumes: ClassVar[type[Program]] = LayerGraph
    produces: ClassVar[type[Program]] = LayerGraph

    def run(self, program: Program, context: Context) -> Program:
        """The same outputs without movements, but for one behind the input."""
        graph = as_graph(program)
        if not any(isinstance(layer.op, Reshape | Transpose) for layer in graph.layers):
            return program
        editor = _Editor(graph)
        while _merge(editor) or _absorb(editor) or _lift(editor):
            pass
        while _merge(editor) or _absorb(editor) or _sink(editor):
            pass
        while _permute(editor):
            pass
        return editor.graph


class _Editor:
    """A graph under change."""

    def __init__(self, graph: LayerGraph) -> None:
        self.graph = graph
        self.taken = {layer.name for layer in graph.layers}

    def replace(self, *layers: Layer, same: dict[str, str] | None = None) -> None:
        """Put layers in the place of those of the same name, or add them.

        Args:
            layers: the new ones.
            same: layer -> layer that its readers read from now on.
        """
        merged = {layer.name: layer for layer in self.graph.layers}
        merged.update({layer.name: layer for layer in layers})
        self.graph = rebuilt(self.graph, merged.values(), same)

    def source(self, layer: Layer) -> Layer:
        """What a layer reads first."""
        return self.graph.by_name[layer.inputs[0]]

    def is_private(self, source: Layer) -> bool:
        """Whether one layer alone reads a value."""
        return len(self.graph.users[source.name]) == 1 and source.name not in self.graph.outputs


def _is_movement(layer: Layer) -> bool:
    return isinstance(layer.op, Reshape | Transpose)


def _is_pointwise(layer: Layer) -> bool:
    """Whether a movement may pass the layer: it treats every element by itself."""
    if isinstance(layer.op, Linear):
        return diagonal_of(layer.op.connectivity) is not None
    return isinstance(layer.op, Relu | Add)


def _merge(editor: _Editor) -> bool:
    """Merge movements that follow or repeat each other, drop those that move nothing."""
    seen: dict[tuple[str, Op, Shape], str] = {}
    for layer in filter(_is_movement, editor.graph.layers):
        source = editor.source(layer)
        index = movement_index(layer, source.shape)
        if layer.shape == source.shape and is_still(index):
            editor.replace(same={layer.name: source.name})
            return True
        if _is_movement(source):
            root = editor.source(source)
            both = movement_index(source, root.shape)[index]
            merged = simplest(root.shape, layer.shape, both)
            if merged is not None:
                editor.replace(replace(layer, op=merged, inputs=(root.name,)))
                return True
        plain = simplest(source.shape, layer.shape, index)
        if plain is not None and plain != layer.op:
            editor.replace(replace(layer, op=plain))
            return True
        first = seen.setdefault((source.name, layer.op, layer.shape), layer.name)
        if first != layer.name:
            editor.replace(same={layer.name: first})
            return True
    return False


def _absorb(editor: _Editor) -> bool:
    """Take movements into the columns of the dense and sparse layers that read them."""
    for layer in editor.graph.layers:
        if not isinstance(layer.op, Linear) or not _is_movement(editor.source(layer)):
            continue
        moved = editor.source(layer)
        source = editor.source(moved)
        gathered = gathered_columns(layer.op.connectivity, movement_index(moved, source.shape), source.shape)
        if gathered is not None:
            editor.replace(replace(layer, op=replace(layer.op, connectivity=gathered), inputs=(source.name,)))
            return True
    return False


def _lift(editor: _Editor) -> bool:
    """Exchange a movement with the layer before it, where further up something takes it.

    The layer takes the name and origin of the movement, since it now has that value.
    """
    for layer in filter(_is_movement, editor.graph.layers):
        source = editor.source(layer)
        if _is_movement(source) or not editor.is_private(source) or not _is_taken(editor, source):
            continue
        index = movement_index(layer, source.shape)
        if isinstance(source.op, Linear) and absorbs_rows(source.op):
            # Where the C order stays and the movement has no tensor, the value is still the source's.
            origin = layer.origin if layer.origin.output or not is_still(index) else source.origin
            taken = replace(layer, op=gathered_rows(source.op, index, layer.shape), inputs=source.inputs, origin=origin)
            editor.replace(taken)
            return True
        op = lifted_diagonal(source.op, index, layer.shape) if isinstance(source.op, Linear) else source.op
        moved = [
            replace(
                layer,
                name=fresh_name(f"{name}/moved", editor.taken),
                inputs=(name,),
                origin=without_tensor(layer.origin),
            )
            for name in source.inputs
        ]
        editor.replace(*moved, replace(layer, op=op, inputs=tuple(m.name for m in moved)))
        return True
    return False


def _is_taken(editor: _Editor, layer: Layer) -> bool:
    """Whether a movement behind the layer finds rows, or another movement, going up."""
    if _is_movement(layer) or (isinstance(layer.op, Linear) and absorbs_rows(layer.op)):
        return True
    if not _is_pointwise(layer):
        return False
    sources = [editor.graph.by_name[name] for name in layer.inputs]
    return all((_is_movement(s) or editor.is_private(s)) and _is_taken(editor, s) for s in sources)


def _sink(editor: _Editor) -> bool:
    """Exchange movements with the ReLU, sum or one-to-one layer behind them."""
    for layer in editor.graph.layers:
        moved = [editor.graph.by_name[name] for name in layer.inputs]
        if not moved or not _is_pointwise(layer) or layer.name in editor.graph.outputs:
            continue
        if not all(_is_movement(m) and m.op == moved[0].op for m in moved):
            continue
        sources = [editor.source(m) for m in moved]
        if any(isinstance(s.op, Input) or s.shape != sources[0].shape for s in sources):
            continue
        index = movement_index(moved[0], sources[0].shape)
        op = sunk_diagonal(layer.op, index, sources[0].shape) if isinstance(layer.op, Linear) else layer.op
        behind = replace(
            moved[0],
            name=fresh_name(f"{layer.name}/moved", editor.taken),
            inputs=(layer.name,),
            shape=layer.shape,
            origin=without_tensor(layer.origin),
        )
        sunk = replace(
            layer,
            op=op,
            inputs=tuple(s.name for s in sources),
            shape=sources[0].shape,
            origin=layer.origin if is_still(index) else without_tensor(layer.origin),
        )
        others = [
            replace(user, inputs=tuple(behind.name if name == layer.name else name for name in user.inputs))
            for user in map(editor.graph.by_name.__getitem__, dict.fromkeys(editor.graph.users[layer.name]))
        ]
        editor.replace(sunk, behind, *others)
        return True
    return False


def _permute(editor: _Editor) -> bool:
    """Turn a chain of movements into synapses, unless it is the one behind the input."""
    graph = editor.graph
    host = {
        layer.name
        for layer in filter(_is_movement, graph.layers)
        if isinstance(editor.source(layer).op, Input) and editor.is_private(editor.source(layer))
    }
    for layer in filter(_is_movement, graph.layers):
        ends_here = layer.name in graph.outputs or any(
            not _is_movement(graph.by_name[user]) for user in graph.users[layer.name]
        )
        if layer.name in host or not ends_here:
            continue
        root, index = editor.source(layer), movement_index(layer, editor.source(layer).shape)
        while _is_movement(root) and root.name not in host:
            above = editor.source(root)
            index, root = movement_index(root, above.shape)[index], above
        op = Linear(permutation_operator(index, root.shape, layer.shape), np.zeros(layer.shape[0]))
        editor.replace(replace(layer, op=op, inputs=(root.name,)))
        return True
    return False
