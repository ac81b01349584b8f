"""The benchmarks' ONNX files as PyTorch modules that converters can trace: no functional calls, a module per layer."""

from __future__ import annotations

import operator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx, nn


def _tensor(values: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(values, dtype=np.float32)), requires_grad=False)


class _Builder:
    """A traced graph, grown node by node; shapes come from ONNX."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph, self.modules = fx.Graph(), nn.ModuleDict()
        self.weights = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        self.shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.found = {entry.name: self.graph.placeholder(entry.name) for entry in model.graph.input}

    def add(self, kind: str, module: nn.Module, source: fx.Node) -> fx.Node:
        """A module behind a node."""
        name = f"{kind}{len(self.modules)}"
        self.modules[name] = module
        return self.graph.call_module(name, (source,))

    def value(self, name: str) -> fx.Node:
        """The node of a tensor; what lies before is built on the way."""
        if name not in self.found:
            self.found[name] = self._build(self.producer[name])
        return self.found[name]

    def _build(self, node: onnx.NodeProto) -> fx.Node:
        held = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        match node.op_type:
            case "Conv":
                return self.add("conv", self._conv(node, held), self.value(node.input[0]))
            case "Relu":
                return self.add("relu", nn.ReLU(), self.value(node.input[0]))
            case "AveragePool":
                pool = nn.AvgPool2d(tuple(held["kernel_shape"]), tuple(held["strides"]))
                return self.add("pool", pool, self.value(node.input[0]))
            case "Flatten" | "Reshape":
                return self.add("flat", nn.Flatten(), self.value(node.input[0]))
            case "Gemm":
                weight = self.weights[node.input[1]]
                dense = nn.Linear(weight.shape[1], weight.shape[0])
                dense.weight, dense.bias = _tensor(weight), _tensor(self.weights[node.input[2]])
                return self.add("dense", dense, self.value(node.input[0]))
            case "Add":
                first, second = (self.value(name) for name in node.input)
                return self.graph.call_function(operator.add, (first, second))
            case "Pad":
                return self._shortcut(node)
        raise ValueError(f"{node.op_type} is not in the benchmarks' networks")

    def _conv(self, node: onnx.NodeProto, held: dict[str, object]) -> nn.Conv2d:
        weight, pads = self.weights[node.input[1]], list(held["pads"])  # type: ignore[call-overload]
        if pads[:2] != pads[2:] or held.get("group", 1) != 1:
            raise ValueError("uneven pads or groups")
        strides = tuple(held["strides"])  # type: ignore[arg-type]
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], strides, tuple(pads[:2]))
        conv.weight, conv.bias = _tensor(weight), _tensor(self.weights[node.input[2]])
        return conv

    def _shortcut(self, node: onnx.NodeProto) -> fx.Node:
        """Every other pixel, zero channels on both sides, as the fixed convolution that it is: tracers know no pads."""
        begin = node
        while begin.op_type in ("Pad", "Slice"):
            source = begin.input[0]
            begin = self.producer[source]
        few = self._channels(source)
        many = 2 * few
        weight = np.zeros((many, few, 1, 1))
        weight[np.arange(few) + (many - few) // 2, np.arange(few)] = 1
        conv = nn.Conv2d(few, many, 1, stride=2, bias=False)
        conv.weight = _tensor(weight)
        return self.add("shortcut", conv, self.value(source))

    def _channels(self, name: str) -> int:
        return int(self.shapes[name][1])


def load(path: str | Path) -> nn.Module:
    """The network of an ONNX file (Conv, Relu, AveragePool, Flatten, Gemm, Add, an option-A shortcut).

    Raises:
        ValueError: any other operator.
    """
    model = onnx.load(str(path))
    builder = _Builder(model)
    builder.graph.output(builder.value(model.graph.output[0].name))
    root = nn.Module()
    for name, module in builder.modules.items():
        root.add_module(name, module)
    return fx.GraphModule(root, builder.graph).eval()


def run(module: nn.Module, x: np.ndarray, batch: int = 100) -> np.ndarray:
    """(N, outputs) of a module in batches."""
    with torch.inference_mode():
        return np.concatenate([module(part).numpy() for part in torch.from_numpy(x).split(batch)])


def require_equal(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference to ONNX Runtime's outputs.

    Raises:
        ValueError: it is more than float32 explains, or an answer is another.
    """
    apart = float(np.abs(found - wanted).max())
    if apart > 1e-3 * float(np.abs(wanted).max()) or (found.argmax(1) != wanted.argmax(1)).mean() > 0.002:
        raise ValueError(f"the PyTorch module is off by {apart:.3g}")
    return apart
