"""Random valid feed-forward networks, each from one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz import dense, spatial
from tests.fuzz.growth import Block, Growth, Rejected
from tests.fuzz.oracle import Values, outputs_of, relative_error, tensor_type
from tests.fuzz.pointwise import MOVES, POINTWISE

SAMPLES = 24
"""Inputs that come with a model: the compiler calibrates on them."""

NOISE = 1e-5
"""Relative; far above the rounding of float32."""

WORST = 30.0
"""Amplification at which float32 or 16-bit weights would come near the tolerances of 1e-5 and 1e-3."""

SMALLEST = 1e-3
"""An output has values above it."""

OPSETS = (6, 7, 8, 9, 9, 10, 11, 11, 12, 13, 13, 14, 15, 16, 17, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)
"""What is read; ONNX Runtime knows none above."""

LEAST_IR = {6: 3, 7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
"""The file format that came with each opset; 22 and later came with 10 to 13."""


@dataclass(frozen=True, eq=False)
class RandomModel:
    """A network that ONNX Runtime runs.

    Attributes:
        model: as the compiler gets it.
        twin: what ONNX Runtime runs: the same, but for what it has no kernels for (opset 6, half precision).
        x: (N, *sample shape) inputs.
        wanted: the outputs of `twin` for them.
        exact: the compiler approximates nothing in it.
        refused: nodes that were tried and that ONNX Runtime did not run.
        redrawn: drafts before it.
    """

    seed: int
    model: onnx.ModelProto
    twin: onnx.ModelProto
    x: Values
    wanted: list[Values]
    exact: bool
    refused: tuple[str, ...] = ()
    redrawn: int = 0


def random_model(seed: int) -> RandomModel:
    """The network of a number: always the same with equal versions of numpy and of ONNX Runtime.

    Networks that turn the rounding of float32 into large errors, or have an output that is always zero,
    are drawn again: nothing could be compared with them. So are those that ONNX Runtime runs node by node,
    but not as a whole.
    """
    attempt = 0
    while True:
        model = _drawn(seed, attempt)
        if model is None:
            attempt += 1
            continue
        if all(np.abs(values).max() > SMALLEST for values in model.wanted) and amplification(model) < WORST:
            return model
        attempt += 1


def amplification(model: RandomModel) -> float:
    """By how much errors of the inputs and of all constants, relative to the largest of each, grow to the outputs."""
    rng = np.random.default_rng([model.seed, 22])
    changed = onnx.ModelProto()
    changed.CopyFrom(model.twin)
    kept = ("Resize", "Upsample", "QuantizeLinear", "DequantizeLinear")
    exact = {name for node in changed.graph.node if node.op_type in kept for name in node.input}
    constants = [(n.output[0], a.t) for n in changed.graph.node if n.op_type == "Constant" for a in n.attribute]
    for name, tensor in [*((t.name, t) for t in changed.graph.initializer), *constants]:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size and name not in exact:
            tensor.CopyFrom(numpy_helper.from_array(_noisy(rng, values), tensor.name))
    found = outputs_of(changed, _noisy(rng, model.x))
    real = [i for i, values in enumerate(model.wanted) if values.dtype == np.float32]
    return relative_error([found[i] for i in real], [model.wanted[i] for i in real]) / NOISE


def _noisy(rng: np.random.Generator, values: Values) -> Values:
    """Errors as of fixed-point numbers: relative to the largest."""
    size = NOISE * float(np.abs(values).max())
    return np.asarray(values + size * rng.normal(size=values.shape), dtype=np.float32)


def _drawn(seed: int, attempt: int) -> RandomModel | None:
    rng = np.random.default_rng([seed, 20, attempt])
    opset = OPSETS[int(rng.integers(len(OPSETS)))]
    way = rng.random()
    batch, fixed = (3, False) if way < 0.6 else (1, True) if way < 0.85 else (int(rng.integers(2, 5)), True)
    g = Growth(rng, opset, batch, fixed)
    shape = _input_shape(g)
    entry = g.pick(["x", "input", "data.1", "input:0"])
    x = (rng.normal(size=(SAMPLES, *shape)) if g.chance(0.6) else rng.random((SAMPLES, *shape))).astype(np.float32)
    g.values[entry] = x[:batch]
    g.trail.append(entry)
    outputs = _grown(g, entry)
    graph = _Graph(g, entry, outputs, shape)
    model = graph.model()
    twin = graph.twin(model)
    if g.chance(0.05) and not g.quantized and graph.halves():
        model = in_half_precision(model)
        twin = in_single_precision(model)
    try:
        wanted = outputs_of(twin, x)
    except Exception:  # ONNX Runtime raises classes of its own
        return None
    exact = not (g.approximated or g.quantized)
    return RandomModel(seed, model, twin, x, wanted, exact, tuple(g.refused), attempt)


def _input_shape(g: Growth) -> tuple[int, ...]:
    way = g.rng.random()
    channels = g.pick([1, 2, 3, 3, 4, 6])
    if way < 0.65:
        return (channels, g.number(4, 12), g.number(4, 12))
    if way < 0.77:
        return (channels, g.number(6, 24))
    if way < 0.85:
        return (g.number(1, 3), g.number(3, 5), g.number(3, 6), g.number(3, 6))
    return (g.number(2, 24),)


def _chosen(g: Growth, blocks: Sequence[tuple[Block, float]]) -> Block:
    shares = np.array([share for _, share in blocks])
    return blocks[int(g.rng.choice(len(blocks), p=shares / shares.sum()))][0]


def _grown(g: Growth, entry: str) -> list[str]:
    """Nodes from the input on; the outputs."""
    x = entry
    if len(g.shape(x)) > 1:
        if g.chance(0.05):
            x = g.attempt(_from_channels_last, x)
        x = g.attempt(spatial.conv_relu, x)
        for _ in range(g.number(0, 7)):
            kind = g.rng.random()
            blocks = spatial.BLOCKS if kind < 0.55 else POINTWISE if kind < 0.75 else MOVES
            x = g.attempt(_chosen(g, blocks), x)
        if g.chance(0.75):
            x = g.attempt(dense.flat, x)
    if len(g.shape(x)) == 1:
        for _ in range(g.number(1, 5)):
            x = g.attempt(_chosen(g, dense.BLOCKS if g.chance(0.8) else POINTWISE), x)
        x = g.attempt(dense.gemm, x)
    if x == entry or not any(node.op_type in LINEAR for node in g.nodes):
        x = g.add("Relu", [x])  # a network must have something to compute
    outputs = [x]
    if g.chance(0.12):
        outputs[0] = g.attempt(_head, x)
    others = [t for t in g.trail[1:] if t not in outputs and t != entry]
    if others and g.chance(0.15):
        outputs.append(g.pick(others))
    if len(outputs) == 1 and g.chance(0.05) and len(g.shape(x)) == 1:
        outputs.append(g.attempt(dense.gemm, x))
    return list(dict.fromkeys(outputs))


LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _from_channels_last(g: Growth, x: str) -> str:
    """An input whose channels come last."""
    rank = len(g.shape(x)) + 1
    return g.add("Transpose", [x], perm=[0, rank - 1, *range(1, rank - 1)])


def _head(g: Growth, x: str) -> str:
    if len(g.shape(x)) > 1:
        raise Rejected("heads come behind vectors")
    match g.pick(["Softmax", "Softmax", "ArgMax", "Sigmoid"]):
        case "Softmax":
            return g.add("Softmax", [x], axis=1 if g.opset < 11 else g.pick([1, -1]))
        case "ArgMax":
            return g.add("ArgMax", [x], axis=1, keepdims=g.number(0, 1) or 1)
        case head:
            return g.add(head, [x])


class _Graph:
    """What a growth becomes: a file like those of the exporters."""

    def __init__(self, g: Growth, entry: str, outputs: list[str], shape: tuple[int, ...]) -> None:
        self.g, self.entry, self.outputs, self.shape = g, entry, outputs, shape

    def _batch(self) -> int | str | None:
        if self.g.fixed:
            return self.g.batch
        return self.g.pick(["N", "batch_size", None])

    def model(self) -> onnx.ModelProto:
        """The file."""
        g = self.g
        needed = self._needed()
        nodes = [_old(node) if g.opset == 6 else node for node in needed]
        used = {name for node in nodes for name in node.input}
        stored = {name: array for name, array in g.stored.items() if name in used}
        least = LEAST_IR.get(g.opset, 10)
        ir_version = g.pick([least, least, g.number(least, 13)])
        batch = self._batch()
        inputs = [helper.make_tensor_value_info(self.entry, TensorProto.FLOAT, [batch, *self.shape])]
        if ir_version == 3 or g.chance(0.08):
            inputs += [helper.make_tensor_value_info(n, tensor_type(a), a.shape) for n, a in stored.items()]
        declared = g.chance(0.7)
        ends = [
            helper.make_tensor_value_info(
                name, tensor_type(g.values[name]), [batch, *g.shape(name)] if declared else None
            )
            for name in self.outputs
        ]
        graph = helper.make_graph(
            nodes, g.pick(["main_graph", "torch-jit-export", "g"]), inputs, ends,
            [numpy_helper.from_array(array, name) for name, array in stored.items()],
        )  # fmt: skip
        if g.chance(0.1):
            graph.value_info.extend(
                helper.make_tensor_value_info(name, tensor_type(g.values[name]), [batch, *g.shape(name)])
                for node in nodes
                for name in node.output
                if name not in self.outputs and g.values[name].ndim > 1 and g.values[name].shape[:1] == (g.batch,)
                and node.op_type != "Constant"
            )  # fmt: skip
        if g.chance(0.3):
            for node in graph.node:
                node.name = ""
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", g.opset)], ir_version=ir_version, producer_name="fuzz"
        )

    def _needed(self) -> list[onnx.NodeProto]:
        """The nodes that the outputs depend on; sometimes the others too."""
        if self.g.chance(0.05):
            return list(self.g.nodes)
        wanted = set(self.outputs)
        kept = []
        for node in reversed(self.g.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        return kept[::-1]

    def twin(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The model in opset 7 where it is in opset 6, for which ONNX Runtime has no kernels."""
        return in_opset_7(model) if self.g.opset == 6 else model

    def halves(self) -> bool:
        """Whether all of it may be in half precision."""
        kept = ("Cast", "Resize", "Upsample", "Shape")
        return self.g.opset >= 9 and not any(node.op_type in kept for node in self.g.nodes)


def in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """All floats in 16 bits."""
    return _retyped(model, TensorProto.FLOAT, TensorProto.FLOAT16)


def in_single_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of half precision, computed in single precision: the compiler does so too."""
    return _retyped(model, TensorProto.FLOAT16, TensorProto.FLOAT)


def _retyped(model: onnx.ModelProto, before: int, after: int) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    tensors = [*made.graph.initializer]
    tensors += [a.t for n in made.graph.node if n.op_type == "Constant" for a in n.attribute]
    for tensor in tensors:
        if tensor.data_type == before:
            array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(after))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*made.graph.input, *made.graph.output, *made.graph.value_info):
        if value.type.tensor_type.elem_type == before:
            value.type.tensor_type.elem_type = after
    return made


TESTED = ("BatchNormalization", "Dropout")
"""Operators that say in opset 6 that they are not trained."""


def _old(node: onnx.NodeProto) -> onnx.NodeProto:
    """A node of opset 7 in opset 6."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    if node.op_type in TESTED:
        made.attribute.append(helper.make_attribute("is_test", 1))
    elif node.op_type == "Gemm":
        made.attribute.append(helper.make_attribute("broadcast", 1))
    return made


def in_opset_7(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that `_old` wrote, as it was before."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for node in made.graph.node:
        kept = [a for a in node.attribute if a.name not in ("is_test", "broadcast")]
        del node.attribute[:]
        node.attribute.extend(kept)
    made.opset_import[0].version = 7
    return made
