"""From an ONNX file to an artifact: the order of things, and the proof after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nmc.backends.api import Backend, Options
from nmc.compiler.calibration import CalibrationOracle, calibration_inputs
from nmc.compiler.estimate import compile_report, measure_events
from nmc.compiler.frontends.isolation import read_isolated
from nmc.compiler.frontends.onnx import SourceModel
from nmc.compiler.manifest import Calibration, make_manifest
from nmc.compiler.plugins import blaming, find_target, pipeline_of
from nmc.compiler.proof import (
    note_approximation,
    proof_inputs,
    prove_import,
    prove_mapping,
    prove_simplified,
)
from nmc.compiler.prove_network import StageProofs
from nmc.compiler.prove_result import prove_artifact, prove_read_outs
from nmc.compiler.stopping import emit_program, fit_stopping, refuse_stopping
from nmc.hardware.target import Target
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import Diagnostic, DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import Routed
from nmc.ir.network import Network
from nmc.ir.printer import format_program
from nmc.ir.verify import verify_program
from nmc.passes.base import Context, Hooks, Pass, Program
from nmc.passes.check.pins import pin_diagnostics
from nmc.passes.pins import Pins
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Data
from nmc.runtime.evaluation import Evaluation, evaluate
from nmc.runtime.labels import unused_labels
from nmc.runtime.report.svg import energy_text
from nmc.runtime.tables import Shown, TextTable
from nmc.runtime.verification import verify

Progress = Callable[[str, float], None]

ACCURACY_SAMPLES = 500
"""Labelled calibration samples on which the compile reports accuracy."""

REPORT_KEYS = (
    "layers",
    "cores_used",
    "neurons",
    "synapses",
    "traffic",
    "energy_nj_per_inference",
    "latency",
    "ann_baseline",
)
"""What ``compile --json`` takes from the report (docs/formats.md section 5)."""

VERIFY_SAMPLES = 16
"""Samples of ``--verify full``."""


@dataclass(frozen=True)
class CompileRequest:
    """What the user asked for.

    Attributes:
        target: name of a chip, or a target file.
        calib: a data spec or file, raw samples (N, *sample shape) or those by input, or None: seeded
            inputs, accuracy not assured.
        preprocess: applied to calibration data and stored in the artifact.
        verify: ``structure``, or ``full``: every layer against ONNX Runtime too.
        stop_after: a stage; nothing is emitted then.
        save_temps: folder for the text of the program after each pass.
        isolated: read the file in a child process with limits, as the command line and the API do.
        held_out: share of the calibration samples, the last ones, that nothing is calibrated on:
            `Compiled.held_out`.
    """

    target: str
    options: Options = field(default_factory=Options)
    calib: str | Path | Array | Mapping[str, Array] | None = None
    preprocess: str | None = None
    require_calib: bool = False
    seed: int = 0
    verify: str = "structure"
    stop_after: str | None = None
    save_temps: Path | None = None
    isolated: bool = False
    held_out: float = 0.0


@dataclass(frozen=True, eq=False)
class Compiled(Shown):
    """The result of a compile.

    Attributes:
        artifact: None if the compile was told to stop earlier.
        program: the last program, whatever its level.
        seconds: by stage, in order.
        accuracy: by stage, where the calibration data has labels.
        held_out: (N, *sample shape) the samples that the request held out, as the network takes them.
    """

    artifact: Artifact | None
    program: Program
    seconds: tuple[tuple[str, float], ...]
    diagnostics: tuple[Diagnostic, ...]
    accuracy: Evaluation | None = None
    held_out: Array = field(default_factory=lambda: np.zeros(0, dtype=np.float32))

    def to_dict(self) -> dict[str, object]:
        """The form of ``compile --json``; ``artifact`` is the path, which the caller knows."""
        stages = [{"name": name, "seconds": value} for name, value in self.seconds]
        if self.artifact is None:
            return {"artifact": None, "stages": stages}
        manifest, report = self.artifact.manifest, self.artifact.report
        document: dict[str, object] = {
            "artifact": None,
            "target": manifest["target"]["name"],
            "timesteps": manifest["timesteps"],
            "stages": stages,
            **{key: report[key] for key in REPORT_KEYS},
        }
        if self.accuracy is not None:
            document["accuracy"] = [stage.to_dict() for stage in self.accuracy.stages]
            document["accuracy_outputs"] = [output.to_dict() for output in self.accuracy.outputs]
        return document

    def tables(self) -> tuple[TextTable, ...]:
        """A row per layer, a row per source of energies, and the accuracy by stage where labels were given."""
        if self.artifact is None:
            times = tuple((name, f"{1000 * value:,.0f} ms") for name, value in self.seconds)
            return (TextTable("stopped early", ("stage", "#time"), times),)
        report, manifest = self.artifact.report, self.artifact.manifest
        rows = tuple(
            (str(layer["name"]), f"{layer['neurons']:,}", f"{layer['synapses']:,}", str(layer["cores"]))
            for layer in report["layers"]
        )
        assured = "" if manifest["calibration"]["assured"] else "; no calibration data: accuracy is not assured"
        title = f"{manifest['source']['name']} on {manifest['target']['name']}, {report['cores_used']} cores{assured}"
        layers = TextTable(title, ("layer", "#neurons", "#synapses", "#cores"), rows)
        accuracy = self.accuracy.tables() if self.accuracy is not None else ()
        return (layers, _energy_table(report["energy_nj_per_inference"]), *accuracy)


def _energy_table(energy: Mapping[str, Any]) -> TextTable:
    parts = ("total", "synapse", "neuron", "noc", "host", "static")
    profiles = {name: split for name, split in energy.items() if isinstance(split, Mapping)}
    rows = tuple((name, *(energy_text(split[part]) for part in parts)) for name, split in profiles.items())
    columns = ("source of costs", "#dynamic", *(f"#{part}" for part in parts[1:-1]), "#static, apart")
    return TextTable("energy per inference (estimate)", columns, rows)


class _Clock:
    """Seconds by stage, in order of first use; they never enter the artifact."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._begin = time.perf_counter()

    def stage(self, name: str) -> None:
        """The time since the last call was spent in this stage."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._begin
        self._begin = now
        self._progress(name, 1.0)


@dataclass
class _Levels:
    """The programs that the artifact keeps, caught while the pipeline runs."""

    graph: LayerGraph | None = None
    exact: LayerGraph | None = None
    spiking: Network | None = None
    calibrated: bool = False

    def catch(self, step: Pass, program: Program) -> None:
        """Keep the last program of each level, and the graph that later passes must not change."""
        self.calibrated = self.calibrated or getattr(step, "matches_means", False)
        if isinstance(program, LayerGraph):
            if getattr(step, "approximates", False) and program is not self.graph:
                self.exact = program
            self.graph = program
        elif isinstance(program, Network) and not program.is_integer:
            self.spiking = program


def _hooks(
    request: CompileRequest, levels: _Levels, clock: _Clock, oracle: CalibrationOracle, proofs: StageProofs
) -> Hooks:
    numbers = iter(range(1000))

    def after(step: Pass, program: Program, seconds: float) -> None:
        levels.catch(step, program)
        if isinstance(program, LayerGraph):
            oracle.follow(program)
        refuse_stopping(request.options, program)
        clock.stage(step.stage)
        if request.save_temps is not None:
            path = request.save_temps / f"{next(numbers):02d}-{step.name}.txt"
            path.write_text(format_program(program), encoding="utf-8")

    return Hooks(verify_program, after, request.stop_after, proofs.after)


def _run_pipeline(
    model: SourceModel,
    backend: Backend,
    target: Target,
    oracle: CalibrationOracle,
    request: CompileRequest,
    clock: _Clock,
    sink: DiagnosticSink,
    progress: Progress,
) -> tuple[Program, _Levels, str]:
    """All passes; the program, the levels on the way, and the pipeline's text."""
    context = Context(target, sink, oracle, request.seed, progress)
    pipeline = pipeline_of(backend, target, request.options)
    levels = _Levels(graph=model.graph)
    proofs = StageProofs.of(model.graph, oracle.inputs, target)
    program = pipeline.run(model.graph, context, _hooks(request, levels, clock, oracle, proofs))
    return program, levels, pipeline.text


def _accuracy(artifact: Artifact, data: Data | None, request: CompileRequest, progress: Progress) -> Evaluation | None:
    """Accuracy by stage on labelled calibration data; labels are used here and nowhere else."""
    if data is None or not data.labelled:
        return None
    return evaluate(artifact, data.head(ACCURACY_SAMPLES), progress=progress, isolated=request.isolated)


def _verify_fully(artifact: Artifact, inputs: Array, sink: DiagnosticSink, isolated: bool) -> None:
    """Every layer against ONNX Runtime.

    Raises:
        NmcError: a layer is outside its bound (exit 5).
    """
    result = verify(artifact, inputs[:VERIFY_SAMPLES], device=None, isolated=isolated)
    bad = result.first_bad_layer
    if bad is not None:
        layer = next(entry for entry in result.layers if entry.name == bad)
        raise NmcError.single(
            "layer-out-of-bound",
            f"{bad}: rms error {layer.rmse:.4g} against ONNX Runtime, bound {layer.bound:.4g}",
            ExitCode.GATE,
            origin=artifact.network.by_name[bad].origin if bad in artifact.network.by_name else None,
            help="calibrate with data in the range of use (--calib), or raise -T",
        )
    sink.note("layers-verified", f"all {len(result.layers)} layers are within their bounds of ONNX Runtime")


def _prove(source: SourceModel, levels: _Levels, routed: Routed, inputs: Array, sink: DiagnosticSink) -> None:
    """What all passes together made of the network, against the stages before.

    Raises:
        NmcError: something was changed that should not have been.
    """
    simplified = levels.graph or source.graph
    if levels.exact is not None:
        note_approximation(source.graph, levels.exact, inputs, sink)
    prove_simplified(levels.exact or source.graph, simplified, proof_inputs(source, inputs))
    prove_mapping(routed, inputs)
    if levels.calibrated:
        prove_read_outs(simplified, routed, inputs)


def _read(model: Path, isolated: bool) -> SourceModel:
    """The file, read in a child process or in this one."""
    if isolated:
        return read_isolated(model)
    # Imported here: it loads the ONNX libraries, which a process that leaves the file to others does without.
    from nmc.compiler.frontends.onnx import read_model

    return read_model(model)


def compile_file(model: Path, request: CompileRequest, progress: Progress = lambda text, fraction: None) -> Compiled:
    """Compile an ONNX file.

    Args:
        model: path of the file.
        request: what to make of it.
        progress: called with (what is being done, fraction done).

    Raises:
        NmcError: bad input, a network or option that the target does not have (2, 3), a network
            that does not fit (4), or a failed proof (5, 70).
    """
    clock, sink = _Clock(progress), DiagnosticSink()
    pins = Pins.of(request.options.pins)
    refuse_stopping(request.options)
    backend, target = find_target(request.target)
    source = _read(model, request.isolated)
    sink.items.extend(source.warnings)
    data, inputs = calibration_inputs(source, request, sink)
    # At least one sample is left on either side.
    kept = len(inputs) - max(min(round(request.held_out * len(inputs)), len(inputs) - 1), int(request.held_out > 0))
    inputs, held_out = inputs[: max(kept, 1)], inputs[max(kept, 1) :]
    prove_import(source, inputs, isolated=request.isolated)
    clock.stage("import")
    if request.save_temps is not None:
        request.save_temps.mkdir(parents=True, exist_ok=True)
    oracle = CalibrationOracle(source.graph, inputs, from_data=request.calib is not None)
    program, levels, text = _run_pipeline(source, backend, target, oracle, request, clock, sink, progress)
    if not isinstance(program, Routed) or levels.graph is None or levels.spiking is None:
        return Compiled(None, program, tuple(clock.seconds.items()), tuple(sink.items))
    broken = pin_diagnostics(program, pins, target.grid)
    if broken:  # A backend's own pipeline may not know pins: they are never ignored.
        raise NmcError(broken, ExitCode.GATE)
    _prove(source, levels, program, oracle.inputs, sink)
    if data is not None:
        sink.items.extend(unused_labels(program.network, data))
    clock.stage("prove")
    rule = fit_stopping(program, oracle.inputs, request.options, sink)
    if rule is not None:
        clock.stage("stop")
    events = measure_events(program, inputs, rule)
    clock.stage("estimate")
    with blaming(backend.name, f"emit a program for '{target.name}'"):
        payload = emit_program(backend, program, target, request.options, rule, sink)
    clock.stage("emit")
    manifest = make_manifest(
        source, target, program, Calibration.of(data, len(oracle.inputs)), request.options,
        preprocess=request.preprocess, seed=request.seed, pipeline=text, stop=rule,
    )  # fmt: skip
    report = compile_report(source.graph, program, target, events, tuple(sink.items))
    grid = replace(target.grid, chips=request.options.chips or target.grid.chips)
    artifact = Artifact(manifest, program, levels.graph, levels.spiking, source.onnx, report, payload, grid)
    prove_artifact(artifact)
    if request.verify == "full":
        _verify_fully(artifact, inputs, sink, request.isolated)
        clock.stage("verify")
    accuracy = _accuracy(artifact, data, request, progress) if not request.held_out else None
    if accuracy is not None:
        clock.stage("evaluate")
    return Compiled(artifact, program, tuple(clock.seconds.items()), tuple(sink.items), accuracy, held_out)
