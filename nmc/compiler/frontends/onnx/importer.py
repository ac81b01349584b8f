"""From the nodes of a normalised model to layers, every problem collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from nmc.compiler.frontends.onnx.budget import values_stay_small
from nmc.compiler.frontends.onnx.fold import BATCHES, FOLD_TOTAL, FOLDABLE, FoldError, Known, fold, known
from nmc.compiler.frontends.onnx.heads import check_heads, with_direct_argmax, with_heads_last, with_hidden_sigmoids
from nmc.compiler.frontends.onnx.limits import ELEMENT_LIMIT
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.compiler.frontends.onnx.normalise import input_shape, opset_of
from nmc.compiler.frontends.onnx.text import escaped
from nmc.ir.connectivity import Array, Shape
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.layers import (
    Identity,
    Input,
    Layer,
    LayerGraph,
    Op,
)
from nmc.ir.origin import Origin

_KEEPS_INTEGERS = (
    "Clip Concat DepthToSpace Flatten Gather Identity Max MaxPool Min Relu Reshape Slice SpaceToDepth Split Squeeze "
    "Transpose Unsqueeze"
)
KEEPS_INTEGERS = frozenset(_KEEPS_INTEGERS.split())
"""Operators that do the same to the integers between QuantizeLinear and DequantizeLinear as to real numbers."""

LEAVES_INTEGERS = frozenset({"Cast", "DequantizeLinear"})
"""Operators that make real numbers of integers."""

Importer = Callable[[Node, "GraphBuilder"], None]
"""Adds the layers of one node to a builder, or raises `Refusal`."""


@dataclass
class Patch:
    """What the model that ONNX Runtime runs needs at one node, to be free in its batch.

    Attributes:
        inputs: input position -> constant that replaces the tensor there.
        expanded: input position -> constant without batch axis, repeated for each sample.
        dropped: optional inputs that it does without.
        attributes: new values of attributes that the node has.
        passes_on: the node does nothing but hand on its first input.
        shape: the node reshapes each sample to it.
    """

    inputs: dict[int, Array] = field(default_factory=dict)
    expanded: dict[int, Array] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    attributes: dict[str, int] = field(default_factory=dict)
    passes_on: bool = False
    shape: Shape | None = None


class GraphBuilder:
    """Layers under construction.

    Attributes:
        model: normalised; not changed.
        opset: of the model.
        batch: the batch size that the file had fixed, or None.
        sink: takes the problems.
        layers: so far, in the order of the nodes.
        by_name: the same by name.
        values: tensor -> name of the layer with its value.
        known: tensors that do not depend on the data.
        patches: by node index.
        folded: indices of the nodes whose results are known.
        lost: layers that stand for refused nodes.
        integers: tensors whose values are integers, as QuantizeLinear makes them.
    """

    def __init__(self, model: onnx.ModelProto, batch: int | None, sink: DiagnosticSink) -> None:
        self.model = model
        self.opset = opset_of(model)
        self.batch = batch
        self.sink = sink
        self.layers: list[Layer] = []
        self.by_name: dict[str, Layer] = {}
        self.values: dict[str, str] = {}
        self.known: dict[str, Known] = {t.name: known(numpy_helper.to_array(t)) for t in model.graph.initializer}
        self.patches: dict[int, Patch] = {}
        self.folded: set[int] = set()
        self.lost: set[str] = set()
        self.integers: set[str] = set()
        self._bytes: dict[str, int] = {}
        self._spent = False
        self._names = {node.name for node in model.graph.node}
        self._shapes: dict[str, Shape] = {}
        self._read = {name for node in model.graph.node for name in node.input}
        self._used = self._read | {value.name for value in model.graph.output}

    # --- what importers ask ---------------------------------------------------------------

    def shape(self, tensor: str) -> Shape:
        """Shape of an activation without the batch axis."""
        return self._shapes[self.values[tensor]]

    def constant(self, tensor: str, what: str) -> Array:
        """The value of a constant input.

        Raises:
            Refusal: it is computed from the network's input, or depends on the batch size.
        """
        value = self.known.get(tensor)
        if value is None:
            raise Refusal(
                "operator-unsupported",
                f"{what} is computed by the network",
                "use a constant there; train it into the model or export with constant folding",
            )
        if not value.constant:
            raise Refusal("operator-unsupported", f"{what} depends on the batch size", "export with a fixed batch of 1")
        return value.value

    def axes(self, tensor: str, what: str) -> tuple[int, ...]:
        """A constant input that is a list of integers."""
        value = self.constant(tensor, what)
        if value.dtype.kind not in "iu" or value.ndim > 1:
            raise Refusal("model-invalid", f"{what} is no list of integers")
        return tuple(int(v) for v in value.reshape(-1))

    def activation(self, node: Node, position: int) -> Shape:
        """Shape of an input that must be an activation.

        Raises:
            Refusal: it is a constant.
        """
        tensor = node.input(position)
        if tensor not in self.values:
            raise Refusal(
                "operator-unsupported",
                f"input {position} is a constant, the data comes in elsewhere",
                "exchange the operands or fold the node before the export",
            )
        return self.shape(tensor)

    def is_used(self, tensor: str) -> bool:
        """Whether a node or the output reads a tensor."""
        return tensor in self._used

    def is_read(self, tensor: str) -> bool:
        """Whether a node reads a tensor."""
        return tensor in self._read

    def keeps_one(self, node: Node, rest: Shape) -> bool:
        """Whether nothing is left behind the batch of a node's output, and one axis of size 1 may stay there.

        Raises:
            Refusal: a node reads that output, which would find an axis too many.
        """
        if not rest and node.proto.output[0] in self._read:
            raise Refusal(
                "operator-unsupported", "nothing is left behind the batch axis", "keep one axis there, e.g. (N, 1)"
            )
        return not rest

    # --- what importers do ----------------------------------------------------------------

    def add(self, node: Node, op: Op, inputs: tuple[str, ...], shape: Shape) -> None:
        """The layer whose value is the node's first output; ``inputs`` are tensors."""
        if not all(n > 0 for n in shape) or not shape:
            raise Refusal("shape-invalid", f"its output has the shape {list(shape)} behind the batch")
        if prod(shape) > ELEMENT_LIMIT:
            raise Refusal(
                "model-too-large",
                f"it makes {prod(shape)} numbers per sample, the limit is {ELEMENT_LIMIT}",
                "compile a network with smaller activations",
            )
        self._append(Layer(node.name, op, tuple(self.values[t] for t in inputs), shape, node.origin))
        self.values[node.proto.output[0]] = node.name

    def add_output(self, node: Node, number: int, op: Op, inputs: tuple[str, ...], shape: Shape) -> None:
        """The layer whose value is one of several outputs of the node; nothing where it has no name."""
        tensor = node.proto.output[number]
        if number == 0 and tensor:
            self.add(node, op, inputs, shape)
        elif tensor:
            inner = self.add_inner(node, f"output{number}", op, inputs, shape)
            layer = self.layers[-1]
            self.layers[-1] = replace(layer, origin=replace(layer.origin, output=tensor))
            self.values[tensor] = self.values[inner]

    def add_inner(self, node: Node, suffix: str, op: Op, inputs: tuple[str, ...], shape: Shape) -> str:
        """A layer on the way, whose value is no tensor of the file; a tensor name for it."""
        name = self._unique(f"{node.name}/{suffix}")
        self._append(
            Layer(name, op, tuple(self.values[t] for t in inputs), shape, Origin(node.name, node.origin.op, ""))
        )
        self.values[f"\0{name}"] = name
        return f"\0{name}"

    def patch(self, node: Node) -> Patch:
        """The patch of a node, to be filled."""
        return self.patches.setdefault(node.index, Patch())

    def _take(self, what: str, size: int, limit: int) -> None:
        """Count the bytes of constants; what is over its limit ends the walk."""
        self._bytes[what] = self._bytes.get(what, 0) + size
        if self._bytes[what] > limit:
            self._spent = True
            text = f"{what} take {self._bytes[what]} bytes up to here, the limit is {limit}"
            raise Refusal("constant-not-folded", text, "store fewer or smaller constants")

    def _append(self, layer: Layer) -> None:
        # A bias may be as large as the activation that it is broadcast to.
        arrays = [value for value in vars(layer.op).values() if isinstance(value, np.ndarray)]
        self._take("biases and factors", sum(array.nbytes for array in arrays), FOLD_TOTAL // 4)
        self.layers.append(layer)
        self.by_name[layer.name] = layer
        self._shapes[layer.name] = layer.shape

    def _unique(self, wanted: str) -> str:
        name, copies = wanted, 0
        while name in self._names:
            copies += 1
            name = f"{wanted}_{copies}"
        self._names.add(name)
        return name

    # --- the walk -------------------------------------------------------------------------

    def build(self, importers: Mapping[str, Importer]) -> LayerGraph | None:
        """Walk over all nodes.

        Args:
            importers: by operator type; nodes of other types have been reported before.

        Returns:
            The graph, or None where the sink has errors.
        """
        for value in self.model.graph.input:
            name = self._unique(escaped(value.name) or "input")
            origin = Origin(escaped(value.name) or name, "Input", value.name)
            self._append(Layer(name, Input(), (), input_shape(value), origin))
            self.values[value.name] = name
        inferred: Mapping[str, Shape] | None = None
        reported = {(d.slug, d.origin) for d in self.sink.errors}
        for index, proto in enumerate(self.model.graph.node):
            node = Node(proto, index)
            try:
                if self._fold(node) or self._depends_on_lost(node):
                    continue
                if proto.domain in ("", "ai.onnx") and proto.op_type in importers:
                    self._import(node, importers[proto.op_type])
                    continue
            except Refusal as refusal:
                # The gate has seen stored weights; here they may have come out of a folded constant.
                if (refusal.slug, node.origin) not in reported:
                    self.sink.error(refusal.slug, refusal.message, origin=node.origin, help=refusal.help)
            if self._spent:
                break
            if inferred is None:
                inferred = inferred_shapes(self.model)
            self._stand_in(node, inferred)
        return self._finish()

    def _import(self, node: Node, importer: Importer) -> None:
        """The layers of one node; its results are integers where it says so, or where it only moves them."""
        op, given = node.proto.op_type, self.integers.intersection(node.proto.input)
        if given and op not in KEEPS_INTEGERS | LEAVES_INTEGERS:
            raise Refusal(
                "operator-unsupported",
                "it computes with integers",
                "put a DequantizeLinear before it, as exporters of quantized models do",
            )
        importer(node, self)
        if op == "QuantizeLinear" or (given and op not in LEAVES_INTEGERS):
            self.integers.update(node.proto.output)

    def _fold(self, node: Node) -> bool:
        """Fold the node if no input depends on the data."""
        proto = node.proto
        if proto.op_type not in FOLDABLE or proto.domain not in ("", "ai.onnx"):
            return False
        names = [name for name in proto.input if name]
        if proto.op_type == "Shape" and names[0] in self.values:
            shape = self.shape(names[0])
            axes = slice(node.integer("start", 0), node.integer("end", len(shape) + 1))
            both = [np.asarray((batch, *shape)[axes], dtype=np.int64) for batch in BATCHES]
            self.known[proto.output[0]] = Known((both[0], both[1]))
        elif all(name in self.known for name in names):
            try:
                self.known.update(fold(proto, {name: self.known[name] for name in names}, self.opset))
            except FoldError as error:
                raise Refusal("constant-not-folded", f"the constant cannot be computed: {error}") from error
            self._take("constants", sum(self.known[name].nbytes for name in proto.output if name), FOLD_TOTAL)
        else:
            return False
        self.folded.add(node.index)
        return True

    def _depends_on_lost(self, node: Node) -> bool:
        """Whether an input comes from a refused node of unknown shape: nothing to say then."""
        return any(name and name not in self.values and name not in self.known for name in node.proto.input)

    def _stand_in(self, node: Node, inferred: Mapping[str, Shape]) -> None:
        """Let the walk go on behind a refused node, with the shapes that ONNX infers."""
        sources = [name for name in node.proto.input if name in self.values]
        for output in node.proto.output:
            if output in inferred and sources and prod(inferred[output]) <= ELEMENT_LIMIT:
                self.values[output] = self._unique(f"{node.name}/refused")
                self.lost.add(self.values[output])
                self._append(
                    Layer(self.values[output], Identity(), (self.values[sources[0]],), inferred[output], node.origin)
                )

    def _finish(self) -> LayerGraph | None:
        outputs = [value.name for value in self.model.graph.output]
        ends = tuple(self.values.get(name, self.layers[-1].name) for name in outputs)
        name = escaped(self.model.graph.name) or "model"
        graph = self._without_unused(LayerGraph(name, tuple(self.layers), ends, tuple(map(escaped, outputs))))
        graph = with_hidden_sigmoids(with_heads_last(with_direct_argmax(graph)), self.lost)
        check_heads(graph, self.lost, self.sink)
        if self.sink.errors:
            return None
        for output in outputs:
            if output not in self.values:
                self.sink.error(
                    "model-ends",
                    f"the output '{escaped(output)}' does not depend on an input",
                    help="compile a network whose outputs are computed from its inputs",
                )
        return None if self.sink.errors else graph

    def _without_unused(self, graph: LayerGraph) -> LayerGraph:
        """The graph without inputs that no output depends on, each with a warning, and what reads them."""
        used: set[str] = set()
        waiting = list(graph.outputs)
        while waiting:
            name = waiting.pop()
            if name not in used:
                used.add(name)
                waiting.extend(graph.by_name[name].inputs)
        idle = [layer for layer in graph.inputs if layer.name not in used]
        if not idle or len(idle) == len(graph.inputs):
            return graph
        for layer in idle:
            self.sink.warning(
                "input-unused",
                f"no output depends on the input '{layer.origin.node}': it is left out",
                help="data need not hold it",
            )
        return replace(graph, layers=tuple(layer for layer in graph.layers if layer.name in used))


def inferred_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Shapes without batch that ONNX infers, where all of it is fixed."""
    shapes: dict[str, Shape] = {}
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=values_stay_small(model))
    except (RuntimeError, ValueError):
        return shapes
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) >= 2 and all(d.dim_value > 0 for d in dims[1:]):
            shapes[value.name] = tuple(d.dim_value for d in dims[1:])
    return shapes
