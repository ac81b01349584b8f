"""A failing model made smaller while it fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.generator import RandomModel, in_opset_7, in_single_precision
from tests.fuzz.oracle import Values, outputs_of

APPROXIMATED = {"QuantizeLinear", "Tanh", "Sigmoid", "Elu", "Softplus"}
"""What the compiler only comes near to, unless it is the last node."""

Fails = Callable[[RandomModel], bool]


def rebuilt(model: onnx.ModelProto, x: Values, seed: int = 0) -> RandomModel | None:
    """A model with what ONNX Runtime makes of the inputs; None where it does not run."""
    twin = in_opset_7(model) if model.opset_import[0].version == 6 else model
    if model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16:
        twin = in_single_precision(model)
    try:
        wanted = outputs_of(twin, x)
    except Exception:  # ONNX Runtime raises classes of its own: such a candidate is of no use
        return None
    ends = {value.name for value in model.graph.output}
    near = any(n.op_type in APPROXIMATED and not ends.intersection(n.output) for n in model.graph.node)
    return RandomModel(seed, model, twin, x, wanted, not near)


def reduced(model: RandomModel, fails: Fails, most: int = 400) -> RandomModel:
    """The smallest model found that still fails.

    Args:
        model: fails.
        fails: whether a candidate fails in the same way.
        most: candidates tried.
    """
    tried = 0
    again = True
    while again:
        again = False
        for candidate in _candidates(model):
            if tried >= most:
                return model
            tried += 1
            if _weight(candidate) < _weight(model) and fails(candidate):
                model, again = candidate, True
                break
    return model


def _weight(model: RandomModel) -> tuple[int, int, int]:
    """What shrinks: nodes and outputs, stored digits, samples."""
    graph = model.model.graph
    values = [numpy_helper.to_array(t) for t in graph.initializer]
    digits = sum(int(np.count_nonzero(v != np.rint(v))) for v in values if v.dtype.kind == "f")
    return len(graph.node) + len(graph.output), digits + sum(v.size for v in values), len(model.x)


def _candidates(model: RandomModel) -> Iterator[RandomModel]:
    for changed, x in _changes(model):
        made = rebuilt(_tidy(changed), x, model.seed)
        if made is not None:
            yield made


def _changes(model: RandomModel) -> Iterator[tuple[onnx.ModelProto, Values]]:
    nodes = model.model.graph.node
    for number in range(len(nodes) - 1):
        yield _ending_at(model.model, nodes[number].output[0]), model.x
    for output in model.model.graph.output:
        if len(model.model.graph.output) > 1:
            yield _ending_at(model.model, output.name), model.x
    for number in range(len(nodes) - 1, -1, -1):
        started = _starting_behind(model, number)
        if started is not None:
            yield started
    for number in range(len(nodes)):
        yield _without_node(model.model, number), model.x
    for number in range(len(model.model.graph.initializer)):
        yield _rounded(model.model, number), model.x
    if len(model.x) > 2:
        yield model.model, model.x[: len(model.x) // 2]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def _ending_at(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """One tensor is the only output."""
    made = _copy(model)
    kind = made.graph.output[0].type.tensor_type.elem_type
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info(tensor, kind, None))
    return made


def _starting_behind(model: RandomModel, number: int) -> tuple[onnx.ModelProto, Values] | None:
    """The output of one node is the input, with the values that it had."""
    tensor = model.model.graph.node[number].output[0]
    made = rebuilt(_tidy(_ending_at(model.model, tensor)), model.x)
    if made is None or made.wanted[0].dtype != model.x.dtype or made.wanted[0].ndim < 2:
        return None
    values = made.wanted[0]
    changed = _copy(model.model)
    entry = changed.graph.input[0]
    batch = entry.type.tensor_type.shape.dim[0].dim_value or "N"
    del changed.graph.node[number]
    kind = entry.type.tensor_type.elem_type
    others = list(changed.graph.input[1:])
    del changed.graph.input[:]
    changed.graph.input.append(helper.make_tensor_value_info(tensor, kind, [batch, *values.shape[1:]]))
    changed.graph.input.extend(others)
    return changed, values


def _without_node(model: onnx.ModelProto, number: int) -> onnx.ModelProto:
    """A node's readers read what it read."""
    made = _copy(model)
    node = made.graph.node[number]
    if not node.input:
        return made
    source, outputs = node.input[0], set(node.output)
    if outputs.intersection(value.name for value in made.graph.output):
        return made
    del made.graph.node[number]
    for other in made.graph.node:
        other.input[:] = [source if name in outputs else name for name in other.input]
    return made


def _rounded(model: onnx.ModelProto, number: int) -> onnx.ModelProto:
    """A constant with fewer digits."""
    made = _copy(model)
    tensor = made.graph.initializer[number]
    values = numpy_helper.to_array(tensor)
    if values.dtype.kind == "f":
        tensor.CopyFrom(numpy_helper.from_array(np.rint(values * 2).astype(values.dtype) / 2, tensor.name))
    return made


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without nodes and constants that nothing reads, and without what others said of shapes."""
    wanted = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            wanted.update(node.input)
    stored = [onnx.TensorProto.FromString(t.SerializeToString()) for t in model.graph.initializer if t.name in wanted]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(reversed(kept))
    model.graph.initializer.extend(stored)
    names = {tensor.name for tensor in stored}
    inputs = [v for i, v in enumerate(model.graph.input) if i == 0 or v.name in names]
    inputs = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model
