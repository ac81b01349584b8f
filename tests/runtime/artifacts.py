"""A small residual network as ONNX and compiled for a made-up chip: what judging an artifact needs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nmc.hardware.target import Target
from nmc.ir.connectivity import Conv2d, Dense
from nmc.ir.layers import Add, Input, LayerGraph, Linear, Relu
from nmc.ir.network import Network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.base import Pass
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.partition import partition_passes
from nmc.passes.place import placement_pass
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.quantize.quantize_rate import QuantizeRate
from nmc.passes.route import RouteXY
from nmc.runtime.artifact import Artifact
from nmc.testing.builders import context_for, residual_graph, small_target


def samples(count: int, seed: int = 0) -> Any:
    """(count, 2, 6, 6) float32 in [0, 1)."""
    return np.random.default_rng([seed, 9]).random((count, 2, 6, 6)).astype(np.float32)


def to_onnx(graph: LayerGraph) -> bytes:
    """The graph as an ONNX model; the tensor of layer ``a`` is ``a:0``."""
    nodes, constants = [], []

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    for layer in graph.layers:
        inputs, output = [f"{name}:0" for name in layer.inputs], layer.origin.output
        match layer.op:
            case Linear(Conv2d() as conv, bias):
                top, left, bottom, right = conv.pads
                given = [constant(f"{layer.name}.w", conv.weight), constant(f"{layer.name}.b", bias)]
                pads = [top, left, bottom, right]
                nodes.append(helper.make_node("Conv", inputs + given, [output], pads=pads))
            case Linear(Dense() as dense, bias):
                given = [constant(f"{layer.name}.w", dense.weight), constant(f"{layer.name}.b", bias)]
                nodes.append(helper.make_node("Flatten", inputs, [f"{layer.name}.flat"]))
                nodes.append(helper.make_node("Gemm", [f"{layer.name}.flat", *given], [output], transB=1))
            case Relu() | Add():
                nodes.append(helper.make_node(type(layer.op).__name__, inputs, [output]))
            case Input():
                pass
            case op:
                raise TypeError(f"{op} is not in these tests")
    first, last = graph.input, graph.by_name[graph.output]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            graph.name,
            [helper.make_tensor_value_info(first.origin.output, TensorProto.FLOAT, ["N", *first.shape])],
            [helper.make_tensor_value_info(last.origin.output, TensorProto.FLOAT, ["N", *last.shape])],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def float32_weights(graph: LayerGraph) -> LayerGraph:
    """Weights that float32 holds exactly, so that the ONNX file and the graph are the same network."""

    def round(op: Any) -> Any:
        if not isinstance(op, Linear):
            return op
        weight = op.connectivity.weight.astype(np.float32).astype(np.float64)
        return replace(
            op, connectivity=op.connectivity.with_weight(weight), bias=op.bias.astype(np.float32).astype(np.float64)
        )

    return replace(graph, layers=tuple(replace(layer, op=round(layer.op)) for layer in graph.layers))


@cache
def residual_artifact(coding: str = "rate", timesteps: int = 32, seed: int = 0) -> Artifact:
    """`nmc.testing.builders.residual_graph` compiled; some cores, skips and delays."""
    graph = float32_weights(residual_graph(seed))
    target: Target = small_target()
    steps: tuple[Pass, ...]
    if coding == "rate":
        steps = (ConvertRate(timesteps), AlignWindows(), QuantizeRate())
    else:
        steps = (ConvertGraded(), AlignWindows(), QuantizeGraded())
    steps = (*steps, *partition_passes("auto", None), placement_pass("row-major", None), RouteXY())
    context, program, spiking = context_for(graph, samples(64, seed=1), target), graph, None
    for step in steps:
        program = step.run(program, context)  # type: ignore[assignment]
        if isinstance(program, Network) and not program.is_integer:
            spiking = program
    context.diagnostics.raise_errors(3)  # type: ignore[arg-type]
    assert spiking is not None
    manifest = {"target": {"name": target.name, "family": target.family, "hash": target.hash}, "timesteps": timesteps}
    return Artifact(manifest, program, graph, spiking, to_onnx(graph), {}, {}, target.grid)  # type: ignore[arg-type]
