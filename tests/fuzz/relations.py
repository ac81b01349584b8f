"""Two files of one network: the same integers must come out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from tests.fuzz.exporters import other_exporter

Relation = Callable[[np.random.Generator, onnx.ModelProto], onnx.ModelProto]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def _with_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    made = _copy(model)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def renamed(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """All tensors and nodes have other names, but for the input and the outputs."""
    made = _copy(model)
    kept = {value.name for value in (*made.graph.input, *made.graph.output)} | {""}
    names = {name for node in made.graph.node for name in (*node.input, *node.output)} - kept
    names |= {tensor.name for tensor in made.graph.initializer} - kept
    ordered = sorted(names)
    new = {name: f"t{number}" for name, number in zip(ordered, rng.permutation(len(ordered)), strict=True)}
    for number, node in enumerate(made.graph.node):
        node.name = f"node{number * 7 % 1009}"
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for named in (*made.graph.initializer, *made.graph.value_info):
        named.name = new.get(named.name, named.name)
    return made


def reordered(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes in another topological order."""
    waiting = list(model.graph.node)
    made_by = {name for node in waiting for name in node.output}
    order: list[onnx.NodeProto] = []
    done: set[str] = set()
    while waiting:
        ready = [n for n in waiting if all(name not in made_by or name in done for name in n.input)]
        node = ready[int(rng.integers(len(ready)))]
        waiting.remove(node)
        order.append(node)
        done.update(node.output)
    return _with_nodes(model, order)


def with_identities(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """Identity and Dropout behind some nodes that make floats."""
    floats = _float_tensors(model)
    ends = {value.name for value in model.graph.output}
    nodes: list[onnx.NodeProto] = []
    passed: dict[str, str] = {}
    for number, node in enumerate(model.graph.node):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [passed.get(name, name) for name in copy.input]
        nodes.append(copy)
        name = copy.output[0]
        if name in floats and name not in ends and rng.random() < 0.4:
            passed[name] = f"passed{number}"
            op = "Identity" if rng.random() < 0.5 or model.opset_import[0].version < 7 else "Dropout"
            nodes.append(helper.make_node(op, [name], [passed[name]], name=f"pass{number}"))
    return _with_nodes(model, nodes)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """What follows from the input through operators that make floats of floats."""
    others = ("Shape", "ArgMax", "QuantizeLinear", "Cast", "Constant", "DequantizeLinear")
    found = {model.graph.input[0].name}
    for node in model.graph.node:
        if node.op_type not in others and found.intersection(node.input):
            found.update(node.output)
    return found - {model.graph.input[0].name}


def constants_stored(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """Constant nodes become initialisers, and initialisers Constant nodes."""
    made = _copy(model)
    inputs = {value.name for value in made.graph.input}
    nodes, stored = [], []
    for tensor in made.graph.initializer:
        if tensor.name in inputs:
            stored.append(tensor)
        else:
            nodes.append(helper.make_node("Constant", [], [tensor.name], name=f"make_{tensor.name}", value=tensor))
    for node in made.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            stored.append(tensor)
        else:
            nodes.append(node)
    stored = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in stored]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(stored)
    return made


def another_batch(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """A batch of N becomes one of 1 or 5."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if dims[0].dim_value > 0:
        return model
    made = _copy(model)
    del made.graph.value_info[:]
    size = int(rng.choice([1, 5]))
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    for value in made.graph.output:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = size
    return made


def converted(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """In a later opset, as the converter of the ONNX project writes it."""
    opset = model.opset_import[0].version
    if opset < 7 or opset > 20:
        return model
    target = int(rng.integers(opset + 1, 22))
    ends = {value.name for value in model.graph.input[1:]}
    if ends:  # The converter wants initialisers that are no inputs.
        return model
    if opset < 11 and any(node.op_type in ("Upsample", "Resize") for node in model.graph.node):
        return model  # The converter loses which pixels they read: it writes another network.
    try:
        made = version_converter.convert_version(model, target)
    except (RuntimeError, ValueError):
        return model
    made.ir_version = max(model.ir_version, 8)
    return made


def listed_as_inputs(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """Initialisers are graph inputs too, and some value_info stands there."""
    made = _copy(model)
    known = {value.name for value in made.graph.input}
    made.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in made.graph.initializer
        if tensor.name not in known and tensor.data_type != TensorProto.UNDEFINED
    )
    return made


def permuted_channels(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
    """The hidden channels between two layers in another order, where only a ReLU stands between them."""
    made = _copy(model)
    stored = {tensor.name: tensor for tensor in made.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in made.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    ends = {value.name for value in made.graph.output}
    for node in made.graph.node:
        chain = [node]
        while len(chain) < 3 and chain[-1].output[0] not in ends and len(readers.get(chain[-1].output[0], [])) == 1:
            chain.append(readers[chain[-1].output[0]][0])
        if [n.op_type for n in chain] == ["Conv", "Relu", "Conv"] and _permute(
            rng, chain[0], chain[2], stored, readers
        ):
            return made
    return model


def _permute(
    rng: np.random.Generator,
    first: onnx.NodeProto,
    second: onnx.NodeProto,
    stored: dict[str, TensorProto],
    readers: dict[str, list[onnx.NodeProto]],
) -> bool:
    """Turn the outputs of one convolution and the inputs of another, where their weights are theirs alone."""
    names = [*first.input[1:], second.input[1]]
    grouped = any(a.name == "group" and a.i > 1 for n in (first, second) for a in n.attribute)
    if grouped or any(name not in stored or len(readers[name]) > 1 for name in names):
        return False
    order = rng.permutation(stored[names[0]].dims[0])
    for name in first.input[1:]:
        turned = np.ascontiguousarray(numpy_helper.to_array(stored[name])[order])
        stored[name].CopyFrom(numpy_helper.from_array(turned, name))
    turned = np.ascontiguousarray(numpy_helper.to_array(stored[names[-1]])[:, order])
    stored[names[-1]].CopyFrom(numpy_helper.from_array(turned, names[-1]))
    return True


TURNED = ("permuted channels",)
"""Relations whose integers come out in another order: read-outs are the same, weights are turned."""

ROUNDED = ("other exporter",)
"""Relations whose constants come from other roundings: read-outs differ by what quantization explains."""

RELATIONS: dict[str, Relation] = {
    function.__name__.replace("_", " "): function
    for function in (
        renamed, reordered, with_identities, constants_stored, another_batch, converted, listed_as_inputs,
        permuted_channels, other_exporter,
    )
}  # fmt: skip
"""By name; each returns the same object where it has nothing to change."""
