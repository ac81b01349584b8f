"""One choice of options, compiled and measured on samples that its calibration never saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.explore.space import Choice
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import NmcError
from nmc.ir.network import Network
from nmc.ir.reference import answers, decode, encode
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime.artifact import Artifact
from nmc.runtime.labels import judges
from nmc.runtime.oracle_process import open_oracle
from nmc.runtime.simulator import simulate, stopped
from nmc.runtime.stopping import rule_of, stopped_values

BATCH = 64
"""Samples in flight."""


@dataclass(frozen=True, eq=False)
class Task:
    """What all trials of a search share.

    Attributes:
        model: ONNX file.
        request: of the compile: choices are made on its options, and it holds samples out.
    """

    model: Path
    request: CompileRequest


@dataclass(frozen=True)
class Measure:
    """What a choice costs.

    Attributes:
        loss: points of top-1 (estimated without labels: `expected_loss`), or the error of the values
            in per cent where the network gives no classes.
        agreement: share of ONNX Runtime's answers, or None.
        energy_nj: dynamic energy per inference, the middle of the target's cost profiles; synaptic
            operations where it has none.
        latency_us: of an inference, or None where the target has no times.
        steps: of an inference.
        cores: used.
    """

    loss: float
    agreement: float | None
    energy_nj: float
    latency_us: float | None
    steps: int
    cores: int

    @property
    def latency(self) -> float:
        """Microseconds, or steps where the target has no times."""
        return float(self.steps) if self.latency_us is None else self.latency_us


@dataclass(frozen=True)
class Trial:
    """A choice and what came of it.

    Attributes:
        measure: None if it could not be compiled.
        reason: why, in one line.
    """

    choice: Choice
    measure: Measure | None
    reason: str = ""


def run_trial(task: Task, choice: Choice) -> Trial:
    """Compile a choice and measure it; what the target cannot do is a result, not an error."""
    target = choice.target or task.request.target
    request = replace(task.request, target=target, options=choice.options(task.request.options))
    try:
        compiled = compile_file(task.model, request)
    except NmcError as error:
        first = error.diagnostics[0]
        return Trial(choice, None, f"{first.slug}: {first.message}")
    if compiled.artifact is None:
        raise ValueError("a search needs whole compiles")
    return Trial(choice, measure(compiled.artifact, compiled.held_out))


def measure(artifact: Artifact, x: Array) -> Measure:
    """Accuracy on samples as the network takes them, and the estimated costs of the artifact's report."""
    network, report = artifact.network, artifact.report
    with open_oracle(artifact.source_onnx, isolated=True) as oracle:
        wanted = np.concatenate([_flat(oracle.outputs(x[i : i + BATCH])[0]) for i in range(0, len(x), BATCH)])
    got = np.concatenate([_outputs(artifact, x[i : i + BATCH]) for i in range(0, len(x), BATCH)])
    by_class = judges(network)[0].by_class
    agreement = float((answers(network, got, 0) == answers(network, wanted, 0)).mean()) if by_class else None
    loss = expected_loss(network, got, wanted) if by_class else _relative_error(got, wanted)
    energies, latency = report["energy_nj_per_inference"], report["latency"]
    known = energies["low"] is not None
    energy = (energies["low"] + energies["high"]) / 2 if known else report["events"]["synops"]
    return Measure(
        100 * loss, agreement, float(energy), latency["us"], latency["timesteps_total"], report["cores_used"]
    )


def _flat(values: Array) -> Array:
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def _outputs(artifact: Artifact, x: Array) -> Array:
    network, inputs = artifact.network, encode(artifact.network, x)
    rule = rule_of(artifact.manifest, network)
    if rule is None:
        return _flat(decode(network, simulate(artifact.routed, inputs).readout))
    steps, readouts = stopped(build_tables(artifact.routed), inputs, rule)
    return _flat(stopped_values(network, readouts, steps))


def _relative_error(got: Array, wanted: Array) -> float:
    power = float(np.square(wanted).sum())
    return float(np.sqrt(np.square(got - wanted).sum() / (power or 1.0)))


def expected_loss(network: Network, got: Array, wanted: Array) -> float:
    """The share of right answers that is lost, as far as the float network's own probabilities tell.

    Without labels nobody knows which of two answers is right. An answer that differs costs the
    probability that the float network gives to its own answer less the one it gives to the other.
    A network that is too sure of itself makes the estimate too high, never by more than the share
    of answers that differ.

    Args:
        network: whose first output is classes.
        got: (N, outputs) of the converted network.
        wanted: (N, outputs) of ONNX Runtime.
    """
    ours, theirs = answers(network, got, 0), answers(network, wanted, 0)
    different = ours != theirs
    head, columns = network.outputs[0].head, wanted.shape[1]
    if columns < 2 or head == "argmax":
        return float(different.mean())
    chances = wanted
    if head not in ("softmax", "sigmoid"):
        shifted = np.exp(wanted - wanted.max(axis=1, keepdims=True))
        chances = shifted / shifted.sum(axis=1, keepdims=True)
    rows = np.arange(len(wanted))
    return float(np.where(different, chances[rows, theirs] - chances[rows, ours], 0.0).mean())
