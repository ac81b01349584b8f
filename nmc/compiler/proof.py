"""Every lowering proves itself with a number; a failed proof stops the compile."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nmc.compiler.frontends.onnx import SourceModel
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import ArgMax, Head, Layer, LayerGraph, Quantize
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


REWRITE_TOLERANCE = 1e-7
"""Of an exact rewrite: both sides are computed in float64."""

TIES = 1e-3
"""Share of quantized values that may fall on the other side of a tie in float32."""


def _relative_error(got: Array, wanted: Array) -> float:
    scale = max(float(np.abs(wanted).max(initial=0.0)), 1e-6)
    return float(np.abs(got - wanted).max(initial=0.0)) / scale


def proof_inputs(model: SourceModel, inputs: Array) -> Array:
    """`SAMPLES` calibration inputs, the last two mirrored and stretched beyond the range of all.

    What never shows inside the range of calibration, as the lower bound of a clip, shows beyond it.
    Models of whole numbers keep theirs.
    """
    x = inputs[:SAMPLES].astype(np.float32)
    if any(limits is not None for limits in model.integers) or not len(x):
        return x
    middle = (float(x.min()) + float(x.max())) / 2
    return np.concatenate([x[: SAMPLES - 2], middle - 2 * (x[:2] - middle)])


def _ends(graph: LayerGraph) -> list[Layer]:
    """The layers to compare: what the chip computes, and what the host makes of it but for class numbers."""
    found: list[Layer] = []
    for name in graph.outputs:
        end = graph.by_name[name]
        if isinstance(end.op, Head):
            found.append(graph.by_name[end.inputs[0]])
        if not isinstance(end.op, ArgMax):
            found.append(end)
    return found


def _tolerance(layer: Layer, values: Mapping[str, Array], base: float) -> float:
    """The limit on a relative error; a softmax turns relative errors of what it reads into absolute ones."""
    if not isinstance(layer.op, Head):
        return base
    return base * max(1.0, 2 * float(np.abs(values[layer.inputs[0]]).max(initial=0.0)))


def _first_difference(model: SourceModel, oracle: Oracle, x: Array) -> str:
    """The first layer whose value differs from ONNX Runtime's."""
    layers = [layer for layer in model.graph.layers if layer.inputs]
    values = execute_graph(model.graph, x, [layer.name for layer in layers])
    tensors = oracle.tensors(x, [la.origin.output for la in layers if oracle.knows(la.origin.output)])
    for layer in layers:
        tensor, value = tensors.get(layer.origin.output), values[layer.name]
        if tensor is None:
            continue
        if tensor.size != value.size or _relative_error(value, tensor.reshape(value.shape)) > TOLERANCE:
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
    x, ends = proof_inputs(model, inputs), _ends(model.graph)
    given = _prove_quantized(model, oracle, x)
    known = [end for end in ends if oracle.knows(end.origin.output)]
    wanted = oracle.tensors(x, [end.origin.output for end in known])
    got = execute_graph(model.graph, x, [end.name for end in ends], given)
    for end in known:
        tensor, values = wanted[end.origin.output], got[end.name]
        same = tensor.size == values.size
        error = _relative_error(values.reshape(tensor.shape), tensor) if same else np.inf
        limit = _tolerance(end, got, TOLERANCE)
        if not error <= limit:
            raise NmcError.single(
                "import-differs",
                f"the imported network differs from ONNX Runtime by {error:.2g} (limit {limit:g}), "
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
    first, last = _ends(before), _ends(after)
    if len(first) != len(last):  # what stood behind a head, a file's own quantization, is folded in one of them
        first, last = ([graph.by_name[name] for name in graph.outputs] for graph in (before, after))
    wanted = execute_graph(before, x, [layer.name for layer in first])
    got = execute_graph(after, x, [layer.name for layer in last])
    return max(
        _relative_error(got[b.name], wanted[a.name]) / _tolerance(a, wanted, 1.0)
        for a, b in zip(first, last, strict=True)
    )


def note_approximation(exact: LayerGraph, near: LayerGraph, inputs: Array, sink: DiagnosticSink) -> None:
    """Say how far the approximations that were allowed move the output."""
    error = _graphs_apart(exact, near, inputs[:SAMPLES])
    sink.note(
        "approximation-measured",
        f"the approximated operators move the output by {error:.2g} of its largest value on "
        f"{min(len(inputs), SAMPLES)} inputs",
    )


def prove_simplified(before: LayerGraph, after: LayerGraph, x: Array) -> None:
    """Simplification changed nothing but rounding, in float64.

    Args:
        before: that is simplified.
        after: it.
        x: inputs, all of which are tried: `proof_inputs`.

    Raises:
        NmcError: it did.
    """
    error = _graphs_apart(before, after, x)
    if not error <= REWRITE_TOLERANCE:
        raise NmcError.single(
            "simplify-differs",
            f"the simplified network differs by {error:.2g} (limit {REWRITE_TOLERANCE:g})",
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
