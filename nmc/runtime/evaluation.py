"""Accuracy by stage: the same samples through ONNX Runtime and every program on the way to the chip."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network
from nmc.runtime.accuracy import CurvePoint, OutputResult, StageResult, StoppingResult
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Data
from nmc.runtime.device import Counters, Device
from nmc.runtime.labels import Judge, judges
from nmc.runtime.oracle_process import open_oracle
from nmc.runtime.session import add_counters, run
from nmc.runtime.stages import Batch, Outputs, flat, open_programs
from nmc.runtime.tables import Shown, TextTable
from nmc.runtime.tally import Tally

STAGES = ("onnx", "simplified", "spiking", "quantized", "mapped")
"""From the ONNX file to the chip; each is an executable program of the artifact."""

BATCH_MAX = 256
"""Samples in flight."""

VALUES_MAX = 1 << 25
"""Values of the analog network in flight (256 MiB of float64)."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Evaluation(Shown):
    """The result of `evaluate`.

    Attributes:
        samples: how many.
        outputs: in the order of the network, one at least.
        counters: of the mapped run over all steps of all samples; None unless it was asked for.
        stopping: of the mapped run if every sample stops as the artifact's rule says; None where it has none.
        seconds: wall time of the ``mapped`` stage, or of all stages if it was not asked for.
    """

    samples: int
    outputs: tuple[OutputResult, ...]
    counters: Counters | None
    seconds: float
    stopping: StoppingResult | None = None

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
        stopping = () if self.stopping is None else (self.stopping.table(),)
        return (*self.accuracy_tables(), *curves, *stopping)

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
            "stopping": self.stopping.to_dict() if self.stopping else None,
            "spikes_per_inference": self.spikes_per_inference,
            "synops_per_inference": self.synops_per_inference,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
        }


@dataclass
class _Mapped:
    """What the mapped stage gave so far: counts, and a judgement of every step."""

    network: Network
    judges: tuple[Judge, ...]
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        steps = range(self.network.timesteps)
        self._tallies = [[Tally(judge) for _ in steps] for judge in self.judges]
        self._stopped, self._kept = Tally(self.judges[0]), Tally(replace(self.judges[0], labels=None))
        self._steps = 0

    def add(self, batch: Batch, wanted: Outputs, first: int) -> None:
        """Count a batch that begins with sample number ``first``."""
        if batch.counters is not None:
            self.counters = add_counters(self.counters, batch.counters)
        for number, curve in enumerate(batch.curve):
            for tally, values in zip(self._tallies[number], curve, strict=True):
                tally.add(self.network, values, wanted[number], first)
        if batch.stopped is not None:
            values, steps = batch.stopped
            self._stopped.add(self.network, values, wanted[0], first)
            self._kept.add(self.network, values, batch.outputs["mapped"][0], first)
            self._steps += int(steps.sum())

    def stopping(self) -> StoppingResult | None:
        """What stopping early gives; None where no sample does."""
        done, kept = self._stopped, self._kept
        if not done.samples or kept.agreement is None:
            return None
        ahead = self.network.by_name[self.network.output.population].sends_from
        mean = self._steps / done.samples
        return StoppingResult(done.top1, done.agreement, 1 - kept.agreement, mean, self.network.timesteps, ahead)

    def curve(self, output: int) -> tuple[CurvePoint, ...]:
        """Accuracy of one output by input steps."""
        return tuple(
            CurvePoint(step + 1, t.top1, t.agreement, None if t.judge.by_class else t.nrmse)
            for step, t in enumerate(self._tallies[output])
        )


def _batch(artifact: Artifact, memory: int | None) -> int:
    """Samples in flight.

    Raises:
        NmcError: ``memory-budget`` (exit 3): not even one fits.
    """
    # float64 values of the analog network, and the read-out of every step.
    values = sum(size(layer.shape) for layer in artifact.graph.layers)
    network = artifact.network
    values += network.timesteps * sum(size(network.by_name[spec.population].shape) for spec in network.outputs)
    each = 8 * max(values, 1)
    if memory is not None and memory < each:
        raise NmcError.single(
            "memory-budget",
            f"one sample needs {each:,} bytes for its values, the budget is {memory:,}",
            ExitCode.MODEL,
            help="raise --memory",
        )
    return max(1, min(BATCH_MAX, (VALUES_MAX * 8 if memory is None else memory) // each))


def _batches(artifact: Artifact, x: Array, isolated: bool, step: int) -> Iterator[tuple[int, Array, Outputs]]:
    """The samples in batches: number of the first, samples, and what ONNX Runtime makes of them."""
    with open_oracle(artifact.source_onnx, isolated=isolated) as oracle:
        for first in range(0, len(x), step):
            part = x[first : first + step]
            yield first, part, [flat(values) for values in oracle.outputs(part)]


def evaluate(
    artifact: Artifact,
    data: Data,
    *,
    stages: Sequence[str] = STAGES,
    threads: int | None = None,
    progress: Progress | None = None,
    device: Device | None = None,
    isolated: bool = False,
    workers: int = 1,
    memory: int | None = None,
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
        workers: processes that share the samples; results do not depend on it.
        memory: bytes that the samples in flight may take in each process; results do not depend on it.

    Raises:
        NmcError: ``stage-unknown`` or ``data-labels`` (exit 2), ``memory-budget`` or ONNX Runtime failed (exit 3),
            ``worker-lost`` (exit 6), or the device failed.
    """
    _check_stages(stages)
    order = [name for name in STAGES if name in stages]
    network = artifact.network
    found = judges(network, data)
    if device is not None:
        order.append(device.name)
    mapped = _Mapped(network, found) if "mapped" in order else None
    tallies = {name: [Tally(judge) for judge in found] for name in order}
    seconds = dict.fromkeys(order, 0.0)
    begin, samples = time.perf_counter(), len(data.x)
    programs = (artifact, [name for name in order if name in STAGES[1:]], threads, workers)
    batches = _batches(artifact, data.x, isolated, _batch(artifact, memory))
    for first, x, wanted, batch in _through(programs, batches):
        outputs = {"onnx": wanted, **batch.outputs}
        if device is not None:
            outputs[device.name] = [flat(values) for values in run(artifact, x, device).values]
        for name in order:
            seconds[name] += batch.seconds.get(name, 0.0)
            for tally, values, onnx in zip(tallies[name], outputs[name], wanted, strict=True):
                tally.add(network, values, onnx, first)
        if mapped is not None:
            mapped.add(batch, wanted, first)
        if progress is not None:
            progress("evaluate", min((first + len(x)) / samples, 1.0))
    results = tuple(_result(judge, {name: tallies[name][judge.output] for name in order}, mapped) for judge in found)
    if mapped is None:
        return Evaluation(samples, results, None, time.perf_counter() - begin)
    return Evaluation(samples, results, mapped.counters, seconds["mapped"] / workers, mapped.stopping())


def _through(
    programs: tuple[Artifact, Sequence[str], int | None, int], batches: Iterator[tuple[int, Array, Outputs]]
) -> Iterator[tuple[int, Array, Outputs, Batch]]:
    """Each batch with what the programs make of it; ``programs``: arguments of `open_programs`."""
    given: deque[tuple[int, Array, Outputs]] = deque()

    def samples() -> Iterator[Array]:
        for batch in batches:
            given.append(batch)
            yield batch[1]

    with open_programs(*programs) as runner:
        for done in runner(samples()):
            yield (*given.popleft(), done)


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
