"""Accuracy by stage: the same samples through ONNX Runtime and every program on the way to the chip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.network import Network
from nmc.ir.reference import decode, encode
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime import simulator
from nmc.runtime.accuracy import CurvePoint, OutputResult, StageResult
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Data
from nmc.runtime.device import Counters, Device
from nmc.runtime.labels import Judge, judges
from nmc.runtime.oracle_process import open_oracle
from nmc.runtime.session import add_counters, run
from nmc.runtime.tables import Shown, TextTable
from nmc.runtime.tally import Tally

STAGES = ("onnx", "simplified", "spiking", "quantized", "mapped")
"""From the ONNX file to the chip; each is an executable program of the artifact."""

BATCH_MAX = 256
"""Samples in flight."""

VALUES_MAX = 1 << 25
"""Values of the analog network in flight (256 MiB of float64)."""

Progress = Callable[[str, float], None]

Outputs = list[Array]
"""Of every output, (n, values) float64."""


@dataclass(frozen=True, eq=False)
class Evaluation(Shown):
    """The result of `evaluate`.

    Attributes:
        samples: how many.
        outputs: in the order of the network, one at least.
        counters: of the mapped run, over all samples; None unless it was asked for.
        seconds: wall time of the ``mapped`` stage, or of all stages if it was not asked for.
    """

    samples: int
    outputs: tuple[OutputResult, ...]
    counters: Counters | None
    seconds: float

    @property
    def stages(self) -> tuple[StageResult, ...]:
        """Of the first output."""
        return self.outputs[0].stages

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """Of the first output."""
        return self.outputs[0].curve

    def stage(self, name: str) -> StageResult | None:
        """The row of a stage of the first output."""
        return self.outputs[0].stage(name)

    @property
    def spikes_per_inference(self) -> float | None:
        """Messages of all populations, the host's included; None if nothing was counted."""
        return self.counters.spikes / self.samples if self.counters else None

    @property
    def synops_per_inference(self) -> float | None:
        """Synaptic operations on cores; None if nothing was counted."""
        return self.counters.synops / self.samples if self.counters else None

    @property
    def samples_per_second(self) -> float | None:
        """Samples by `seconds`."""
        return self.samples / self.seconds if self.seconds > 0 else None

    def accuracy_tables(self) -> tuple[TextTable, ...]:
        """Accuracy by stage, a table for each output."""
        return tuple(output.accuracy_table(self.samples, self.of(output)) for output in self.outputs)

    def tables(self) -> tuple[TextTable, ...]:
        """Accuracy by stage, and of the mapped program if it is read out after fewer steps."""
        curves = (output.curve_table(self.of(output)) for output in self.outputs if len(output.curve) > 1)
        return (*self.accuracy_tables(), *curves)

    def of(self, output: OutputResult) -> str:
        """Which output, in words, if there are several."""
        return f" of '{output.name}'" if len(self.outputs) > 1 else ""

    def _repr_html_(self) -> str:
        return super()._repr_html_() + "".join(output.curve_svg(self.of(output)) for output in self.outputs)

    def to_dict(self) -> dict[str, object]:
        """The form of ``eval --json``."""
        return {
            "samples": self.samples,
            "stages": [stage.to_dict() for stage in self.stages],
            "curve": [point.to_dict() for point in self.curve],
            "outputs": [output.to_dict() for output in self.outputs],
            "spikes_per_inference": self.spikes_per_inference,
            "synops_per_inference": self.synops_per_inference,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
        }


@dataclass
class _Mapped:
    """The mapped stage keeps its tables, counts, and judges every step."""

    artifact: Artifact
    threads: int | None
    judges: tuple[Judge, ...]
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self._tables = build_tables(self.artifact.routed)
        steps = range(self.artifact.network.timesteps)
        self._tallies = [[Tally(judge) for _ in steps] for judge in self.judges]

    def run(self, x: Array, wanted: Outputs, first: int) -> Outputs:
        """Outputs of a batch that begins with sample number ``first``."""
        network = self.artifact.network
        execution = simulator.execute(self._tables, encode(network, x), threads=self.threads, curve=True)
        if execution.counters is not None:
            self.counters = add_counters(self.counters, execution.counters)
        for number, curve in enumerate(execution.curves or ()):
            for step, tally in enumerate(self._tallies[number]):
                tally.add(network, _flat(decode(network, curve[:, step], number)), wanted[number], first)
        return _decoded(network, execution.readouts)

    def curve(self, output: int) -> tuple[CurvePoint, ...]:
        """Accuracy of one output by input steps."""
        return tuple(
            CurvePoint(step + 1, t.top1, t.agreement, None if t.judge.by_class else t.nrmse)
            for step, t in enumerate(self._tallies[output])
        )


def _flat(outputs: Array) -> Array:
    """(n, outputs) float64."""
    return np.asarray(outputs, dtype=np.float64).reshape(len(outputs), -1)


def _decoded(network: Network, readouts: tuple[Array, ...]) -> Outputs:
    return [_flat(decode(network, readout, number)) for number, readout in enumerate(readouts)]


def _analog(graph: LayerGraph) -> Callable[[Array], Outputs]:
    def run(x: Array) -> Outputs:
        values = execute_graph(graph, x, graph.outputs)
        return [_flat(values[name]) for name in graph.outputs]

    return run


def _layerwise(network: Network, threads: int | None) -> Callable[[Array], Outputs]:
    def run(x: Array) -> Outputs:
        return _decoded(network, execute_network(network, encode(network, x), threads=threads).readouts)

    return run


def _batch(artifact: Artifact) -> int:
    values = sum(size(layer.shape) for layer in artifact.graph.layers)
    return max(1, min(BATCH_MAX, VALUES_MAX // max(values, 1)))


def _batches(artifact: Artifact, x: Array, isolated: bool) -> Iterator[tuple[int, Array, Outputs]]:
    """The samples in batches: number of the first, samples, and what ONNX Runtime makes of them."""
    step = _batch(artifact)
    with open_oracle(artifact.source_onnx, isolated=isolated) as oracle:
        for first in range(0, len(x), step):
            part = x[first : first + step]
            yield first, part, [_flat(values) for values in oracle.outputs(part)]


def evaluate(
    artifact: Artifact,
    data: Data,
    *,
    stages: Sequence[str] = STAGES,
    threads: int | None = None,
    progress: Progress | None = None,
    device: Device | None = None,
    isolated: bool = False,
) -> Evaluation:
    """Run all samples through the stages, batch by batch.

    Args:
        artifact: what to judge.
        data: preprocessed samples; labels if there are any.
        stages: of `STAGES`; ONNX Runtime runs in any case: the others are held against it.
        threads: at most this many; results do not depend on it.
        progress: called with what is being done and the fraction done.
        device: runs the samples too, as a last row under its name.
        isolated: ONNX Runtime runs in a process of its own, with limits.

    Raises:
        NmcError: ``stage-unknown`` or ``data-labels`` (exit 2), ONNX Runtime failed (exit 3), or the
            device did.
    """
    _check_stages(stages)
    order = [name for name in STAGES if name in stages]
    network = artifact.network
    found = judges(network, data)
    runners: dict[str, Callable[[Array], Outputs]] = {
        "simplified": _analog(artifact.graph),
        "spiking": _layerwise(artifact.spiking, threads),
        "quantized": _layerwise(network, threads),
    }
    if device is not None:
        order.append(device.name)
        runners[device.name] = lambda x: [_flat(values) for values in run(artifact, x, device).values]
    mapped = _Mapped(artifact, threads, found) if "mapped" in order else None
    tallies = {name: [Tally(judge) for judge in found] for name in order}
    seconds = dict.fromkeys(order, 0.0)
    begin, samples = time.perf_counter(), len(data.x)
    for first, x, wanted in _batches(artifact, data.x, isolated):
        for number, name in enumerate(order):
            started = time.perf_counter()
            if name == "mapped" and mapped is not None:
                outputs = mapped.run(x, wanted, first)
            else:
                outputs = wanted if name == "onnx" else runners[name](x)
            seconds[name] += time.perf_counter() - started
            for tally, values, onnx in zip(tallies[name], outputs, wanted, strict=True):
                tally.add(network, values, onnx, first)
            if progress is not None:
                progress("evaluate", min((first + len(x) * (number + 1) / len(order)) / samples, 1.0))
    results = tuple(_result(judge, {name: tallies[name][judge.output] for name in order}, mapped) for judge in found)
    if mapped is None:
        return Evaluation(samples, results, None, time.perf_counter() - begin)
    return Evaluation(samples, results, mapped.counters, seconds["mapped"])


def _check_stages(stages: Sequence[str]) -> None:
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        raise NmcError.single(
            "stage-unknown", f"no stage is called '{unknown[0]}'", ExitCode.USAGE, help=f"stages: {', '.join(STAGES)}"
        )


def _result(judge: Judge, tallies: Mapping[str, Tally], mapped: _Mapped | None) -> OutputResult:
    rows = tuple(StageResult(stage, t.top1, t.agreement, t.nrmse) for stage, t in tallies.items())
    curve = () if mapped is None else mapped.curve(judge.output)
    return OutputResult(judge.name, judge.by_class, judge.against, rows, curve)
