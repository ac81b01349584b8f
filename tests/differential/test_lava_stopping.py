"""Emitted programs that stop early: Lava against the simulator, step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.backends.api import Options
from nmc.backends.loihi.backend import LoihiBackend
from nmc.backends.loihi.emit import ARRAYS, PROGRAM, emit_program
from nmc.backends.loihi.lava_run import TRACES, Job, LavaDevice, run_programs
from nmc.backends.loihi.prove_program import prove_program
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.demo import MODEL, calibration
from nmc.ir.diagnostic import NmcError
from nmc.runtime.artifact import Artifact
from nmc.runtime.session import run
from nmc.runtime.simulator import Simulator, simulate_stopping
from nmc.runtime.stopping import MarginRule
from tests.property.random_mapping import random_mapping
from tests.runtime.test_stopping import random_case

CASES = [("rate", 0), ("rate", 1), ("burst", 1), ("reset-zero", 2), ("recurrent", 3), ("lif-leak", 4)]
SAMPLES = 6


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """The demo, compiled to stop early."""
    options = Options(timesteps=8, stop="margin", max_changed=2.0)
    compiled = compile_file(MODEL, CompileRequest("loihi2", options, calib=calibration()[:64]))
    assert compiled.artifact is not None
    return compiled.artifact


@pytest.mark.lava
@pytest.mark.slow
def test_lava_stops_where_the_simulator_stops() -> None:
    made = {case: random_case(*case) for case in CASES}
    jobs = [Job(emit_program(n, rule), n, x[:SAMPLES], stops=True) for n, x, rule in made.values()]
    early = 0
    for (case, (network, inputs, rule)), done in zip(made.items(), run_programs(jobs), strict=True):
        wanted = simulate_stopping(random_mapping(network, 1), inputs[:SAMPLES], rule)
        assert done.steps is not None and wanted.steps is not None
        assert done.steps.tolist() == wanted.steps.tolist(), case
        assert np.array_equal(done.readout, wanted.readout), case
        early += int((done.steps < network.timesteps).sum())
    assert early > SAMPLES


@pytest.mark.lava
def test_the_demo_stops_on_lava_as_on_the_simulator(artifact: Artifact) -> None:
    x = calibration()[64:67]
    ours, theirs = run(artifact, x, Simulator()), run(artifact, x, LavaDevice())
    assert ours.execution.steps is not None and theirs.execution.steps is not None
    assert ours.execution.steps.tolist() == theirs.execution.steps.tolist() and ours.execution.steps.min() < 8
    assert np.array_equal(ours.outputs, theirs.outputs)
    traced = run(artifact, x, LavaDevice(), trace=TRACES)
    assert traced.execution.steps is None


def test_a_program_with_other_thresholds_is_not_proved(artifact: Artifact) -> None:
    network, rule = artifact.network, MarginRule((1.5,) * 7, 1.0, 0, 1, (0,) * 7 + (1,))
    payload = emit_program(network, rule)
    prove_program(payload, network, PROGRAM, ARRAYS, rule)
    assert b"STOP = (1.5, 1.5" in payload[PROGRAM] and b"stop early" in payload["lava/README.md"]
    for other in (None, replace(rule, thresholds=(*rule.thresholds[1:], 1.25))):
        with pytest.raises(NmcError, match="STOP is not what"):
            prove_program(payload, network, PROGRAM, ARRAYS, other)
    plain = emit_program(network)
    assert b"STOP" not in plain[PROGRAM] and b"run_until_clear" not in plain[PROGRAM]
    with pytest.raises(NmcError, match="SCALES is not what"):
        prove_program(plain, network, PROGRAM, ARRAYS, rule)


def test_the_backend_writes_the_rule_of_the_manifest(artifact: Artifact) -> None:
    thresholds = artifact.manifest["stop"]["thresholds"]
    assert repr(tuple(thresholds)).encode() in artifact.payload[PROGRAM]
    assert hasattr(LoihiBackend(), "emit_stopping")
