"""Constant folding by ONNX Runtime, node by node.

Shape arithmetic (``Shape`` - ``Gather`` - ``Concat`` - ``Reshape``) depends on the batch
size only. Its values are therefore computed at two batch sizes; where both agree, the
value is a constant, and where they differ, the place holds the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, shape_inference

from nmc.compiler.frontends.onnx.limits import FOLD_LIMIT, RANK_LIMIT
from nmc.compiler.frontends.onnx.text import escaped
from nmc.ir.connectivity import Array

BATCHES = (2, 3)
"""The two batch sizes."""

FOLD_TOTAL = 2**30
"""Bytes of all folded tensors of a model."""

SMALL = 4096
"""Elements up to which a constant is handed over as a part of the model."""

WORK_LIMIT = 2**33
"""Multiplications of a folded product."""

_FOLDABLE = (
    "Abs Add And Cast Ceil Clip Concat Constant ConstantOfShape DequantizeLinear Div Equal Exp Expand Flatten Floor "
    "Gather Gemm Greater Identity Less MatMul Max Min Mod Mul Neg Not Or Pad Pow QuantizeLinear Range Reciprocal "
    "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Shape Size Slice Sqrt Squeeze Sub Sum Tile "
    "Transpose Unsqueeze Where"
)
FOLDABLE = frozenset(_FOLDABLE.split())
"""Deterministic operators that are folded where their inputs do not depend on the data."""


class FoldError(Exception):
    """A node cannot be folded; the text says why."""


@dataclass(frozen=True, eq=False)
class Known:
    """A tensor that does not depend on the input's values.

    Attributes:
        at: its value at each of `BATCHES`.
    """

    at: tuple[Array, Array]

    @property
    def constant(self) -> bool:
        """Whether it does not depend on the batch size either."""
        first, second = self.at
        return first is second or (first.shape == second.shape and bool(np.array_equal(first, second)))

    @property
    def nbytes(self) -> int:
        """Of both values."""
        first, second = self.at
        return first.nbytes if first is second else first.nbytes + second.nbytes

    @property
    def value(self) -> Array:
        """The value of a constant."""
        return self.at[0]


def known(array: Array) -> Known:
    """A constant."""
    return Known((array, array))


def silent_session(model: onnx.ModelProto | bytes) -> onnxruntime.InferenceSession:
    """A session as the project's oracle runs: CPU, one thread, no optimisation, no words.

    Raises:
        Exception: of ONNX Runtime, where it cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def constant_value(node: onnx.NodeProto) -> Array:
    """The value of a ``Constant`` node.

    Raises:
        FoldError: it holds no numbers.
    """
    attributes = {a.name: a for a in node.attribute}
    if "value" in attributes:
        return numpy_helper.to_array(attributes["value"].t)
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        if name in attributes:
            return np.asarray(helper.get_attribute_value(attributes[name]), dtype=dtype)
    for name, dtype in (("value_floats", np.float32), ("value_ints", np.int64)):
        if name in attributes:
            return np.asarray(helper.get_attribute_value(attributes[name]), dtype=dtype)
    raise FoldError("a constant of strings or a sparse constant")


def fold(node: onnx.NodeProto, inputs: dict[str, Known], opset: int) -> dict[str, Known]:
    """The outputs of a node whose inputs are known.

    Args:
        node: of the standard domain.
        inputs: values by tensor name.
        opset: version of the operators.

    Raises:
        FoldError: ONNX Runtime refuses, or the result is larger than `FOLD_LIMIT`, or a product
            takes more than `WORK_LIMIT`.
    """
    if node.op_type == "Constant":
        return {node.output[0]: known(constant_value(node))}
    if node.op_type == "ConstantOfShape":
        shape = inputs[node.input[0]]
        made = _uniform(node, shape.at[0])
        return {node.output[0]: known(made) if shape.constant else Known((made, _uniform(node, shape.at[1])))}
    if all(value.constant for value in inputs.values()):
        results = _run(node, {name: value.value for name, value in inputs.items()}, opset)
        return {name: known(array) for name, array in results.items()}
    first, second = (_run(node, {n: v.at[index] for n, v in inputs.items()}, opset) for index in (0, 1))
    return {name: Known((first[name], second[name])) for name in first}


def _uniform(node: onnx.NodeProto, shape: Array) -> Array:
    """What a ``ConstantOfShape`` makes, as a view of its one value."""
    dims = [int(n) for n in shape.reshape(-1)]
    elements = math.prod(dims)
    if min(dims, default=0) < 0 or elements > FOLD_LIMIT or len(dims) > RANK_LIMIT:
        raise FoldError(f"its result has the shape {dims[:RANK_LIMIT]}, the limit is {FOLD_LIMIT} elements")
    given = next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, np.float32))
    if given.size != 1:
        raise FoldError(f"its value has {given.size} elements, it must have one")
    return np.broadcast_to(given.reshape(()), dims)


def _run(node: onnx.NodeProto, inputs: dict[str, Array], opset: int) -> dict[str, Array]:
    names = [name for name in node.output if name]
    # Small values may be sizes, which inference must see; large ones are never copied into a model.
    small = {name: array for name, array in inputs.items() if array.size <= SMALL}
    large = {name: array for name, array in inputs.items() if array.size > SMALL}
    graph = helper.make_graph(
        [node],
        "fold",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in large.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in names],
        initializer=[numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in small.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    try:
        # Sizes before values: a few bytes of shape may ask for terabytes.
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=not large)
        for value in inferred.graph.output:
            dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
            elements = (
                int(np.prod(dims, dtype=object))
                if all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
                else -1
            )
            if not 0 <= elements <= FOLD_LIMIT:
                raise FoldError(
                    f"its result has {elements if elements >= 0 else 'an unknown number of'} elements, "
                    f"the limit is {FOLD_LIMIT}"
                )
            _check_work(node, inputs, elements)
        del model.graph.output[:]
        model.graph.output.extend(inferred.graph.output)
        laid = {name: np.ascontiguousarray(array) for name, array in large.items()}
        results = silent_session(model).run(names, laid)
    except (FoldError, MemoryError):
        raise
    except Exception as error:  # ONNX Runtime and shape inference raise classes of their own
        raise FoldError(_first_line(error)) from error
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def _check_work(node: onnx.NodeProto, inputs: dict[str, Array], elements: int) -> None:
    """Products take time where their result is small."""
    if node.op_type in ("MatMul", "Gemm"):
        work = elements * max(inputs[node.input[0]].shape, default=1)
        if work > WORK_LIMIT:
            raise FoldError(f"it takes about {work} multiplications, the limit is {WORK_LIMIT}")


def _first_line(error: Exception) -> str:
    return escaped(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__), 160)
