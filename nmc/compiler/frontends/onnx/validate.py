"""The rules that a file keeps before anything of it is computed, allocated or handed to a library.

The checker of the ONNX project is a second opinion: it passes a third of all damaged models.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import onnx
from onnx import AttributeProto, TensorProto

from nmc.compiler.frontends.onnx.limits import (
    DEPTH_LIMIT,
    ELEMENT_LIMIT,
    IR_VERSIONS,
    LIST_LIMIT,
    NAME_LIMIT,
    NODE_LIMIT,
    OPSETS,
    RANK_LIMIT,
)
from nmc.compiler.frontends.onnx.structure import origin_of
from nmc.compiler.frontends.onnx.text import escaped, listed
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.origin import Origin

_STORED = (
    "FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 BOOL FLOAT16 DOUBLE UINT32 UINT64 BFLOAT16 UINT4 INT4 FLOAT8E4M3FN "
    "FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ"
)
STORED = frozenset(TensorProto.DataType.Value(name) for name in _STORED.split())
"""Types of numbers that a stored tensor may have."""

INFINITE = frozenset({"Clip", "Constant", "Pad"})
"""Operators whose attributes may be infinite: they mean that there is no bound."""

_LISTS = ("ints", "floats", "strings", "tensors", "graphs", "sparse_tensors", "type_protos")


def validate(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    """Every rule about versions, names, types, attributes and sizes.

    Args:
        model: parsed, its nodes named, not changed.
        sink: one error per broken rule and place.
    """
    _check_versions(model, sink)
    _check_names(model, sink)
    _check_ends(model, sink)
    for node in model.graph.node:
        _check_node(node, sink)
    _check_bodies(model, sink)


def graphs(model: onnx.ModelProto) -> Iterator[tuple[onnx.GraphProto, int]]:
    """The main graph and all bodies within it, with their depth; the main graph has depth 0."""
    waiting = [(model.graph, 0)]
    while waiting:
        graph, depth = waiting.pop()
        yield graph, depth
        for node in graph.node:
            waiting.extend((body, depth + 1) for a in node.attribute for body in _bodies(a))


def _bodies(attribute: AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _check_versions(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    low, high = IR_VERSIONS
    if not low <= model.ir_version <= high:
        sink.error(
            "model-version",
            f"the file has IR version {model.ir_version}, versions {low} to {high} are read",
            help="export it with a current version of the exporter",
        )
    imports = Counter("" if o.domain == "ai.onnx" else o.domain for o in model.opset_import)
    twice = [domain or "ai.onnx" for domain, count in imports.items() if count > 1]
    if twice:
        sink.error("model-version", f"the file states two versions of the operators of {listed(twice)}")
    low, high = OPSETS
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions:
        sink.error("model-version", "the file does not say which version of the operators it uses")
    elif not low <= versions[0] <= high:
        sink.error(
            "model-version",
            f"the file uses opset {versions[0]}, opsets {low} to {high} are read",
            help="export it with opset 17",
        )


def _check_names(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    graph = model.graph
    stored = [tensor.name for tensor in graph.initializer]
    inputs = [value.name for value in graph.input]
    for names, what in ((stored, "stored tensors"), (inputs, "inputs")):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            sink.error("model-invalid", f"{what} share a name: {listed(twice)}", help="export the model again")
        if "" in names:
            sink.error("model-invalid", f"{what} have no name", help="export the model again")
    names = [*stored, *inputs, *(value.name for value in graph.output)]
    for node in graph.node:
        names += [node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    longest = max(names, key=len, default="")
    if len(longest) > NAME_LIMIT:
        sink.error(
            "model-invalid",
            f"the name '{escaped(longest, 60)}' has {len(longest)} characters, the limit is {NAME_LIMIT}",
            help="export the model with shorter names",
        )


def _check_ends(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    """The types of inputs and outputs, before a library sees them."""
    stored = {tensor.name for tensor in model.graph.initializer}
    ends = [(value, "input") for value in model.graph.input if value.name not in stored]
    for value, what in (*ends, *((value, "output") for value in model.graph.output)):
        name, kind = escaped(value.name), value.type.WhichOneof("value")
        if kind != "tensor_type" and (kind is not None or what == "input"):
            shown = "of no type" if kind is None else f"a {kind.removesuffix('_type').replace('_', ' ')}"
            sink.error("input-type", f"the {what} '{name}' is {shown}, it must be a tensor")
            continue
        dims = value.type.tensor_type.shape.dim
        if len(dims) > RANK_LIMIT:
            sink.error("input-shape", f"the {what} '{name}' has {len(dims)} axes, the limit is {RANK_LIMIT}")
        elif what == "input":
            elements = math.prod(max(d.dim_value, 1) for d in dims[1:])
            if elements > ELEMENT_LIMIT:
                sink.error(
                    "model-too-large",
                    f"the input '{name}' has {elements} numbers per sample, the limit is {ELEMENT_LIMIT}",
                    help="compile a network with a smaller input",
                )


def _check_node(node: onnx.NodeProto, sink: DiagnosticSink) -> None:
    origin = origin_of(node)
    if not node.op_type or not node.output:
        sink.error("model-invalid", "a node has no operator" if not node.op_type else "it makes nothing", origin=origin)
    if len(node.input) > LIST_LIMIT or len(node.output) > LIST_LIMIT:
        sink.error(
            "model-invalid",
            f"it has {len(node.input)} inputs and {len(node.output)} outputs, the limit is {LIST_LIMIT}",
            origin=origin,
        )
    names = Counter(a.name for a in node.attribute)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        sink.error("model-invalid", f"attributes appear more than once: {listed(twice)}", origin=origin)
    for attribute in node.attribute:
        _check_attribute(node, attribute, origin, sink)


def _check_attribute(node: onnx.NodeProto, attribute: AttributeProto, origin: Origin, sink: DiagnosticSink) -> None:
    name = escaped(attribute.name, 80)
    if attribute.ref_attr_name:
        sink.error("model-invalid", f"attribute {name} refers to one of a function", origin=origin)
    if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
        sink.error(
            "model-invalid", f"attribute {name} is a sparse tensor", origin=origin, help="store it as a dense tensor"
        )
    length = max(len(getattr(attribute, field)) for field in _LISTS)
    if length > LIST_LIMIT and node.op_type != "Constant":
        sink.error("model-invalid", f"attribute {name} has {length} elements, the limit is {LIST_LIMIT}", origin=origin)
    if len(attribute.s) > NAME_LIMIT and node.op_type != "Constant":
        sink.error(
            "model-invalid",
            f"attribute {name} has {len(attribute.s)} letters, the limit is {NAME_LIMIT}",
            origin=origin,
        )
    numbers = [attribute.f, *attribute.floats]
    if any(math.isnan(n) or (math.isinf(n) and node.op_type not in INFINITE) for n in numbers):
        sink.error("model-invalid", f"attribute {name} is NaN or infinite", origin=origin)


def _check_bodies(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    """Bodies of control flow: they are refused by name, but what walks them must come to an end."""
    nodes = 0
    for graph, depth in graphs(model):
        nodes += len(graph.node)
        if depth > DEPTH_LIMIT or nodes > NODE_LIMIT:
            what = f"has bodies nested {depth} deep, the limit is {DEPTH_LIMIT}"
            if nodes > NODE_LIMIT:
                what = f"has {nodes} nodes with those of its bodies, the limit is {NODE_LIMIT}"
            sink.error("model-invalid", f"the model {what}", help="export it without control flow")
            return
        if graph.sparse_initializer:
            sink.error(
                "model-invalid",
                f"the model has {len(graph.sparse_initializer)} sparse initialisers",
                help="store the weights as dense tensors",
            )


def stored_type_problem(tensor: TensorProto) -> str:
    """Why a stored tensor holds no numbers that can be read; empty if it does."""
    if tensor.data_type not in STORED:
        known = tensor.data_type in TensorProto.DataType.values()
        return f"its type is {TensorProto.DataType.Name(tensor.data_type) if known else tensor.data_type}"
    if len(tensor.dims) > RANK_LIMIT:
        return f"it has {len(tensor.dims)} axes, the limit is {RANK_LIMIT}"
    if tensor.HasField("segment"):
        return "it is stored in segments"
    return ""
