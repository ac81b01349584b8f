"""`read_model` and `check_model`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from nmc.compiler.frontends.onnx.budget import FOLLOWED_LIMIT, check_budget
from nmc.compiler.frontends.onnx.fold import BATCHES, silent_session
from nmc.compiler.frontends.onnx.functions import inline_functions
from nmc.compiler.frontends.onnx.gate import check_tensors, inline_external_data, parse, read_file
from nmc.compiler.frontends.onnx.importer import GraphBuilder, Patch
from nmc.compiler.frontends.onnx.normalise import BATCH, float_ends, free_batch, raise_opset, to_float32
from nmc.compiler.frontends.onnx.registry import importers, uses
from nmc.compiler.frontends.onnx.source import ModelCheck, OperatorUse, SourceModel
from nmc.compiler.frontends.onnx.structure import (
    check_ends,
    check_with_onnx,
    name_nodes,
    origin_of,
    sort_nodes,
    strip_initialisers,
)
from nmc.compiler.frontends.onnx.text import escaped, shortened
from nmc.compiler.frontends.onnx.validate import validate
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import ArgMax, Identity, LayerGraph
from nmc.ir.origin import Origin
from nmc.ir.uniform import is_uniform


@dataclass(frozen=True, eq=False)
class _Reading:
    """How far a file was understood."""

    operators: tuple[OperatorUse, ...]
    sha256: str
    graph: LayerGraph | None = None
    onnx: bytes = b""
    integers: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def read_model(path: Path) -> SourceModel:
    """Read an ONNX file.

    Args:
        path: of the file; external data lies in its folder.

    Raises:
        NmcError: exit USAGE if the path cannot be read, MODEL with every problem if the
            file is no model that can be compiled.
    """
    path = Path(path)
    sink = DiagnosticSink()
    reading = _read(path, sink)
    if sink.errors:
        raise NmcError(shortened(sink.errors), ExitCode.MODEL)
    if reading.graph is None:
        raise RuntimeError("a model without problems has a graph")
    graph = replace(reading.graph, name=escaped(path.stem))
    limits = tuple(reading.integers.get(layer.origin.output) for layer in graph.inputs)
    return SourceModel(
        graph.name, reading.onnx, graph, reading.operators, reading.sha256, limits, shortened(sink.items)
    )


def check_model(path: Path, *, strict: bool = False) -> ModelCheck:
    """Every problem that `read_model` would find, without raising for those of the network.

    Args:
        path: of the file.
        strict: what would be approximated is a problem too.

    Raises:
        NmcError: exit USAGE if the path cannot be read, MODEL if the file is no ONNX model.
    """
    sink = DiagnosticSink()
    reading = _read(Path(path), sink)
    if strict and reading.graph is not None:
        # The passes load numba, which takes longer than reading a small model.
        from nmc.passes.simplify.refuse_approximation import refuse_approximations

        refuse_approximations(reading.graph, sink)
    return ModelCheck(not sink.errors, reading.operators, shortened(sink.items))


def _read(path: Path, sink: DiagnosticSink) -> _Reading:
    data = read_file(path)
    model = inline_functions(parse(data, path.name), sink)
    name_nodes(model)
    validate(model, sink)
    strip_initialisers(model)
    digest = inline_external_data(model, data, path.parent, sink)
    del data  # as large as the weights, which are in the model now
    check_ends(model, sink)
    sort_nodes(model, sink)
    check_tensors(model, sink)
    operators = uses(model)
    _refuse(model, operators, sink)
    reading = _Reading(operators, digest)
    # Problems of these kinds would only cause others further on.
    followed = {"operator-unsupported", "model-weights-not-finite"}
    if any(d.slug not in followed for d in sink.errors):
        return reading
    refused = any(use.status == "refused" for use in operators)
    second_opinion = DiagnosticSink()
    check_with_onnx(model, second_opinion)
    if second_opinion.errors:
        # Of a foreign domain the checker knows nothing; its operators have been refused by name.
        if not any(":" in use.op for use in operators):
            sink.items.extend(second_opinion.items)
        return reading
    to_float32(model)
    attempt = DiagnosticSink()
    raised = raise_opset(model, attempt)
    if attempt.errors:
        # A refused operator may be what the converter stumbles over; it has been reported.
        if not refused:
            sink.items.extend(attempt.items)
        return reading
    del model
    integers = float_ends(raised)
    name_nodes(raised)
    batch = free_batch(raised, sink)
    if any(d.slug in ("input-shape", "shape-dynamic", "input-type", "model-too-large") for d in sink.errors):
        return reading
    builder = GraphBuilder(raised, batch, sink)
    _empty_large(raised)
    graph = builder.build(importers())
    if graph is None:
        return reading
    check_budget(graph, sink)
    if sink.errors:
        return reading
    serialised = _runnable(raised, builder, graph).SerializeToString(deterministic=True)
    outputs = [value.name for value in raised.graph.output]
    del raised, builder  # ONNX Runtime holds the weights twice more
    _try(serialised, outputs, graph, sink)
    return replace(reading, graph=graph, onnx=serialised, integers=integers)


def _empty_large(model: onnx.ModelProto) -> None:
    """Drop the values of large initialisers, in place: the builder has them, and shapes do not depend on them."""
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > FOLLOWED_LIMIT:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")


def _refuse(model: onnx.ModelProto, operators: tuple[OperatorUse, ...], sink: DiagnosticSink) -> None:
    """One error per node of a refused operator."""
    nodes = {node.name: node for node in model.graph.node}
    for use in operators:
        if use.status != "refused":
            continue
        for name in use.nodes:
            origin: Origin = origin_of(nodes[name])
            sink.error("operator-unsupported", f"operator {use.op} is not supported", origin=origin, help=use.note)


def _runnable(model: onnx.ModelProto, builder: GraphBuilder, graph: LayerGraph) -> onnx.ModelProto:
    """The model that ONNX Runtime runs: constants folded, any batch size, nothing unused."""
    nodes: list[onnx.NodeProto] = []
    stored: dict[str, Array] = {}
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    for index, proto in enumerate(model.graph.node):
        if index in builder.folded:
            continue
        node = onnx.NodeProto()
        node.CopyFrom(proto)
        nodes.extend(_patched(node, builder.patches.get(index, Patch()), stored, names))
    outputs = [value.name for value in model.graph.output]
    needed = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    kept.reverse()
    constants: Mapping[str, Array] = {
        **{name: value.value for name, value in builder.known.items() if name in needed},
        **{name: value for name, value in stored.items() if name in needed},
    }
    # What is one value is made when it is needed: it would be most of the model.
    made = {name: array for name, array in constants.items() if is_uniform(array) and array.size > FOLLOWED_LIMIT}
    runnable = helper.make_model(
        helper.make_graph(
            [*(_constant_of_shape(name, array, stored, names) for name, array in made.items()), *kept],
            graph.name,
            [value for value in model.graph.input if value.name in {layer.origin.output for layer in graph.inputs}],
            [
                helper.make_tensor_value_info(name, _kind(graph, end), [BATCH, *graph.by_name[end].shape])
                for name, end in zip(outputs, graph.outputs, strict=True)
            ],
        ),
        opset_imports=[o for o in model.opset_import if o.domain in ("", "ai.onnx")],
        ir_version=model.ir_version,
        producer_name="nmc",
    )
    shapes = {node.input[0]: stored[node.input[0]] for node in runnable.graph.node[: len(made)]}
    for name, array in (*constants.items(), *shapes.items()):
        if name not in made:
            # One at a time into its place: a list of them would be the weights once more.
            runnable.graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
    return runnable


def _constant_of_shape(name: str, array: Array, stored: dict[str, Array], names: set[str]) -> onnx.NodeProto:
    """A node that makes an array of one value."""
    shape = _fresh(f"{name}_shape", names)
    stored[shape] = np.array(array.shape, dtype=np.int64)
    value = numpy_helper.from_array(array.reshape(-1)[:1].copy())
    return helper.make_node("ConstantOfShape", [shape], [name], name=_fresh(f"{name}_made", names), value=value)


def _kind(graph: LayerGraph, name: str) -> int:
    """The ONNX type of an output."""
    made = graph.by_name[name]
    while isinstance(made.op, Identity):
        made = graph.by_name[made.inputs[0]]
    return int(onnx.TensorProto.INT64 if isinstance(made.op, ArgMax) else onnx.TensorProto.FLOAT)


def _patched(node: onnx.NodeProto, patch: Patch, stored: dict[str, Array], names: set[str]) -> list[onnx.NodeProto]:
    """A node and the nodes before it that make it free in the batch size."""
    before: list[onnx.NodeProto] = []
    if node.op_type == "Split":
        # ONNX Runtime crashes on parts without a name.
        for position, name in enumerate(node.output):
            node.output[position] = name or _fresh(f"{node.name}_part{position}", names)
    for position in patch.dropped:
        node.input[position] = ""
    for position, array in patch.inputs.items():
        node.input[position] = _fresh(f"{node.output[0]}_shape", names)
        stored[node.input[position]] = array
    for position, array in patch.expanded.items():
        # Repeat the constant for each sample: Expand to (batch of the data, 1, ... 1).
        data = next(name for i, name in enumerate(node.input) if i not in patch.expanded)
        made = [
            _fresh(f"{node.output[0]}_{what}{position}", names) for what in ("batch", "ones", "dims", "sample", "each")
        ]
        batch, ones, dims, sample, each = made
        stored[ones] = np.ones(array.ndim, dtype=np.int64)
        stored[sample] = array[None] if array.dtype.kind in "iu" else array[None].astype(np.float32)
        before += [
            helper.make_node("Shape", [data], [batch], name=batch, start=0, end=1),
            helper.make_node("Concat", [batch, ones], [dims], name=dims, axis=0),
            helper.make_node("Expand", [sample, dims], [each], name=each),
        ]
        node.input[position] = each
    for attribute in node.attribute:
        if attribute.name in patch.attributes:
            attribute.i = patch.attributes[attribute.name]
    if patch.shape is not None:
        wanted = _fresh(f"{node.output[0]}_shape", names)
        stored[wanted] = np.array([0, *patch.shape], dtype=np.int64)
        node.CopyFrom(helper.make_node("Reshape", [node.input[0], wanted], node.output[:1], name=node.name))
    if patch.passes_on:
        node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name))
    return [*before, node]


def _fresh(wanted: str, names: set[str]) -> str:
    name, copies = wanted, 0
    while name in names:
        copies += 1
        name = f"{wanted}_{copies}"
    names.add(name)
    return name


def _try(model: bytes, outputs: list[str], graph: LayerGraph, sink: DiagnosticSink) -> None:
    """ONNX Runtime runs the model and agrees on the shapes of its outputs."""
    given = {la.origin.output: np.zeros((BATCHES[0], *la.shape), np.float32) for la in graph.inputs}
    try:
        made = silent_session(model).run(outputs, given)
    except MemoryError:
        raise
    except Exception as error:  # ONNX Runtime raises classes of its own
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        sink.error(
            "model-not-runnable",
            f"ONNX Runtime does not run the model: {escaped(reason)}",
            help="export it with opset 17, and check that onnxruntime.InferenceSession loads it",
        )
        return
    for output, end, value in zip(outputs, graph.outputs, made, strict=True):
        expected = [BATCHES[0], *graph.by_name[end].shape]
        if list(value.shape) != expected:
            sink.error(
                "model-not-runnable",
                f"ONNX Runtime makes '{escaped(output)}' {list(value.shape)}, the layers make {expected}",
            )
