"""Models that break a rule of ONNX: the checker of the ONNX project lets many of them pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.compiler.frontends.onnx_models import floats
from tests.hostile.cases import Case, case, chain, one

node = helper.make_node
KERNEL = {"w": floats(4, 2, 3, 3)}


def conv(stored: dict[str, np.ndarray] | None = None, **attributes: object) -> onnx.ModelProto:
    return one("Conv", ["x", *(stored or KERNEL)], stored or KERNEL, **attributes)


def gemm(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    """A sound model, changed."""
    nodes = [node("Gemm", ["x", "w"], ["g"], name="fc"), node("Relu", ["g"], ["y"], name="relu")]
    model = chain(*nodes, stored={"w": floats(4, 3)})
    change(model)
    return model


def weight(change: Callable[[TensorProto], object]) -> onnx.ModelProto:
    return gemm(lambda model: change(model.graph.initializer[0]))


def typed(kind: onnx.TypeProto) -> onnx.ModelProto:
    return gemm(lambda model: model.graph.input[0].type.CopyFrom(kind))


def _second_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 4]))


TENSOR = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 4])


def _wrong_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("transB", b"yes"))


def _sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0])), [4])
    )


def _sparse_constant() -> onnx.ModelProto:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0])), [2**40])
    return chain(node("Constant", [], ["c"], sparse_value=sparse), node("Add", ["x", "c"], ["y"]))


def _norm(variance: np.ndarray, **attributes: object) -> onnx.ModelProto:
    stored = {"s": floats(2), "b": floats(2), "m": floats(2), "v": variance.astype(np.float32)}
    return one("BatchNormalization", ["x", *stored], stored, **attributes)


def _body(result: str = "r", **names: str) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
    return helper.make_graph([node("Relu", ["x"], [result])], "body", [], [value])


def _nested(depth: int) -> onnx.ModelProto:
    body = _body()
    for _ in range(depth):
        value = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
        body = helper.make_graph([node("If", ["c"], ["r"], then_branch=body, else_branch=body)], "b", [], [value])
        if body.ByteSize() > 10**6:
            break
    return chain(node("If", ["c"], ["y"], then_branch=body, else_branch=_body()), stored={"c": np.array(True)})


GRAPHS: dict[str, Case] = {
    "a tensor made twice": case(
        lambda f: chain(node("Relu", ["x"], ["y"], name="a"), node("Abs", ["x"], ["y"], name="b")), "model-invalid"
    ),
    "a cycle": case(
        lambda f: chain(node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])),
        "model-cycle",
    ),
    "a node that reads itself": case(lambda f: chain(node("Add", ["x", "y"], ["y"])), "model-cycle"),
    "an input that nothing makes": case(lambda f: chain(node("Add", ["x", "ghost"], ["y"])), "model-invalid"),
    "an output that nothing makes": case(
        lambda f: gemm(lambda m: setattr(m.graph.output[0], "name", "ghost")), "model-invalid"
    ),
    "two stored tensors of one name": case(
        lambda f: gemm(lambda m: m.graph.initializer.append(m.graph.initializer[0])), "model-invalid"
    ),
    "two inputs of one name": case(lambda f: gemm(lambda m: m.graph.input.append(m.graph.input[0])), "model-ends"),
    "a stored tensor that a node makes": case(
        lambda f: gemm(lambda m: setattr(m.graph.initializer[0], "name", "g")), "model-invalid"
    ),
    "a node that makes nothing": case(
        lambda f: gemm(lambda m: m.graph.node.append(node("Relu", ["g"], []))), "model-invalid"
    ),
    "an operator without a name": case(
        lambda f: gemm(lambda m: setattr(m.graph.node[1], "op_type", "")), "model-invalid", "operator-unsupported"
    ),
    "an input without a name": case(lambda f: gemm(lambda m: setattr(m.graph.input[0], "name", "")), "model-invalid"),
    "inputs of two batches": case(lambda f: gemm(_second_batch), "input-shape"),
    "no inputs": case(lambda f: gemm(lambda m: m.graph.ClearField("input")), "model-ends"),
    "no nodes": case(lambda f: gemm(lambda m: m.graph.ClearField("node")), "model-invalid"),
    "too many nodes": case(lambda f: chain(*[node("Relu", ["x"], ["y"])] * 100_001), "model-invalid"),
    "If": case(lambda f: _nested(0), "operator-unsupported"),
    "bodies within bodies": case(lambda f: _nested(12), "model-invalid"),
    "Loop without end": case(
        lambda f: chain(node("Loop", ["", "c"], ["y"], body=_body()), stored={"c": np.array(True)}),
        "operator-unsupported",
        "model-invalid",
    ),
}

TYPES: dict[str, Case] = {
    "a sequence as input": case(lambda f: typed(helper.make_sequence_type_proto(TENSOR)), "input-type"),
    "an optional as input": case(lambda f: typed(helper.make_optional_type_proto(TENSOR)), "input-type"),
    "a map as input": case(lambda f: typed(helper.make_map_type_proto(TensorProto.INT64, TENSOR)), "input-type"),
    "a sparse input": case(lambda f: typed(helper.make_sparse_tensor_type_proto(1, ["N", 4])), "input-type"),
    "text as input": case(lambda f: typed(helper.make_tensor_type_proto(TensorProto.STRING, ["N", 4])), "input-type"),
    "an input of no type": case(lambda f: typed(onnx.TypeProto()), "input-type"),
    "an input of type 99": case(lambda f: typed(helper.make_tensor_type_proto(99, ["N", 4])), "input-type"),
    "a sequence as output": case(
        lambda f: gemm(lambda m: m.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(TENSOR))),
        "input-type",
    ),
    "stored text": case(
        lambda f: gemm(lambda m: m.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"a"]))),
        "model-invalid",
    ),
    "complex weights": case(
        lambda f: one("Gemm", ["x", "w"], {"w": floats(4, 3).astype(np.complex64)}, ["N", 4]), "model-invalid"
    ),
    "weights of type 99": case(lambda f: weight(lambda t: setattr(t, "data_type", 99)), "model-invalid"),
    "weights of no type": case(lambda f: weight(lambda t: setattr(t, "data_type", 0)), "model-invalid"),
    "a sparse stored tensor": case(lambda f: gemm(_sparse), "model-invalid"),
    "a sparse constant": case(lambda f: _sparse_constant(), "model-invalid", "constant-not-folded"),
    "a weight in segments": case(
        lambda f: weight(lambda t: (setattr(t.segment, "begin", 0), setattr(t.segment, "end", 9))), "model-invalid"
    ),
}

VALUES: dict[str, Case] = {
    "NaN": case(lambda f: one("Gemm", ["x", "w"], {"w": floats(4, 3) * np.nan}, ["N", 4]), "model-weights-not-finite"),
    "half NaN": case(
        lambda f: one("Gemm", ["x", "w"], {"w": (floats(4, 3) * np.inf).astype(np.float16)}, ["N", 4]),
        "model-weights-not-finite",
    ),
    "a double that no float holds": case(
        lambda f: one("Gemm", ["x", "w"], {"w": np.full((4, 3), 1e300)}, ["N", 4]), "model-weights-not-finite"
    ),
    "dims without data": case(lambda f: weight(lambda t: t.dims.__setitem__(0, 10**12)), "model-invalid"),
    "dims below zero": case(lambda f: weight(lambda t: t.dims.__setitem__(0, -4)), "model-invalid"),
    "dims whose product overflows": case(
        lambda f: weight(lambda t: (t.ClearField("dims"), t.dims.extend([2**32, 2**32, 12]))), "model-invalid"
    ),
    "a thousand axes": case(lambda f: weight(lambda t: t.dims.extend([1] * 1000)), "model-invalid"),
    "data twice": case(lambda f: weight(lambda t: t.float_data.extend([1.0] * 12)), "model-invalid"),
    "data of another type": case(
        lambda f: weight(lambda t: (t.ClearField("raw_data"), t.int64_data.extend([1] * 12))), "model-invalid"
    ),
    "a weight without elements": case(
        lambda f: one("Conv", ["x", "w"], {"w": floats(0, 2, 3, 3)}), "model-invalid", "shape-invalid"
    ),
    "an axis of the input below zero": case(
        lambda f: gemm(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", -4)),
        "shape-dynamic",
    ),
    "an input of 2^62 numbers": case(
        lambda f: one("Relu", ["x"], None, ["N", 2**31, 2**31]), "model-too-large", "shape-invalid"
    ),
    "an input of 10^18 numbers in one axis": case(
        lambda f: one("Relu", ["x"], None, ["N", 10**18]), "model-too-large", "shape-invalid"
    ),
    "a variance below zero": case(lambda f: _norm(np.array([-1.0, 1.0])), "model-invalid"),
    "epsilon NaN": case(lambda f: _norm(np.ones(2), epsilon=float("nan")), "model-invalid"),
    "epsilon below zero": case(lambda f: _norm(np.zeros(2), epsilon=-1.0), "model-invalid"),
    "statistics of another length": case(lambda f: _norm(np.ones(3)), "model-invalid", "shape-invalid"),
}

ATTRIBUTES: dict[str, Case] = {
    "channels that do not fit": case(lambda f: conv({"w": floats(4, 3, 3, 3)}), "shape-invalid", "model-invalid"),
    "group 0": case(lambda f: conv(group=0), "shape-invalid"),
    "group -1": case(lambda f: conv(group=-1), "shape-invalid"),
    "a group that does not divide": case(
        lambda f: conv({"w": floats(3, 1, 3, 3)}, group=2), "shape-invalid", "model-invalid"
    ),
    "kernel_shape against the weights": case(lambda f: conv(kernel_shape=[5, 5]), "shape-invalid", "model-invalid"),
    "kernel_shape of one axis": case(lambda f: conv(kernel_shape=[3]), "shape-invalid", "model-invalid"),
    "a kernel larger than the image": case(lambda f: conv({"w": floats(4, 2, 9, 9)}), "shape-invalid"),
    "a bias of another length": case(
        lambda f: conv({"w": floats(4, 2, 3, 3), "b": floats(3)}), "shape-invalid", "model-invalid"
    ),
    "strides 0": case(lambda f: conv(strides=[0, 0]), "model-invalid", "shape-invalid"),
    "strides below zero": case(lambda f: conv(strides=[-1, 1]), "model-invalid", "shape-invalid"),
    "dilations 0": case(lambda f: conv(dilations=[0, 1]), "model-invalid", "shape-invalid"),
    "dilations of 2^62": case(lambda f: conv(dilations=[2**62, 2**62]), "model-invalid", "shape-invalid"),
    "pads of 2^62": case(lambda f: conv(pads=[2**62] * 4), "model-invalid", "shape-invalid", "model-too-large"),
    "pads below zero": case(lambda f: conv(pads=[-9, -9, -9, -9]), "model-invalid", "shape-invalid"),
    "pads of three": case(lambda f: conv(pads=[1, 1, 1]), "model-invalid", "shape-invalid"),
    "auto_pad unknown": case(lambda f: conv(auto_pad="SIDEWAYS"), "model-invalid", "operator-unsupported"),
    "a pool of kernel 0": case(lambda f: one("MaxPool", ["x"], kernel_shape=[0, 0]), "model-invalid", "shape-invalid"),
    "a pool of 2^40 windows": case(
        lambda f: one("AveragePool", ["x"], kernel_shape=[2**40, 1], pads=[2**40, 0, 2**40, 0]),
        "model-invalid",
        "shape-invalid",
        "model-too-large",
    ),
    "a Gemm that does not fit": case(
        lambda f: one("Gemm", ["x", "w"], {"w": floats(5, 3)}, ["N", 4]), "shape-invalid", "model-invalid"
    ),
    "a Gemm with alpha infinite": case(
        lambda f: one("Gemm", ["x", "w"], {"w": floats(4, 3)}, ["N", 4], alpha=float("inf")), "model-invalid"
    ),
    "an impossible Reshape": case(
        lambda f: one("Reshape", ["x", "s"], {"s": np.array([-1, 7])}), "operator-unsupported"
    ),
    "a Reshape with two unknowns": case(
        lambda f: one("Reshape", ["x", "s"], {"s": np.array([-1, -1, 4])}), "operator-unsupported"
    ),
    "a Reshape by -7": case(lambda f: one("Reshape", ["x", "s"], {"s": np.array([1, -7])}), "operator-unsupported"),
    "a Transpose that repeats an axis": case(
        lambda f: one("Transpose", ["x"], perm=[0, 1, 1, 3]), "shape-invalid", "model-invalid"
    ),
    "a Concat along axis 9": case(lambda f: one("Concat", ["x", "x"], axis=9), "operator-unsupported"),
    "a Flatten from axis -99": case(lambda f: one("Flatten", ["x"], axis=-99), "operator-unsupported"),
    "a Gather outside": case(
        lambda f: one("Gather", ["x", "i"], {"i": np.array([99])}, axis=1), "shape-invalid", "model-invalid"
    ),
    "an attribute of another type": case(lambda f: gemm(_wrong_type), "model-invalid"),
    "an attribute twice": case(
        lambda f: gemm(lambda m: m.graph.node[0].attribute.extend([helper.make_attribute("alpha", 2.0)] * 2)),
        "model-invalid",
    ),
    "an attribute that the operator lacks": case(
        lambda f: gemm(lambda m: m.graph.node[0].attribute.append(helper.make_attribute("evil", 2.0))), "model-invalid"
    ),
    "an attribute of a million numbers": case(
        lambda f: conv(kernel_shape=[3] * 10**6), "model-invalid", "shape-invalid"
    ),
    "an attribute of ten million letters": case(
        lambda f: conv(auto_pad="A" * 10**7), "model-invalid", "operator-unsupported"
    ),
    "an attribute that refers to a function's": case(
        lambda f: gemm(
            lambda m: m.graph.node[0].attribute.append(
                onnx.AttributeProto(name="alpha", ref_attr_name="a", type=onnx.AttributeProto.FLOAT)
            )
        ),
        "model-invalid",
    ),
    "too many inputs of a node": case(lambda f: one("Relu", ["x"] * 5), "model-invalid"),
    "too few inputs of a node": case(lambda f: one("Add", ["x"]), "model-invalid"),
}
