"""Models that were valid: bytes changed, or nodes, attributes, shapes, types and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

NAMES = (
    "",
    "x" * 5000,
    "../../etc/passwd",
    "a/b\x00c",
    '"""; import os; os.abort() #',
    "\x1b[31mred\u202e",
    "{0.__class__}",
    "%s%n",
    "лёд",
)
"""Names that are paths, programs, or act on a terminal."""

OPERATORS = (
    "Relu",
    "Conv",
    "Gemm",
    "Softmax",
    "Loop",
    "If",
    "LSTM",
    "Reshape",
    "NoSuchOperator",
    "Mul",
    "Cast",
    "TopK",
)

NUMBERS = (0, 1, -1, 2, 3, 7, 2**31 - 1, -(2**31), 2**62, -(2**63))

Mutation = Callable[[np.random.Generator, onnx.ModelProto], None]


def _one(rng: np.random.Generator, items: Sequence[Any]) -> Any:
    """One of the items.

    Raises:
        IndexError: there is none.
    """
    return items[int(rng.integers(len(items)))] if len(items) else ()[0]


def _drop_node(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    model.graph.node.remove(_one(rng, model.graph.node))


def _repeat_node(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = onnx.NodeProto()
    node.CopyFrom(_one(rng, model.graph.node))
    if rng.random() < 0.5:
        node.output[:] = [f"{name}_again" for name in node.output]
    model.graph.node.append(node)


def _swap_inputs(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = _one(rng, [n for n in model.graph.node if len(n.input) > 1])
    node.input[:] = rng.permutation(np.array(node.input, dtype=object)).tolist()


def _another_input(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = _one(rng, [n for n in model.graph.node if n.input])
    tensors = [name for n in model.graph.node for name in n.output] + [t.name for t in model.graph.initializer]
    node.input[int(rng.integers(len(node.input)))] = _one(rng, [*tensors, "", "nothing"])


def _fewer_inputs(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = _one(rng, [n for n in model.graph.node if n.input])
    if rng.random() < 0.5:
        del node.input[-1]
    else:
        node.input.append(_one(rng, [*node.input]))


def _operator(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    _one(rng, model.graph.node).op_type = _one(rng, OPERATORS)


def _domain(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    _one(rng, model.graph.node).domain = _one(rng, ["ai.onnx.ml", "com.microsoft", "x", "ai.onnx"])


def _attribute(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    attribute = _one(rng, [a for n in model.graph.node for a in n.attribute])
    match attribute.type:
        case AttributeProto.INT:
            attribute.i = _one(rng, NUMBERS)
        case AttributeProto.FLOAT:
            attribute.f = _one(rng, [0.0, -1.0, 1e30, float("nan"), float("inf"), 0.5])
        case AttributeProto.INTS if attribute.ints:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = _one(rng, NUMBERS)
        case AttributeProto.STRING:
            attribute.s = _one(rng, [b"", b"SAME_UPPER", b"VALID", b"reflect", b"linear", b"\xff\xfe"])
        case _:
            attribute.type = _one(rng, [AttributeProto.INT, AttributeProto.FLOATS, AttributeProto.GRAPH])


def _drop_attribute(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    node = _one(rng, [n for n in model.graph.node if n.attribute])
    del node.attribute[int(rng.integers(len(node.attribute)))]


def _list_length(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    attribute = _one(rng, [a for n in model.graph.node for a in n.attribute if a.ints])
    if rng.random() < 0.5:
        del attribute.ints[-1]
    else:
        attribute.ints.append(1)


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    constants = [a.t for n in model.graph.node for a in n.attribute if a.type == AttributeProto.TENSOR]
    return [*model.graph.initializer, *constants]


def _dims(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    tensor = _one(rng, [t for t in _tensors(model) if t.dims])
    tensor.dims[int(rng.integers(len(tensor.dims)))] = _one(rng, NUMBERS)


def _turn_dims(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    tensor = _one(rng, [t for t in _tensors(model) if len(t.dims) > 1])
    tensor.dims[:] = list(tensor.dims)[::-1]


def _tensor_type(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    _one(rng, _tensors(model)).data_type = int(rng.integers(0, 26))


def _tensor_values(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    tensor = _one(rng, [t for t in _tensors(model) if t.raw_data])
    data = bytearray(tensor.raw_data)
    way = rng.random()
    if way < 0.3:
        data = data[: int(rng.integers(len(data)))]
    elif way < 0.6:
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    else:
        place = int(rng.integers(max(len(data) // 4, 1))) * 4
        data[place : place + 4] = _one(
            rng, [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\0\0"]
        )
    tensor.raw_data = bytes(data)


def _drop_tensor(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    model.graph.initializer.remove(_one(rng, model.graph.initializer))


def _end_shape(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    ends = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    dim = _one(rng, [d for v in ends for d in v.type.tensor_type.shape.dim])
    if rng.random() < 0.2:
        dim.dim_param = _one(rng, NAMES)
    else:
        dim.dim_value = _one(rng, NUMBERS)


def _end_type(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    _one(rng, [*model.graph.input, *model.graph.output]).type.tensor_type.elem_type = int(rng.integers(0, 26))


def _end_rank(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    shape = _one(rng, [*model.graph.input, *model.graph.output]).type.tensor_type.shape
    if rng.random() < 0.5 and shape.dim:
        del shape.dim[-1]
    else:
        shape.dim.add().dim_value = 1


def _ends(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    ends = _one(rng, [model.graph.input, model.graph.output])
    way = rng.random()
    if way < 0.3:
        del ends[:]
    elif way < 0.6:
        ends.add().CopyFrom(_one(rng, ends))
    else:
        _one(rng, ends).name = _one(rng, [n for node in model.graph.node for n in node.output])


def _rename_tensor(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    names = sorted({name for node in model.graph.node for name in (*node.input, *node.output)})
    before, after = _one(rng, names), _one(rng, NAMES)
    for node in model.graph.node:
        node.input[:] = [after if name == before else name for name in node.input]
        node.output[:] = [after if name == before else name for name in node.output]
    for named in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        named.name = after if named.name == before else named.name


def _rename_node(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    _one(rng, model.graph.node).name = _one(rng, NAMES)


def _version(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    if rng.random() < 0.5:
        model.ir_version = _one(rng, [0, 1, 2, 3, 14, 15, 99, -1])
    else:
        model.opset_import[0].version = _one(rng, [0, 1, 5, 6, 7, 9, 11, 13, 18, 22, 26, 27, 99])


def _reverse_nodes(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes[:: int(rng.choice([-1, 1]))])
    if rng.random() < 0.5:
        model.graph.node.insert(0, model.graph.node.pop())


def _external(rng: np.random.Generator, model: onnx.ModelProto) -> None:
    tensor = _one(rng, model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", _one(rng, NAMES)), ("offset", str(_one(rng, NUMBERS))), ("length", "8")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


STRUCTURE: tuple[Mutation, ...] = (
    _drop_node, _repeat_node, _swap_inputs, _another_input, _fewer_inputs, _operator, _domain, _attribute, _attribute,
    _drop_attribute, _list_length, _dims, _turn_dims, _tensor_type, _tensor_values, _tensor_values, _drop_tensor,
    _end_shape, _end_type, _end_rank, _ends, _rename_tensor, _rename_node, _version, _reverse_nodes, _external,
)  # fmt: skip


def mutant(model: onnx.ModelProto, seed: int) -> bytes:
    """A file that was a model: a third has bytes changed, the others one to three mutations of structure."""
    rng = np.random.default_rng([seed, 21])
    if rng.random() < 0.33:
        return _bytes(rng, model.SerializeToString())
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        try:
            STRUCTURE[int(rng.integers(len(STRUCTURE)))](rng, changed)
        except (IndexError, ValueError):
            continue  # nothing there to change
    return changed.SerializeToString()


def _bytes(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    way = rng.random()
    if way < 0.5:
        for _ in range(int(rng.integers(1, 9))):
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    elif way < 0.65:
        del changed[int(rng.integers(len(changed))) :]
    elif way < 0.8:
        start = int(rng.integers(len(changed)))
        del changed[start : start + int(rng.integers(1, 20))]
    elif way < 0.9:
        start = int(rng.integers(len(changed)))
        changed[start:start] = changed[: int(rng.integers(1, 64))]
    else:
        start = int(rng.integers(len(changed)))
        changed[start : start + 8] = rng.bytes(8)
    return bytes(changed)
