"""Layer by layer against ONNX Runtime, bit for bit against another device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from nmc.ir.connectivity import Array, Shape, size
from nmc.ir.diagnostic import Diagnostic
from nmc.ir.network import Network, Population
from nmc.ir.neurons import Source
from nmc.ir.reference import encode, per_channel
from nmc.runtime.accuracy import CurvePoint
from nmc.runtime.artifact import Artifact
from nmc.runtime.attribution import REMEDIES, Attribution, attribute, attribution_table, worst
from nmc.runtime.device import Device, Execution, Trace
from nmc.runtime.error_model import error_bounds, inner_values
from nmc.runtime.oracle_process import Oracle, open_oracle
from nmc.runtime.over_steps import over_steps, over_steps_table
from nmc.runtime.session import input_values, require
from nmc.runtime.simulator import simulate
from nmc.runtime.tables import Shown, TextTable

RISKY = 0.05
"""Share of the variance of the outputs above which top-1 answers are lost: measured on ResNet-20, where
0.05 goes with 1 to 3 points of accuracy and 0.02 cannot be told from the float network."""

VALUES_MAX = 1 << 25
"""Trace values (256 MiB of int64) in flight."""


@dataclass(frozen=True)
class LayerResult:
    """One population against the ONNX tensor that it stands for.

    Attributes:
        name: of the population.
        max_error, rmse: of the decoded values, in the tensor's units.
        correlation: Pearson's, over all values; None where either side is constant.
        bound: on rmse: what coding, T and scales imply (`nmc.runtime.error_model`).
        ok: rmse is inside the bound.
    """

    name: str
    max_error: float
    rmse: float
    correlation: float | None
    bound: float
    ok: bool

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        return {
            "name": self.name,
            "max_error": self.max_error,
            "rmse": self.rmse,
            "correlation": self.correlation,
            "bound": self.bound,
            "ok": self.ok,
        }


@dataclass(frozen=True)
class Difference:
    """Where two executions part first: earliest step, then order of the network.

    ``step`` counts from the beginning of the sample; ``neuron`` is the flat C-order index.
    """

    kind: str
    sample: int
    population: str
    step: int
    neuron: int
    expected: int
    found: int

    def __str__(self) -> str:
        return (
            f"sample {self.sample}, step {self.step}, '{self.population}' neuron {self.neuron}: "
            f"{self.kind} {self.found} instead of {self.expected}"
        )


@dataclass(frozen=True)
class BitExact:
    """The simulator and a device on the same inputs.

    Attributes:
        spikes_equal: every message of every population on the chip in every step, and every
            read-out; ``potentials_equal`` likewise.
        steps: samples times ``timesteps_total``.
        first: the first difference, if there is one.
        missing: populations that the device did not trace: they count as different.
    """

    device: str
    spikes_equal: bool
    potentials_equal: bool
    steps: int
    first: Difference | None = None
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        return {
            "device": self.device,
            "spikes_equal": self.spikes_equal,
            "potentials_equal": self.potentials_equal,
            "steps": self.steps,
        }


@dataclass(frozen=True)
class Verification(Shown):
    """The result of `verify`.

    Attributes:
        layers: in the order of the network, those that the ONNX model has a tensor for.
        bit_exact: None if no device was given.
        diagnostics: an error per layer outside its bound and per difference of the device.
        samples: how many were compared.
        attribution: where the error of each layer comes from; empty for a network with loops.
        curve: the first output after 1 ... T input steps, against ONNX Runtime.
    """

    layers: tuple[LayerResult, ...]
    bit_exact: BitExact | None
    diagnostics: tuple[Diagnostic, ...] = ()
    samples: int = 0
    attribution: tuple[Attribution, ...] = ()
    curve: tuple[CurvePoint, ...] = ()

    @property
    def first_bad_layer(self) -> str | None:
        """Name of the first layer outside its bound."""
        return next((layer.name for layer in self.layers if not layer.ok), None)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not any(d.severity == "error" for d in self.diagnostics)

    def layer_tables(self) -> tuple[TextTable, ...]:
        """Every layer against ONNX Runtime, and where its error comes from."""
        rows = tuple(
            (
                layer.name,
                f"{layer.max_error:.4g}",
                f"{layer.rmse:.4g}",
                f"{layer.bound:.4g}",
                "-" if layer.correlation is None else f"{layer.correlation:.4f}",
                "ok" if layer.ok else "OUT OF BOUND",
            )
            for layer in self.layers
        )
        columns = ("layer", "#max error", "#rmse", "#bound on rmse", "#correlation", "verdict")
        layers = TextTable(f"against ONNX Runtime, {self.samples:,} samples", columns, rows)
        split = (attribution_table(self.attribution),) if self.attribution else ()
        curve = (over_steps_table(self.curve, self.samples),) if len(self.curve) > 1 else ()
        return layers, *split, *curve

    def tables(self) -> tuple[TextTable, ...]:
        """Every layer against ONNX Runtime, and the device against the simulator."""
        exact = self.bit_exact
        if exact is None:
            return self.layer_tables()
        row = (exact.device, str(exact.spikes_equal), str(exact.potentials_equal), f"{exact.steps:,}")
        columns = ("device", "spikes equal", "potentials equal", "#steps")
        return *self.layer_tables(), TextTable("against the simulator", columns, (row,))

    def to_dict(self) -> dict[str, object]:
        """The form of ``verify --json``."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "first_bad_layer": self.first_bad_layer,
            "attribution": [row.to_dict() for row in self.attribution],
            "curve": [point.to_dict() for point in self.curve],
            "bit_exact": self.bit_exact.to_dict() if self.bit_exact else None,
        }


def verify(artifact: Artifact, x: Array, *, device: Device | None = None, isolated: bool = False) -> Verification:
    """Compare what is mapped with what ONNX Runtime computes, and with another device.

    Args:
        artifact: what to judge.
        x: (N, *input shape of the ONNX file), preprocessed; several inputs joined.
        device: compared with the simulator spike by spike, on the same inputs.
        isolated: ONNX Runtime runs in a process of its own, with limits.

    Raises:
        NmcError: ONNX Runtime failed (exit 3), the device is missing (exit 6) or failed.
    """
    if device is not None:
        require(device)
    network, inputs = artifact.network, encode(artifact.network, x)
    with open_oracle(artifact.source_onnx, isolated=isolated) as oracle:
        wanted, outputs = _wanted(network, oracle, x), oracle.outputs(x)
    found = decoded_values(artifact, inputs)
    inner = inner_values(network, artifact.graph, x, wanted)
    layers = _layers(network, wanted, found, error_bounds(network, artifact.spiking, wanted, inner))
    notes = [
        Diagnostic("layer-not-compared", f"the ONNX model has no tensor for '{p.name}'", "note", p.origin)
        for p in network.populations
        if p.name not in wanted
    ]
    errors = [
        Diagnostic(
            "layer-out-of-bound",
            f"'{r.name}' differs from ONNX Runtime by {r.rmse:.4g} rms, the bound is {r.bound:.4g}",
            origin=network.by_name[r.name].origin,
            help="calibrate with data in the range of use (--calib), or raise the timesteps (-T)",
        )
        for r in layers
        if not r.ok
    ]
    exact = compare_with_device(artifact, inputs, device) if device is not None else None
    split = () if network.recurrent else _attribution(artifact, inputs, wanted)
    findings = (*errors, *_device_findings(exact), *far_from_float(network, split), *notes)
    return Verification(layers, exact, findings, len(x), split, over_steps(artifact, inputs, outputs))


def _attribution(artifact: Artifact, inputs: Array, wanted: Mapping[str, Array]) -> tuple[Attribution, ...]:
    """Of as many samples as fit in memory."""
    network = artifact.network
    some = max(1, VALUES_MAX // sum(p.neurons for p in network.populations))
    first = {name: values[:some] for name, values in wanted.items()}
    return tuple(attribute(network, artifact.spiking, inputs[:some], first))


def far_from_float(network: Network, split: Sequence[Attribution]) -> Iterator[Diagnostic]:
    """A warning for each output whose error is so large that answers are likely to change."""
    most = worst(split)
    for row in split:
        if row.name in network.read_outs and row.error > RISKY and most is not None:
            yield Diagnostic(
                "outputs-far-from-float",
                f"the error of '{row.name}' is {100 * row.error:.1f} % of the variance of ONNX Runtime's values; "
                f"'{most.name}' adds most ({100 * most.own:.1f} % of its own, mainly {most.main_part})",
                "warning",
                network.by_name[most.name].origin,
                help=REMEDIES[most.main_part],
            )


def _device_findings(exact: BitExact | None) -> Iterator[Diagnostic]:
    if exact is None or (exact.spikes_equal and exact.potentials_equal):
        return
    if exact.missing:
        yield Diagnostic("device-differs", f"'{exact.device}' gave no trace of {', '.join(exact.missing[:5])}")
    if exact.first is not None:
        yield Diagnostic("device-differs", f"'{exact.device}' differs from the simulator first at {exact.first}")


def _wanted(network: Network, oracle: Oracle, x: Array) -> dict[str, Array]:
    """ONNX Runtime's values by population, (N, *population shape) float64, where there is a tensor."""
    names = {p.name: p.origin.output for p in network.populations if oracle.knows(p.origin.output)}
    wanted = input_values(network, x)
    tensors = oracle.tensors(x, [t for name, t in names.items() if name not in wanted])
    for population in network.populations:
        name = names.get(population.name)
        if population.name not in wanted and name is not None:
            values = _shaped(tensors[name].astype(np.float64), population.shape)
            if values is not None:
                wanted[population.name] = values
    return wanted


def _shaped(values: Array, shape: Shape) -> Array | None:
    """A tensor in a population's order of axes; None if it has another number of elements.

    Axes move only where lengths say so: flattening keeps the order, and a tensor with
    channels last is turned by the one permutation of its axes that fits (channels first).
    """
    if size(values.shape[1:]) != size(shape):
        return None
    if values.shape[1:] == shape or values.ndim != len(shape) + 1:
        return values.reshape(len(values), *shape)
    fits = [p for p in permutations(range(len(shape))) if tuple(values.shape[1 + a] for a in p) == shape]
    if not fits:
        return values.reshape(len(values), *shape)
    return values.transpose(0, *(axis + 1 for axis in fits[0]))


def decoded_values(artifact: Artifact, inputs: Array) -> dict[str, Array]:
    """What the populations of the mapped program stand for, (N, *shape) float64, by name.

    A message of scale ``s`` that is sent ``c`` times (or sums to c) in T steps is ``s * c / T``;
    a population that is read is its read-out times the decode scale.
    """
    network = artifact.network
    parts: dict[str, list[Array]] = {p.name: [] for p in network.populations}
    per_sample = sum(p.neurons for p in network.populations) * network.timesteps
    step = max(1, VALUES_MAX // per_sample)
    for first in range(0, len(inputs), step):
        run = simulate(artifact.routed, inputs[first : first + step], trace=frozenset({"messages"}))
        for population in network.populations:
            parts[population.name].append(_decoded(network, population, run))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _decoded(network: Network, population: Population, run: Execution) -> Array:
    for spec, readout in zip(network.outputs, run.readouts, strict=True):
        if population.name == spec.population:
            return np.asarray(readout * per_channel(spec.scale, population.shape), dtype=np.float64)
    scale = per_channel(np.asarray(network.scales[population.name], dtype=np.float64), population.shape)
    return np.asarray(run.trace.messages[population.name].sum(axis=1) * scale / network.timesteps)


def _layers(
    network: Network, wanted: Mapping[str, Array], found: Mapping[str, Array], bounds: Mapping[str, float]
) -> tuple[LayerResult, ...]:
    results = []
    for population in network.populations:
        if population.name not in wanted:
            continue
        a, b = found[population.name], wanted[population.name]
        error = a - b
        rmse, bound = float(np.sqrt(np.square(error).mean())), bounds[population.name]
        results.append(
            LayerResult(population.name, float(np.abs(error).max()), rmse, _correlation(a, b), bound, rmse <= bound)
        )
    return tuple(results)


def _correlation(a: Array, b: Array) -> float | None:
    a, b = (a - a.mean()).reshape(-1), (b - b.mean()).reshape(-1)
    power = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum() / power) if power > 0 else None


def compare_with_device(artifact: Artifact, inputs: Array, device: Device) -> BitExact:
    """Run the simulator and a device with traces; every message and potential must be equal.

    Args:
        artifact: what to run.
        inputs: (N, *network.input_shape) int64.
        device: runs all inputs in one go: starting a device may be dear.
    """
    network, kinds = artifact.network, frozenset({"messages", "potentials"})
    ours = simulate(artifact.routed, inputs, trace=kinds)
    theirs = device.execute(artifact, inputs, trace=kinds)
    differences, missing = {}, set()
    for kind in sorted(kinds):
        wanted, got = _traced(ours.trace, kind), _traced(theirs.trace, kind)
        for population in network.populations:
            # The messages of a source are the inputs: the host sends them, no device computes them.
            if population.name not in wanted or isinstance(population.neuron, Source):
                continue
            if population.name not in got or got[population.name].shape != wanted[population.name].shape:
                missing.add((kind, population.name))
                continue
            first = _first(kind, population, wanted[population.name], got[population.name])
            if first is not None:
                differences[kind, population.name] = first
    pairs = list(zip(network.outputs, ours.readouts, theirs.readouts, strict=True))
    readout_equal = all(np.array_equal(wanted, got) for _, wanted, got in pairs)
    if not readout_equal and not differences and not missing:
        for spec, wanted_last, got_last in pairs:
            first = _first("readout", network.by_name[spec.population], wanted_last[:, None], got_last[:, None])
            if first is not None:
                differences["readout", spec.population] = first
    found = {kind for kind, _ in (*differences, *missing)}
    order = {p.name: number for number, p in enumerate(network.populations)}
    ranked = sorted(differences.values(), key=lambda d: (d.sample, d.step, order[d.population], d.kind))
    return BitExact(
        device.name,
        "messages" not in found and readout_equal,
        "potentials" not in found,
        len(inputs) * network.timesteps_total,
        ranked[0] if ranked else None,
        tuple(sorted({name for _, name in missing})),
    )


def _traced(trace: Trace, kind: str) -> Mapping[str, Array]:
    return trace.messages if kind == "messages" else trace.potentials


def _first(kind: str, population: Population, wanted: Array, got: Array) -> Difference | None:
    """The first difference of (N, T, *shape) values, sample by sample, step by step."""
    different = np.flatnonzero(wanted != got)
    if not len(different):
        return None
    sample, step, neuron = (int(i) for i in np.unravel_index(different[0], (*wanted.shape[:2], population.neurons)))
    at = (int(v.reshape(-1)[different[0]]) for v in (wanted, got))
    word = {"messages": "message", "potentials": "potential"}.get(kind, kind)
    return Difference(word, sample, population.name, population.start + step, neuron, *at)
