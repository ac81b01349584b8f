"""The model as a graph: names are unique, inputs exist, no cycles, at least one input and one output."""

from __future__ import annotations

import onnx
from onnx import checker

from nmc.compiler.frontends.onnx.text import escaped, listed
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.origin import Origin


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a unique printable name; the n-th node without one becomes ``<Op>_<n>``."""
    taken: set[str] = set()
    copies: dict[str, int] = {}
    for number, node in enumerate(model.graph.node):
        wanted = escaped(node.name) or f"{escaped(node.op_type, 40)}_{number}"
        name = wanted
        while name in taken:
            copies[wanted] = copies.get(wanted, 0) + 1
            name = f"{wanted}_{copies[wanted]}"
        taken.add(name)
        node.name = name


def origin_of(node: onnx.NodeProto) -> Origin:
    """The origin of a node's first output."""
    return Origin(node.name, escaped(node.op_type, 80), node.output[0] if node.output else "")


def strip_initialisers(model: onnx.ModelProto) -> None:
    """Remove initialisers from the graph inputs: older exporters list every weight there.

    The IR version becomes at least 4, the first in which that is allowed.
    """
    model.ir_version = max(model.ir_version, 4)
    stored = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def check_ends(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    """At least one input and one output, each with a name of its own."""
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    if not inputs:
        sink.error("model-ends", "the model has no input", help="export it with its inputs")
    if not outputs:
        sink.error("model-ends", "the model has no output", help="export it with its outputs")
    for names, what in ((inputs, "inputs"), (outputs, "outputs")):
        # They are shown, and files are keyed by them, in this form.
        shown = [escaped(name) for name in names]
        twice = sorted({name for name in shown if shown.count(name) > 1})
        if twice or "" in shown:
            text = f"{what} share a name or have none: {listed(twice or shown)}"
            sink.error("model-ends", text, help="name them apart")


def sort_nodes(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    """Bring the nodes into topological order; report what prevents it."""
    graph = model.graph
    made: dict[str, int] = {}
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    for number, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in made or name in known):
                sink.error("model-invalid", f"tensor '{escaped(name)}' is made more than once", origin=origin_of(node))
            made[name] = number
    for node in graph.node:
        missing = [name for name in node.input if name not in made and name not in known]
        if missing:
            sink.error("model-invalid", f"reads {listed(missing)}, which nothing makes", origin=origin_of(node))
    for value in graph.output:
        if value.name not in made and value.name not in known:
            sink.error("model-invalid", f"the output '{escaped(value.name)}' is made by no node")
    left = list(range(len(graph.node)))
    waiting = {
        number: len({made[name] for name in graph.node[number].input if name and name in made}) for number in left
    }
    readers: dict[int, list[int]] = {number: [] for number in left}
    for number in left:
        for source in {made[name] for name in graph.node[number].input if name and name in made}:
            readers[source].append(number)
    order = [number for number in left if waiting[number] == 0]
    for number in order:  # grows
        for reader in readers[number]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                order.append(reader)
    stuck = [graph.node[number] for number in left if waiting[number] > 0]
    if stuck:
        names = listed([node.name for node in stuck])
        sink.error("model-cycle", f"nodes wait for each other in a cycle: {names}", origin=origin_of(stuck[0]))
    elif order != left:
        in_place = all(made.get(name, -1) < number for number in left for name in graph.node[number].input)
        if not in_place:
            nodes = [graph.node[number] for number in order]
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)


def check_with_onnx(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    """The checker of the ONNX project, as a second opinion."""
    # It wants every end to have a shape; ONNX Runtime and we do not, for the output.
    ends = (*model.graph.input, *model.graph.output)
    bare = [v.type.tensor_type for v in ends if v.type.HasField("tensor_type")]
    bare = [tensor for tensor in bare if not tensor.HasField("shape")]
    for tensor in bare:
        tensor.shape.SetInParent()
    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError, RuntimeError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        sink.error(
            "model-invalid",
            f"the ONNX checker refuses the model: {escaped(first)}",
            help="export the model again; onnx.checker.check_model must pass",
        )
    for tensor in bare:
        tensor.ClearField("shape")
