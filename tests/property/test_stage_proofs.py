"""Sound passes pass the proofs between stages, on random graphs and in every coding."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.backends.api import Options
from nmc.backends.loihi.backend import LoihiBackend
from nmc.backends.standard import standard_pipeline
from nmc.compiler.calibration import CalibrationOracle
from nmc.compiler.prove_network import StageProofs
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.network import Network
from nmc.ir.neurons import Reset
from nmc.ir.verify import verify_program
from nmc.passes.base import Context, Hooks
from tests.passes.simplify.test_simplify_stage import random_graph

CODINGS = {
    "rate": ("loihi2", Options(timesteps=8)),
    "zero": ("loihi1", Options(timesteps=16, reset=Reset.ZERO, effort="fast")),
    "signed": ("loihi2", Options(coding="signed", timesteps=8, wait="1", effort="fast")),
    "burst": ("loihi2", Options(coding="burst", timesteps=8, weight_bits=4, effort="fast")),
    "graded": ("loihi2", Options(coding="graded")),
    "sigma-delta": ("loihi2", Options(coding="sigma-delta", timesteps=4)),
}
SAMPLES = 16


def proved(seed: int, coding: str) -> None:
    """Every pass up to the quantized network, each proved; networks that no chip can hold are none."""
    graph = random_graph(seed)
    name, options = CODINGS[coding]
    target = LoihiBackend().targets()[name]
    inputs = np.random.default_rng(seed).normal(size=(SAMPLES, *graph.input.shape)).astype(np.float32)
    oracle = CalibrationOracle(graph, inputs, from_data=True)
    hooks = Hooks(
        verify_program,
        lambda step, program, seconds: None if isinstance(program, Network) else oracle.follow(program),
        "quantize",
        StageProofs.of(graph, inputs, target).after,
    )
    try:
        standard_pipeline(target, options).run(graph, Context(target, DiagnosticSink(), oracle), hooks)
    except NmcError as error:
        assert error.exit_code in (ExitCode.MODEL, ExitCode.DOES_NOT_FIT), error


@pytest.mark.parametrize("coding", CODINGS)
def test_sound_passes_are_proved(coding: str) -> None:
    for seed in range(3):
        proved(seed, coding)


def test_few_bits_where_rows_have_weights_of_their_own() -> None:
    """A dense layer whose output is a map: its weights are no matrix that all rows share."""
    proved(24, "burst")


@pytest.mark.slow
@pytest.mark.parametrize("coding", CODINGS)
def test_sound_passes_are_proved_on_many_graphs(coding: str) -> None:
    for seed in range(3, 25):
        proved(seed, coding)
