"""Accuracy by stage: the same samples through ONNX Runtime and every program on the way to the chip."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.ir.network import Network
from nmc.ir.reference import answers, classes, decode, encode
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime import simulator
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Data
from nmc.runtime.device import Counters, Device
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.session import add_counters, run
from nmc.runtime.tables import Shown, TextTable, share

STAGES = ("onnx", "simplified", "spiking", "quantized", "mapped")
"""From the ONNX file to the chip; each is an executable program of the artifact."""

BATCH_MAX = 256
"""Samples in flight."""

VALUES_MAX = 1 << 25
"""Values of the analog network in flight (256 MiB of float64)."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class StageResult:
    """One row of the accuracy table.

    Attributes:
        stage: of `STAGES`.
        top1: fraction of samples whose answer (`nmc.ir.reference.answers`) is the label; None without labels.
        agreement: fraction of samples whose answer is ONNX Runtime's.
        nrmse: rms difference of the outputs from ONNX Runtime's, relative to their rms.
    """

    stage: str
    top1: float | None
    agreement: float
    nrmse: float

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        return {"stage": self.stage, "top1": self.top1, "agreement": self.agreement, "nrmse": self.nrmse}


@dataclass(frozen=True)
class CurvePoint:
    """What the mapped program answers if it is read after fewer input steps."""

    timesteps: int
    top1: float | None
    agreement: float

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        return {"timesteps": self.timesteps, "top1": self.top1}


@dataclass(frozen=True, eq=False)
class Evaluation(Shown):
    """The result of `evaluate`.

    Attributes:
        samples: how many.
        stages: in the order of `STAGES`, those asked for.
        curve: by input steps 1 ... T; empty unless ``mapped`` was asked for.
        counters: of the mapped run, over all samples; None unless it was asked for.
        seconds: wall time of the ``mapped`` stage, or of all stages if it was not asked for.
    """

    samples: int
    stages: tuple[StageResult, ...]
    curve: tuple[CurvePoint, ...]
    counters: Counters | None
    seconds: float

    def stage(self, name: str) -> StageResult | None:
        """The row of a stage."""
        return next((s for s in self.stages if s.stage == name), None)

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

    def tables(self) -> tuple[TextTable, ...]:
        """Accuracy by stage, and of the mapped program if it is read out after fewer steps."""
        rows = tuple((s.stage, share(s.top1), share(s.agreement), f"{s.nrmse:.4f}") for s in self.stages)
        columns = ("stage", "#top-1", "#agrees with onnx", "#nrmse")
        stages = TextTable(f"accuracy, {self.samples:,} samples", columns, rows)
        if len(self.curve) < 2:
            return (stages,)
        last = self.curve[-1].timesteps
        points = [p for p in self.curve if p.timesteps & (p.timesteps - 1) == 0 or p.timesteps == last]
        steps = tuple((str(p.timesteps), share(p.top1), share(p.agreement)) for p in points)
        return stages, TextTable("if read out earlier", ("#timesteps", "#top-1", "#agrees with onnx"), steps)

    def curve_svg(self) -> str:
        """The curve as a picture; empty where it has no two points."""
        from nmc.runtime.report.svg import curve

        labelled = all(stage.top1 is not None for stage in self.stages)
        points = [(float(p.timesteps), p.top1 if labelled else p.agreement) for p in self.curve]
        known = [(x, y) for x, y in points if y is not None]
        if len(known) < 2:
            return ""
        onnx = self.stage("onnx")
        reference = ("ONNX", onnx.top1) if labelled and onnx is not None and onnx.top1 is not None else None
        what = "Top-1 accuracy" if labelled else "Agreement with ONNX Runtime"
        return curve(known, f"{what} over timesteps", "input steps", reference)

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self.curve_svg()

    def to_dict(self) -> dict[str, object]:
        """The form of ``eval --json``."""
        return {
            "samples": self.samples,
            "stages": [stage.to_dict() for stage in self.stages],
            "curve": [point.to_dict() for point in self.curve],
            "spikes_per_inference": self.spikes_per_inference,
            "synops_per_inference": self.synops_per_inference,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
        }


@dataclass
class _Tally:
    """Sums over the samples seen so far."""

    right: int = 0
    agreed: int = 0
    squared_error: float = 0.0
    squared: float = 0.0
    seconds: float = 0.0

    def add(self, network: Network, outputs: Array, wanted: Array, labels: Array | None) -> None:
        """Count a batch: (n, outputs) of a stage and of ONNX Runtime."""
        answer = answers(network, outputs)
        self.agreed += int((answer == answers(network, wanted)).sum())
        self.right += 0 if labels is None else int((answer == labels).sum())
        self.squared_error += float(np.square(outputs - wanted).sum())
        self.squared += float(np.square(wanted).sum())

    def result(self, stage: str, samples: int, labelled: bool) -> StageResult:
        """The row of the table."""
        relative = np.sqrt(self.squared_error / self.squared) if self.squared > 0 else np.sqrt(self.squared_error)
        return StageResult(stage, self.right / samples if labelled else None, self.agreed / samples, float(relative))


@dataclass
class _Mapped:
    """The mapped stage keeps its tables, counts, and counts right answers by step."""

    artifact: Artifact
    threads: int | None
    labelled: bool
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        steps = self.artifact.network.timesteps
        self._tables = build_tables(self.artifact.routed)
        self._right = np.zeros(steps, dtype=np.int64)
        self._agreed = np.zeros(steps, dtype=np.int64)

    def run(self, x: Array, wanted: Array, labels: Array | None) -> Array:
        """Outputs (n, outputs) of a batch."""
        network = self.artifact.network
        execution = simulator.execute(self._tables, encode(network, x), threads=self.threads, curve=True)
        if execution.counters is not None:
            self.counters = add_counters(self.counters, execution.counters)
        if execution.curves is not None:
            for step in range(network.timesteps):
                answer = answers(network, decode(network, execution.curves[0][:, step]))
                self._agreed[step] += int((answer == answers(network, wanted)).sum())
                self._right[step] += 0 if labels is None else int((answer == labels).sum())
        return _flat(decode(network, execution.readout))

    def curve(self, samples: int) -> tuple[CurvePoint, ...]:
        """Accuracy by input steps."""
        return tuple(
            CurvePoint(step + 1, int(right) / samples if self.labelled else None, int(agreed) / samples)
            for step, (right, agreed) in enumerate(zip(self._right, self._agreed, strict=True))
        )


def _flat(outputs: Array) -> Array:
    """(n, outputs) float64."""
    return np.asarray(outputs, dtype=np.float64).reshape(len(outputs), -1)


def _layerwise(network: Network, threads: int | None) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        return _flat(decode(network, execute_network(network, encode(network, x), threads=threads).readout))

    return run


def _batch(artifact: Artifact) -> int:
    values = sum(size(layer.shape) for layer in artifact.graph.layers)
    return max(1, min(BATCH_MAX, VALUES_MAX // max(values, 1)))


def evaluate(
    artifact: Artifact,
    data: Data,
    *,
    stages: Sequence[str] = STAGES,
    threads: int | None = None,
    progress: Progress | None = None,
    device: Device | None = None,
) -> Evaluation:
    """Run all samples through the stages, batch by batch.

    Args:
        artifact: what to judge.
        data: preprocessed samples; labels if there are any.
        stages: of `STAGES`; ONNX Runtime runs in any case: the others are held against it.
        threads: at most this many; results do not depend on it.
        progress: called with what is being done and the fraction done.
        device: runs the samples too, as a last row under its name.

    Raises:
        NmcError: ``stage-unknown`` or ``data-labels`` (exit 2), or the device failed.
    """
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        raise NmcError.single(
            "stage-unknown", f"no stage is called '{unknown[0]}'", ExitCode.USAGE, help=f"stages: {', '.join(STAGES)}"
        )
    order, oracle, graph = [s for s in STAGES if s in stages], OnnxOracle(artifact.source_onnx), artifact.graph
    runners: dict[str, Callable[[Array], Array]] = {
        "simplified": lambda x: _flat(execute_graph(graph, x, [graph.output])[graph.output]),
        "spiking": _layerwise(artifact.spiking, threads),
        "quantized": _layerwise(artifact.network, threads),
    }
    if device is not None:
        order.append(device.name)
        runners[device.name] = lambda x: _flat(run(artifact, x, device).outputs)
    mapped = _Mapped(artifact, threads, data.y is not None) if "mapped" in order else None
    tallies = {name: _Tally() for name in order}
    begin, step, samples = time.perf_counter(), _batch(artifact), len(data.x)
    for first in range(0, samples, step):
        x = data.x[first : first + step]
        labels = None if data.y is None else data.y[first : first + step]
        wanted = _flat(oracle.run(x))
        if first == 0:
            _check_labels(data, classes(artifact.network))
        for number, name in enumerate(order):
            started = time.perf_counter()
            if name == "mapped" and mapped is not None:
                outputs = mapped.run(x, wanted, labels)
            else:
                outputs = wanted if name == "onnx" else runners[name](x)
            tallies[name].seconds += time.perf_counter() - started
            tallies[name].add(artifact.network, outputs, wanted, labels)
            if progress is not None:
                done = (first + len(x) * (number + 1) / len(order)) / samples
                progress("evaluate", min(done, 1.0))
    rows = tuple(tallies[name].result(name, samples, data.y is not None) for name in order)
    if mapped is None:
        return Evaluation(samples, rows, (), None, time.perf_counter() - begin)
    return Evaluation(samples, rows, mapped.curve(samples), mapped.counters, tallies["mapped"].seconds)


def _check_labels(data: Data, count: int) -> None:
    if data.y is None or (data.y.min() >= 0 and data.y.max() < count):
        return
    raise NmcError.single(
        "data-labels",
        f"labels reach from {data.y.min()} to {data.y.max()}, the network has the classes 0 to {count - 1}",
        ExitCode.USAGE,
        help="give class numbers that count from 0",
    )


def check_gate(evaluation: Evaluation, points: float) -> tuple[Diagnostic, ...]:
    """What ``--gate`` says: errors if ``mapped`` lost more than ``points`` percentage points.

    With labels the loss is of top-1 against ONNX Runtime; without, it is the share of
    samples on which the two disagree.

    Args:
        evaluation: with the stages ``onnx`` and ``mapped``.
        points: percentage points allowed.
    """
    onnx, mapped = evaluation.stage("onnx"), evaluation.stage("mapped")
    if onnx is None or mapped is None:
        return (Diagnostic("accuracy-gate", "the gate compares the stages onnx and mapped, which were not both run"),)
    if onnx.top1 is not None and mapped.top1 is not None:
        loss, what = 100 * (onnx.top1 - mapped.top1), f"top-1 fell from {onnx.top1:.2%} to {mapped.top1:.2%}"
    else:
        loss, what = 100 * (1 - mapped.agreement), f"{mapped.agreement:.2%} of the answers are ONNX Runtime's"
    # Fractions of whole samples are not exact in binary: 2 of 1000 must pass a gate of 0.2.
    if loss <= points + 1e-9:
        return ()
    message = f"{what} on {evaluation.samples} samples: {loss:.2f} points, the gate is {points:g}"
    help = "calibrate with data of the kind that is used (--calib), or raise the timesteps (-T)"
    return (Diagnostic("accuracy-gate", message, help=help),)
