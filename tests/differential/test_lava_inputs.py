"""Lava and the reference on networks with several inputs, spike by spike and potential by potential."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmc.backends.api import Options
from nmc.backends.loihi.emit import emit_program
from nmc.backends.loihi.lava_run import TRACES, Job, LavaDevice, run_programs
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir import reference
from nmc.testing.random_networks import KINDS, random_inputs, random_network
from tests.compiler.two_inputs import saved_two, two_arrays
from tests.differential.test_lava import differences

CASES = [(kind, 2000 + number, 2 + number % 2) for number, kind in enumerate(KINDS)]


@pytest.mark.lava
@pytest.mark.slow
def test_every_message_and_potential_of_random_networks() -> None:
    networks = [random_network(seed, kind=kind, inputs=inputs) for kind, seed, inputs in CASES]
    assert {spec.mode for network in networks for spec in network.inputs} == {"bias", "message"}
    samples = [random_inputs(network, 2, seed) for network, (_, seed, _) in zip(networks, CASES, strict=True)]
    jobs = [Job(emit_program(n), n, x, TRACES) for n, x in zip(networks, samples, strict=True)]
    wrong = {}
    for c, network, x, done in zip(CASES, networks, samples, run_programs(jobs), strict=True):
        found = differences(done, tuple(reference.run(network, sample) for sample in x))
        if found:
            wrong[c] = found
    assert wrong == {}


@pytest.mark.lava
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("loihi2", Options(timesteps=8)),
        pytest.param("loihi1", Options(timesteps=8), marks=pytest.mark.slow),
        pytest.param("loihi2", Options(coding="graded"), marks=pytest.mark.slow),
        pytest.param("loihi2", Options(coding="sigma-delta", timesteps=3), marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value.coding,
)
def test_a_compiled_network(tmp_path: Path, target: str, options: Options) -> None:
    artifact = compile_file(saved_two(tmp_path), CompileRequest(target, options, calib=two_arrays())).artifact
    assert artifact is not None
    verification = artifact.verify(two_arrays(3, seed=7), device=LavaDevice())
    exact = verification.bit_exact
    assert exact is not None and exact.spikes_equal and exact.potentials_equal, exact


def test_the_program_says_which_columns_are_whose() -> None:
    network = random_network(7, kind="rate", inputs=2)
    members = emit_program(network)
    program, about = (members[f"lava/{name}"].decode() for name in ("program.py", "README.md"))
    for place in network.input_places.values():
        assert f"inputs[:, {place.start}:{place.stop}]" in program
        assert f"in columns {place.start} to {place.stop - 1}" in about
    assert f"inputs.shape[1] != {network.input_shape[0]}:" in program
