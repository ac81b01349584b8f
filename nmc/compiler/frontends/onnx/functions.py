"""Functions of a model, inlined where that stays small: what they come to is counted before it is copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx
from onnx import inliner

from nmc.compiler.frontends.onnx.limits import NODE_LIMIT, SIZE_LIMIT
from nmc.compiler.frontends.onnx.text import escaped
from nmc.ir.diagnostic import DiagnosticSink

Key = tuple[str, str, str]

CALL_LIMIT = 50
"""Calls within calls."""


def inline_functions(model: onnx.ModelProto, sink: DiagnosticSink) -> onnx.ModelProto:
    """The model without functions, or an error in the sink.

    Args:
        model: not changed; returned as it is where it has no functions.
        sink: functions under the names of standard operators, twice the same name, calls in a
            circle, or more nodes or bytes than `NODE_LIMIT` and `SIZE_LIMIT` when inlined.
    """
    if not model.functions:
        return model
    bodies = {_key(f): list(f.node) for f in model.functions}
    if len(bodies) < len(model.functions) or any(domain in ("", "ai.onnx") for domain, _, _ in bodies):
        sink.error(
            "model-invalid",
            "functions of the model share a name, or have that of a standard operator",
            help="export the model again",
        )
        return model
    order = _callees_first(bodies)
    if order is None:
        sink.error("model-cycle", "functions of the model call each other in a circle", help="export the model again")
        return model
    sizes: dict[Key, _Size] = {}
    for key in order:
        sizes[key] = _expanded(bodies[key], sizes)
    nodes, size, calls = _expanded(model.graph.node, sizes)
    if nodes > NODE_LIMIT or size > SIZE_LIMIT or calls > CALL_LIMIT:
        sink.error(
            "model-too-large",
            f"its functions inlined, the model has {nodes} nodes and {size} bytes, in calls {calls} deep; "
            f"the limits are {NODE_LIMIT}, {SIZE_LIMIT} and {CALL_LIMIT}",
            help="inline them with onnx.inliner.inline_local_functions and look at what comes out",
        )
        return model
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        sink.error(
            "model-invalid",
            f"the functions of the model cannot be inlined: {escaped(str(error).strip().split(chr(10))[0])}",
            help="export the model without functions",
        )
        return model


def _key(call: onnx.FunctionProto | onnx.NodeProto) -> Key:
    name = call.name if isinstance(call, onnx.FunctionProto) else call.op_type
    return call.domain, name, call.overload


def _within(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those of their bodies."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            waiting.extend(attribute.g.node)
            waiting.extend(inner for body in attribute.graphs for inner in body.node)


def _callees_first(bodies: dict[Key, list[onnx.NodeProto]]) -> list[Key] | None:
    """The functions, each behind those that it calls; None where calls form a circle."""
    calls = {key: {_key(node) for node in _within(nodes)} & bodies.keys() for key, nodes in bodies.items()}
    callers: dict[Key, list[Key]] = {key: [] for key in bodies}
    for key, called in calls.items():
        for callee in called:
            callers[callee].append(key)
    waiting = {key: len(called) for key, called in calls.items()}
    order = [key for key, count in waiting.items() if not count]
    for key in order:  # grows
        for caller in callers[key]:
            waiting[caller] -= 1
            if not waiting[caller]:
                order.append(caller)
    return order if len(order) == len(bodies) else None


_Size = tuple[int, int, int]
"""Nodes, bytes, and how deep calls go."""


def _expanded(nodes: Sequence[onnx.NodeProto], sizes: Mapping[Key, _Size]) -> _Size:
    """What nodes come to, given the functions that they call."""
    count, size, deep = 0, 0, 0
    for node in _within(nodes):
        inner = sizes.get(_key(node), (1, node.ByteSize(), -1))
        count, size, deep = count + inner[0], size + inner[1], max(deep, inner[2] + 1)
    return count, size, deep
