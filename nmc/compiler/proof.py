"""Every lowering proves itself with a number; a failed proof stops the compile."""

from __future__ import annotations

import numpy as np

from nmc.compiler.frontends.onnx import SourceModel
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import ArgMax, Layer, LayerGraph, Quantize
from nmc.ir.mapping import Routed
from nmc.ir.reference import encode
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.runtime.oracle_process import Oracle, open_oracle
from nmc.runtime.simulator import simulate

SAMPLES = 4
"""Samples per proof: a wrong rewrite shows on the first."""

TOLERANCE = 1e-5
"""Relative to the largest output; ONNX Runtime computes in float32 (its own spread is 1.7e-6)."""


TIES = 1e-3
"""Share of quantized values that may fall on the other side of a tie in float32."""


def _relative_error(got: Array, wanted: Array) -> float:
    scale = max(float(np.abs(wanted).max(initial=0.0)), 1e-6)
    return float(np.abs(got - wanted).max(initial=0.0)) / scale


def _last_real(graph: LayerGraph) -> list[Layer]:
    """The layers to compare: the outputs, or what an argmax reads, since class numbers have no tolerance."""
    ends = [graph.by_name[name] for name in graph.outputs]
    return [graph.by_name[end.inputs[0]] if isinstance(end.op, ArgMax) else end for end in ends]


def _first_difference(model: SourceModel, oracle: Oracle, x: Array) -> str:
    """The first layer whose value differs from ONNX Runtime's."""
    layers = [layer for layer in model.graph.layers if layer.inputs]
    values = execute_graph(model.graph, x, [layer.name for layer in layers])
    tensors = oracle.tensors(x, [la.origin.output for la in layers if oracle.knows(la.origin.output)])
    for layer in layers:
        tensor = tensors.get(layer.origin.output)
        if (
            tensor is not None
            and _relative_error(values[layer.name], tensor.reshape(values[layer.name].shape)) > TOLERANCE
        ):
            return str(layer.origin)
    return "an output"


def prove_import(model: SourceModel, inputs: Array, *, isolated: bool = False) -> None:
    """The graph as read computes what ONNX Runtime computes.

    Args:
        model: as read.
        inputs: (N, *input shape) float32; several inputs joined.
        isolated: ONNX Runtime runs in a process of its own, with limits.

    Raises:
        NmcError: it does not, and the first layer that differs is named; or ONNX Runtime failed.
    """
    with open_oracle(model.onnx, isolated=isolated) as oracle:
        _prove_import(model, oracle, inputs)


def _prove_import(model: SourceModel, oracle: Oracle, inputs: Array) -> None:
    x, ends = inputs[:SAMPLES], _last_real(model.graph)
    given = _prove_quantized(model, oracle, x)
    wanted = oracle.tensors(x, [end.origin.output for end in ends])
    got = execute_graph(model.graph, x, [end.name for end in ends], given)
    pairs = [(got[end.name], wanted[end.origin.output]) for end in ends]
    error = max(_relative_error(values.reshape(tensor.shape), tensor) for values, tensor in pairs)
    if not error <= TOLERANCE:
        raise NmcError.single(
            "import-differs",
            f"the imported network differs from ONNX Runtime by {error:.2g} (limit {TOLERANCE:g}), "
            f"first at {_first_difference(model, oracle, x)}",
            ExitCode.INTERNAL,
        )


def _prove_quantized(model: SourceModel, oracle: Oracle, x: Array) -> dict[str, Array]:
    """The integers of ONNX Runtime behind each `Quantize`, by layer.

    They decide what is read behind it: float32 falls on the other side of a tie now and then, and
    one step more or less is far outside `TOLERANCE`.

    Raises:
        NmcError: more of them differ, or by more than one, than ties explain.
    """
    layers = [layer for layer in model.graph.layers if isinstance(layer.op, Quantize)]
    if not layers:
        return {}
    tensors = oracle.tensors(x, [layer.origin.output for layer in layers])
    given = {la.name: tensors[la.origin.output].astype(np.float64).reshape(len(x), *la.shape) for la in layers}
    found = execute_graph(model.graph, x, given, given)
    for layer in layers:
        apart = np.abs(found[layer.name] - given[layer.name])
        ties = int(np.count_nonzero(apart))
        if apart.max() > 1 or ties > max(TIES * apart.size, 1):
            raise NmcError.single(
                "import-differs",
                f"{ties} of {apart.size} quantized values differ from ONNX Runtime's, by {apart.max():g} at the most, "
                f"first at {layer.origin}",
                ExitCode.INTERNAL,
            )
    return given


def _graphs_apart(before: LayerGraph, after: LayerGraph, x: Array) -> float:
    """The largest relative error of an output."""
    first, last = _last_real(before), _last_real(after)
    wanted = execute_graph(before, x, [layer.name for layer in first])
    got = execute_graph(after, x, [layer.name for layer in last])
    return max(_relative_error(got[b.name], wanted[a.name]) for a, b in zip(first, last, strict=True))


def note_approximation(exact: LayerGraph, near: LayerGraph, inputs: Array, sink: DiagnosticSink) -> None:
    """Say how far the approximations that were allowed move the output."""
    error = _graphs_apart(exact, near, inputs[:SAMPLES])
    sink.note(
        "approximation-measured",
        f"the approximated operators move the output by {error:.2g} of its largest value on "
        f"{min(len(inputs), SAMPLES)} inputs",
    )


def prove_simplified(before: LayerGraph, after: LayerGraph, inputs: Array) -> None:
    """Simplification changed nothing but rounding.

    Raises:
        NmcError: it did.
    """
    error = _graphs_apart(before, after, inputs[:SAMPLES])
    if not error <= TOLERANCE:
        raise NmcError.single(
            "simplify-differs",
            f"the simplified network differs by {error:.2g} (limit {TOLERANCE:g})",
            ExitCode.INTERNAL,
        )


def prove_mapping(routed: Routed, inputs: Array) -> None:
    """The mapped program gives the integers of the network it was made from.

    Raises:
        NmcError: it does not.
    """
    network = routed.network
    samples = encode(network, inputs[:SAMPLES])
    wanted = execute_network(network, samples)
    got = simulate(routed, samples)
    different = sum(int(np.count_nonzero(a != b)) for a, b in zip(wanted.readouts, got.readouts, strict=True))
    if different:
        total = sum(readout.size for readout in wanted.readouts)
        raise NmcError.single(
            "mapping-differs",
            f"the mapped program differs from the network in {different} of {total} read-outs",
            ExitCode.INTERNAL,
        )
