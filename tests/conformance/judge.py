"""What becomes of a case: it matches, it is refused by name, or it has failed."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nmc.backends.api import Options
from nmc.compiler.calibration import CalibrationOracle
from nmc.compiler.frontends.onnx import SourceModel, read_model
from nmc.compiler.plugins import find_target
from nmc.compiler.proof import prove_import, prove_mapping, prove_simplified
from nmc.hardware.target import WeightLimits
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import Routed
from nmc.ir.network import Network
from nmc.ir.verify import verify_program
from nmc.kernels.graph import execute_graph
from nmc.passes.base import Context, Hooks, Pass, Program
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Preprocessing, from_arrays
from nmc.runtime.session import run
from nmc.runtime.simulator import Simulator
from nmc.runtime.verification import verify
from tests.conformance.corpora import Case
from tests.conformance.prepare import Prepared, prepare

WIDE = WeightLimits(16, 1, -(2**15), 2**15 - 1)
"""Weights of the chip that cases are compiled for: a Loihi 2 on which only mistakes are seen, not rounding."""

OPTIONS = Options(
    coding="graded",
    chips=4,
    partitioner="tiles",
    placer="row-major",
    settings={"approximate-activation.error": "0.002", "approximate-activation.most": "64"},
)

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""How far an output of a shorter float is rounded."""

SAMPLES, VALUES = 32, 2**17
"""Calibration inputs: the case's own, and others of its values; fewer of large ones."""

INTEGERS = 1e-2
"""Relative to the largest value of an output: what its integers may be away, besides their bound."""

HEADS = 5e-2
"""The same for a probability: an exponential makes more of a small error."""

REFUSALS = (ExitCode.MODEL, ExitCode.DOES_NOT_FIT)
"""Exit codes of a refusal; data that cannot be compiled with is the user's (2)."""


@dataclass(frozen=True)
class Outcome:
    """Of one case.

    Attributes:
        kind: ``matched``, ``refused``, ``disputed`` (ONNX Runtime does not give the stored output
            either, and the compiler agrees with it), ``failed`` or ``crashed``.
        slug: of the first problem.
        operator: that it names; empty where it is about the whole model.
        message: its words, or what has failed.
    """

    kind: str
    slug: str = ""
    operator: str = ""
    message: str = ""


def judge(case: Case, folder: Path) -> Outcome:
    """Compile a case and compare.

    A case matches if the layers as read give what ONNX Runtime gives, to the 1e-5 of the compiler's
    own proof, and the stored outputs to the tolerance that the case states; and if the program
    that is compiled for the wide chip, mapping included, gives integers within the bound that the
    error model computes for each layer and within `INTEGERS` of the stored outputs.

    Anything that is raised but an `NmcError` is a crash.
    """
    path = folder / "case.onnx"
    try:
        prepared = prepare(case)
        path.write_bytes(prepared.model.SerializeToString())
        return _compared(prepared, path)
    except NmcError as error:
        first = error.diagnostics[0]
        refused = error.exit_code in REFUSALS or first.slug.startswith("data-")
        kind = "refused" if refused else "failed"
        return Outcome(kind, first.slug, first.origin.op if first.origin else "", first.message)
    except Exception as error:  # the one thing that must never happen; every such case is to be told
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome("crashed", type(error).__name__, "", f"{error} ({Path(place.filename).name}:{place.lineno})")


def _compared(prepared: Prepared, path: Path) -> Outcome:
    """The outcome of a case that compiles."""
    source = read_model(path)
    with np.errstate(over="ignore"):  # numbers beyond float32 are refused, or fail
        x = np.asarray(prepared.x).astype(np.float32)
    found = execute_graph(source.graph, x, source.graph.outputs)
    wanted = [np.asarray(y).astype(np.float64) for y in prepared.outputs]
    samples = _samples(x)
    if len(source.graph.inputs) == 1:  # what users give is checked so
        from_arrays(samples, None, source.graph.input.shape, Preprocessing.parse(""))
    prove_import(source, samples)
    for name, y, stored in zip(source.graph.outputs, wanted, prepared.outputs, strict=True):
        limit = max(prepared.case.rtol, EPSILON.get(np.asarray(stored).dtype.name, 0.0))
        if problem := _apart(found[name], y, limit):
            return Outcome("disputed", message=f"ONNX Runtime agrees with the compiler, the stored output is {problem}")
    artifact = _compiled(source, samples)
    prove_mapping(artifact.routed, samples)
    checked = verify(artifact, samples)
    if not checked.ok:
        return Outcome("failed", message=f"as compiled: {checked.diagnostics[0].message}")
    made = run(artifact, x, Simulator()).values
    for values, y, spec in zip(made, wanted, artifact.network.outputs, strict=True):
        if problem := _apart(values, y, HEADS if spec.head else INTEGERS):
            return Outcome("failed", message=f"as compiled: {problem}")
    return Outcome("matched")


def _compiled(source: SourceModel, samples: Array) -> Artifact:
    """The program on the wide chip; nothing is emitted for it, since no device stores such weights."""
    backend, base = find_target("loihi2")
    target = replace(base, name="wide", weights=WIDE)
    kept: list[Program] = [source.graph]
    exact = [source.graph]
    oracle = CalibrationOracle(source.graph, samples, from_data=True)

    def after(step: Pass, program: Program, seconds: float) -> None:
        kept.append(program)
        if isinstance(program, LayerGraph):
            oracle.follow(program)
            if getattr(step, "approximates", False):
                exact.append(program)

    context = Context(target, DiagnosticSink(), oracle)
    pipeline = backend.pipeline(target, OPTIONS)
    routed = pipeline.run(source.graph, context, Hooks(verify_program, after))
    graph = [program for program in kept if isinstance(program, LayerGraph)][-1]
    spiking = [program for program in kept if isinstance(program, Network) and not program.is_integer][-1]
    prove_simplified(exact[-1], graph, samples)
    if not isinstance(routed, Routed):
        raise TypeError("the pipeline ends with a Routed")
    return Artifact({}, routed, graph, spiking, source.onnx, {}, {}, target.grid)


def _samples(x: Array) -> Array:
    """The case's input, and others of the same values in another order."""
    generator = np.random.default_rng(0)
    wanted = min(SAMPLES, max(2, VALUES // x[0].size))
    mixed = [generator.permuted(x.reshape(-1)).reshape(x.shape) for _ in range(-(-wanted // len(x)))]
    return np.concatenate([x, *mixed])[: max(wanted, len(x))]


def _apart(found: Array, wanted: Array, limit: float) -> str:
    """How two outputs differ; empty if they do by ``limit`` of the largest value at the most."""
    if found.size != wanted.size:
        return f"{list(found.shape)} instead of {list(wanted.shape)}"
    error = np.abs(found - wanted.reshape(found.shape)).max(initial=0.0)
    largest = np.abs(wanted).max(initial=0.0)
    return "" if error <= limit * max(largest, 1e-6) else f"{error:.3g} away, the largest value is {largest:.3g}"
