"""Which operators are supported: one table decides, and the operator table is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from nmc.compiler.frontends.onnx.fold import FOLDABLE
from nmc.compiler.frontends.onnx.importer import Importer
from nmc.compiler.frontends.onnx.operators_activation import (
    import_abs,
    import_clip,
    import_hard_sigmoid,
    import_leaky_relu,
    import_max,
    import_min,
    import_neg,
    import_prelu,
    import_relu,
    import_shrink,
    import_thresholded_relu,
)
from nmc.compiler.frontends.onnx.operators_arithmetic import (
    import_add,
    import_div,
    import_mean,
    import_mul,
    import_sub,
    import_sum,
)
from nmc.compiler.frontends.onnx.operators_function import (
    import_celu,
    import_elu,
    import_erf,
    import_gelu,
    import_hard_swish,
    import_mish,
    import_selu,
    import_softplus,
    import_softsign,
    import_swish,
    import_tanh,
)
from nmc.compiler.frontends.onnx.operators_head import import_argmax, import_sigmoid, import_softmax
from nmc.compiler.frontends.onnx.operators_linear import (
    import_batch_normalization,
    import_conv,
    import_gemm,
    import_matmul,
)
from nmc.compiler.frontends.onnx.operators_move import (
    import_copies,
    import_depth_to_space,
    import_expand,
    import_space_to_depth,
)
from nmc.compiler.frontends.onnx.operators_pool import (
    import_average_pool,
    import_global_average_pool,
    import_global_max_pool,
    import_max_pool,
)
from nmc.compiler.frontends.onnx.operators_quantize import import_dequantize_linear, import_quantize_linear
from nmc.compiler.frontends.onnx.operators_reduce import (
    import_reduce_l1,
    import_reduce_max,
    import_reduce_mean,
    import_reduce_min,
    import_reduce_sum,
)
from nmc.compiler.frontends.onnx.operators_resize import import_conv_transpose, import_resize, import_upsample
from nmc.compiler.frontends.onnx.operators_shape import (
    import_cast,
    import_cast_like,
    import_concat,
    import_dropout,
    import_flatten,
    import_gather,
    import_identity,
    import_pad,
    import_reshape,
    import_slice,
    import_split,
    import_squeeze,
    import_transpose,
    import_unsqueeze,
)
from nmc.compiler.frontends.onnx.source import OperatorSupport, OperatorUse
from nmc.compiler.frontends.onnx.text import escaped

NATIVE: Mapping[str, Importer] = {
    "Conv": import_conv,
    "Gemm": import_gemm,
    "MatMul": import_matmul,
    "Relu": import_relu,
    "Add": import_add,
    "Sum": import_sum,
    "ConvTranspose": import_conv_transpose,
}
"""Operators that become synapses and neurons."""

REWRITE: Mapping[str, Importer] = {
    "BatchNormalization": import_batch_normalization,
    "AveragePool": import_average_pool,
    "GlobalAveragePool": import_global_average_pool,
    "MaxPool": import_max_pool,
    "GlobalMaxPool": import_global_max_pool,
    "ReduceMean": import_reduce_mean,
    "ReduceSum": import_reduce_sum,
    "ReduceL1": import_reduce_l1,
    "ReduceMax": import_reduce_max,
    "ReduceMin": import_reduce_min,
    "Clip": import_clip,
    "LeakyRelu": import_leaky_relu,
    "PRelu": import_prelu,
    "HardSigmoid": import_hard_sigmoid,
    "Abs": import_abs,
    "Neg": import_neg,
    "Max": import_max,
    "Min": import_min,
    "Mean": import_mean,
    "Shrink": import_shrink,
    "Sub": import_sub,
    "Mul": import_mul,
    "Div": import_div,
    "Flatten": import_flatten,
    "Reshape": import_reshape,
    "Squeeze": import_squeeze,
    "Unsqueeze": import_unsqueeze,
    "Transpose": import_transpose,
    "Identity": import_identity,
    "Dropout": import_dropout,
    "Cast": import_cast,
    "CastLike": import_cast_like,
    "Pad": import_pad,
    "Slice": import_slice,
    "Split": import_split,
    "Gather": import_gather,
    "Concat": import_concat,
    "Expand": import_expand,
    "Tile": import_copies,
    "GatherND": import_copies,
    "DepthToSpace": import_depth_to_space,
    "SpaceToDepth": import_space_to_depth,
    "Resize": import_resize,
    "Upsample": import_upsample,
    "QuantizeLinear": import_quantize_linear,
    "DequantizeLinear": import_dequantize_linear,
}
"""Operators that the simplify stage expresses by the native ones."""

APPROXIMATE: Mapping[str, Importer] = {
    "Tanh": import_tanh,
    "Softsign": import_softsign,
    "Softplus": import_softplus,
    "Erf": import_erf,
    "Elu": import_elu,
    "Selu": import_selu,
    "Celu": import_celu,
    "ThresholdedRelu": import_thresholded_relu,
    "Gelu": import_gelu,
    "Swish": import_swish,
    "HardSwish": import_hard_swish,
    "Mish": import_mish,
}
"""Operators that ReLUs come near to; ``--strict`` refuses them."""

HOST: Mapping[str, Importer] = {
    "Softmax": import_softmax,
    "Sigmoid": import_sigmoid,
    "ArgMax": import_argmax,
}
"""Operators that the host computes behind the network."""

_POOL = "train with AveragePool or with a strided convolution instead"
_RELU = "train with Relu instead"
_FLOAT = "export the float model, or one with QuantizeLinear and DequantizeLinear"
_LOGITS = "end the model at the logits; argmax and softmax of them agree"
_SEQUENCE = "only feed-forward networks of Conv, Gemm and Relu are supported"

_WAYS_OUT: Mapping[str, str] = {
    "LpPool": _POOL,
    "Hardmax Sign Round Floor Ceil": _RELU,
    "QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear": _FLOAT,
    "LogSoftmax TopK": _LOGITS,
    "LSTM GRU RNN Attention Loop If Scan": _SEQUENCE,
    "LRN LayerNormalization InstanceNormalization GroupNormalization": "train with BatchNormalization instead",
    "Pow Sqrt Exp Log Reciprocal Square": "neurons add and clip; remove it, or end the model before it",
}
WAYS_OUT = {op: text for ops, text in _WAYS_OUT.items() for op in ops.split()}
"""Refused operators that have a better answer than `NO_WAY_OUT`."""

NO_WAY_OUT = "replace it by Conv, Gemm, Add and Relu, or end the model before it; `nmc ops` lists what is supported"

PASSED_ON = frozenset(
    ["Identity", "QuantizeLinear", "DequantizeLinear", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"]
)
"""What may stand behind a sigmoid at the end of a network."""

FOLDED = "Folded where it depends on constants and shapes only."


def importers() -> dict[str, Importer]:
    """All importers by operator type."""
    return {**NATIVE, **REWRITE, **APPROXIMATE, **HOST}


def support(op: str) -> OperatorSupport:
    """What becomes of an operator of the standard domain that reads data."""
    tables = (("native", NATIVE), ("rewrite", REWRITE), ("approximate", APPROXIMATE), ("host", HOST))
    for status, table in tables:
        if op in table:
            return OperatorSupport(op, status, " ".join((table[op].__doc__ or "").split()))
    return OperatorSupport(op, "refused", WAYS_OUT.get(op, NO_WAY_OUT))


def operator_table() -> tuple[OperatorSupport, ...]:
    """Every operator that is supported or has a way out, by status and name."""
    rows = [support(op) for op in {**importers(), **WAYS_OUT}]
    read = {row.op for row in rows if row.status != "refused"}
    folded = [OperatorSupport(op, "rewrite", FOLDED) for op in FOLDABLE - read]
    order = ("native", "rewrite", "approximate", "host", "refused")
    refused = [row for row in rows if row.op not in FOLDABLE or row.status != "refused"]
    return tuple(sorted([*refused, *folded], key=lambda row: (order.index(row.status), row.op)))


def data_nodes(model: onnx.ModelProto) -> set[int]:
    """Indices of the nodes that depend on the values of the input; ``Shape`` of them does not."""
    reached = {value.name for value in model.graph.input}
    found = set()
    for index, node in enumerate(model.graph.node):
        # A node with a body may read outer tensors that its inputs do not name.
        has_body = any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
        if has_body or (node.op_type != "Shape" and any(name in reached for name in node.input)):
            found.add(index)
            reached.update(node.output)
    return found


def uses(model: onnx.ModelProto) -> tuple[OperatorUse, ...]:
    """The operators of a model with sorted nodes, in order of first use."""
    data = data_nodes(model)
    local = {function.domain for function in model.functions}
    hidden: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type not in PASSED_ON or hidden.intersection(node.output):
            hidden.update(node.input)
    found: dict[tuple[str, str, str], list[str]] = {}
    for index, node in enumerate(model.graph.node):
        row = _support_of(node, index in data, local)
        if row.op == "Sigmoid" and row.status == "host" and hidden.intersection(node.output):
            row = replace(row, status="approximate")
        found.setdefault((row.op, row.status, row.note), []).append(node.name)
    return tuple(OperatorUse(op, len(nodes), status, tuple(nodes), note) for (op, status, note), nodes in found.items())


def _support_of(node: onnx.NodeProto, reads_data: bool, local: set[str]) -> OperatorSupport:
    op = escaped(node.op_type, 80)
    if node.domain not in ("", "ai.onnx"):
        name = f"{escaped(node.domain, 80)}:{op}"
        note = "export with standard ONNX operators"
        if node.domain in local:
            note = "inline the model's functions with onnx.inliner.inline_local_functions"
        return OperatorSupport(name, "refused", _FLOAT if "quant" in op.lower() else note)
    if not reads_data and op in FOLDABLE:
        return OperatorSupport(op, "rewrite", FOLDED)
    return support(op)
