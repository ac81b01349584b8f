"""Run an artifact on a device: floats in, floats out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import InputSpec, Network
from nmc.ir.reference import answers, decode, encode
from nmc.ir.samples import parted
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Data
from nmc.runtime.device import Counters, Device, Execution
from nmc.runtime.labels import Judge, judges
from nmc.runtime.stopping import stopped_values
from nmc.runtime.tables import Shown, TextTable

SHOWN = 10
"""Samples that a table shows."""


@dataclass(frozen=True, eq=False)
class RunResult(Shown):
    """What came out of a device.

    Attributes:
        device: its name.
        values: of every output, in order, (N, *output shape) float64: the read-outs, decoded.
        classes: of every output, (N,) int64: the class numbers that it stands for; None where it has none.
        judges: how each output is judged, with the labels where there are any.
        execution: as the device gave it, with the traces that were asked for.
        seconds: wall time of the device.
    """

    device: str
    values: tuple[Array, ...]
    classes: tuple[Array | None, ...]
    judges: tuple[Judge, ...]
    execution: Execution
    seconds: float

    @property
    def outputs(self) -> Array:
        """The values of the first output."""
        return self.values[0]

    @property
    def answers(self) -> Array | None:
        """The class numbers that the first output stands for; None where it has no classes."""
        return self.classes[0]

    @property
    def by_output(self) -> dict[str, Array]:
        """The values of every output by its name."""
        return {judge.name: values for judge, values in zip(self.judges, self.values, strict=True)}

    @property
    def mean_steps(self) -> float | None:
        """Input steps after which samples stopped, on average; None where all took all."""
        return None if self.execution.steps is None else float(self.execution.steps.mean())

    def tables(self) -> tuple[TextTable, ...]:
        """Of every output the first samples; and what was counted."""
        count, counters = len(self.outputs), self.execution.counters
        about = f"{count:,} samples on {self.device} in {self.seconds:.3g} s"
        if self.mean_steps is not None:
            about += f", stopped after {self.mean_steps:.1f} input steps on average"
        outputs = self.output_tables()
        first = replace(outputs[0], title=f"{about}: {outputs[0].title}" if outputs[0].title else about)
        if counters is None:
            return (first, *outputs[1:])
        names = ("spikes", "synops", "neuron_updates", "packets", "hops", "host_ops", "overflows")
        counts = tuple((name.replace("_", " "), f"{getattr(counters, name) / count:,.1f}") for name in names)
        return first, *outputs[1:], TextTable("per inference", ("event", "#count"), counts)

    def output_tables(self) -> tuple[TextTable, ...]:
        """The first samples of every output, under its name if there are several."""
        found = []
        for judge, values, answer in zip(self.judges, self.values, self.classes, strict=True):
            columns = _columns(judge, values.reshape(len(values), -1), answer)
            rows = zip(*columns.values(), strict=True)
            title = f"'{judge.name}'" if len(self.judges) > 1 else ""
            numbered = tuple((str(number), *row) for number, row in enumerate(rows))
            found.append(TextTable(title, ("#sample", *(f"#{name}" for name in columns)), numbered))
        return tuple(found)

    def verdicts(self) -> tuple[str, ...]:
        """For every output that has labels, how right it is."""
        found = []
        for judge, values, answer in zip(self.judges, self.values, self.classes, strict=True):
            of = f"'{judge.name}': " if len(self.judges) > 1 else ""
            if judge.labels is None:
                continue
            if answer is not None:
                right, count = int((answer == judge.labels).sum()), len(answer)
                found.append(f"{of}{right:,} of {count:,} right ({100 * right / count:.2f} %)")
            else:
                error = values.reshape(judge.labels.shape) - judge.labels
                found.append(f"{of}rms error {np.sqrt(np.square(error).mean()):.4g} against the labels")
        return tuple(found)

    def to_dict(self) -> dict[str, object]:
        """The form of ``run --json``; ``outputs`` is the path, which the caller knows.

        No device counts cycles; what it cannot count is null.
        """
        counters = self.execution.counters
        names = ("spikes", "synops", "neuron_updates", "packets", "hops")
        return {
            "device": self.device,
            "samples": len(self.outputs),
            "outputs": None,
            "seconds": self.seconds,
            "counters": {name: getattr(counters, name) if counters else None for name in names} | {"cycles": None},
            "mean_steps": self.mean_steps,
        }


def _columns(judge: Judge, values: Array, answer: Array | None) -> dict[str, list[str]]:
    """What a table says about the first samples of one output, (N, values)."""
    first = values[:SHOWN]
    labels = None if judge.labels is None else judge.labels[:SHOWN]
    columns: dict[str, list[str]] = {}
    if answer is not None:
        columns["answer"] = [str(int(number)) for number in answer[:SHOWN]]
        columns["largest output"] = [f"{row.max():.4g}" for row in first]
        if labels is not None:
            columns["label"] = [str(int(number)) for number in labels]
        return columns
    if values.shape[1] == 1:
        columns["output"] = [f"{row[0]:.4g}" for row in first]
        if labels is not None:
            columns["label"] = [f"{row[0]:.4g}" for row in labels]
        return columns
    columns["mean output"] = [f"{row.mean():.4g}" for row in first]
    columns["largest output"] = [f"{row.max():.4g}" for row in first]
    if labels is not None:
        columns["rms error"] = [f"{np.sqrt(np.square(a - b).mean()):.4g}" for a, b in zip(first, labels, strict=True)]
    return columns


def run(
    artifact: Artifact,
    x: Array,
    device: Device,
    *,
    trace: frozenset[str] = frozenset(),
    labels: Data | None = None,
) -> RunResult:
    """Run samples (N, *input shape of the ONNX file), preprocessed, on a device.

    Args:
        artifact: what to run.
        x: float samples; those of several inputs joined (`nmc.ir.samples`).
        device: where.
        trace: of ``messages``, ``potentials``.
        labels: data with the labels that the result is held against.

    Raises:
        NmcError: ``device-missing`` (exit 6), or the device failed; ``data-labels`` (exit 2).
    """
    require(device)
    network = artifact.network
    found = judges(network, labels)
    inputs = encode(network, x)
    begin = time.perf_counter()
    execution = device.execute(artifact, inputs, trace=trace)
    seconds = time.perf_counter() - begin
    values = decoded(network, execution)
    classes = tuple(answers(network, v, j.output) if j.by_class else None for j, v in zip(found, values, strict=True))
    return RunResult(device.name, values, classes, found, execution, seconds)


def decoded(network: Network, execution: Execution) -> tuple[Array, ...]:
    """What a device read, as the values of the outputs (N, *output shape)."""
    if execution.steps is not None:
        return (stopped_values(network, execution.readout, execution.steps),)
    return tuple(decode(network, readout, number) for number, readout in enumerate(execution.readouts))


def require(device: Device) -> None:
    """Check that a device can run here.

    Raises:
        NmcError: ``device-missing``, exit 6, with what to do.
    """
    reason = device.missing()
    if reason is not None:
        raise NmcError.single(
            "device-missing", f"the device '{device.name}' cannot run here: {reason}", ExitCode.MISSING
        )


def calibrated_ranges(network: Network) -> tuple[tuple[float, float], ...]:
    """For each input, in order, the smallest and the largest value that its code was calibrated for."""
    return tuple((spec.low * spec.scale, spec.high * spec.scale) for spec in network.inputs)


def input_values(network: Network, x: Array) -> dict[str, Array]:
    """The inputs as their populations see them before rounding."""
    parts = parted(x, [spec.shape for spec in network.inputs])
    return {spec.population: _seen(network, spec, part) for spec, part in zip(network.inputs, parts, strict=True)}


def _seen(network: Network, spec: InputSpec, x: Array) -> Array:
    """One input, permuted and sign-split."""
    values: Array = x.astype(np.float64)
    if spec.perm is not None:
        values = values.transpose(0, *(axis + 1 for axis in spec.perm))
    if spec.split_sign:
        values = np.concatenate([np.maximum(values, 0), np.maximum(-values, 0)], axis=1)
    return values.reshape(len(x), *network.by_name[spec.population].shape)


def add_counters(a: Counters, b: Counters) -> Counters:
    """The sums of two runs, field by field, mappings key by key."""
    total: dict[str, object] = {}
    for field in fields(Counters):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, Mapping):
            total[field.name] = {key: left.get(key, 0) + right.get(key, 0) for key in (*left, *right)}
        else:
            total[field.name] = left + right
    return Counters(**total)  # type: ignore[arg-type]
