"""Programs that fail end with a clean error, in time, and leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nmc.backends.loihi import lava_run, process_tree
from nmc.backends.loihi.emit import PROGRAM, emit_program
from nmc.backends.loihi.lava_run import Job, run_program, run_programs, seconds_limit
from nmc.backends.loihi.process_tree import Ended, session_members
from nmc.ir import reference
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.testing.random_networks import random_inputs, random_network
from tests.golden.cases import GOLDEN
from tests.golden.networks import network_of

MODELS = "lava/nmc_neurons/models.py"
UPDATE = b"self.subthr_dynamics(activation_in=activation)"

SUBTRACTIVE = tuple(case for case in GOLDEN if case.name == "subtractive")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sessions that were started; none may live afterwards, nor any of their shared memory."""
    started: list[int] = []
    segments: set[Path] = set()
    limited, shared = process_tree.run_limited, process_tree._shared_segments

    def run(*args: object) -> Ended:
        ended = limited(*args)  # type: ignore[arg-type]
        started.append(ended.session)
        return ended

    def recorded(session: int) -> set[Path]:
        found = shared(session)
        segments.update(found)
        return found

    monkeypatch.setattr(lava_run, "run_limited", run)
    monkeypatch.setattr(process_tree, "_shared_segments", recorded)
    yield started
    assert started
    assert [session_members(session) for session in started] == [[]] * len(started)
    assert not any(segment.exists() for segment in segments)


def failure(planted: dict[str, bytes], timeout: float | None = None) -> tuple[NmcError, float]:
    """The error of a program with a planted fault, and the seconds that it took."""
    network, sample = network_of(SUBTRACTIVE)
    payload = dict(emit_program(network)) | planted
    begin = time.monotonic()
    with pytest.raises(NmcError) as caught:
        run_program(payload, network, sample[None], timeout=timeout)
    return caught.value, time.monotonic() - begin


def broken_models(code: bytes) -> dict[str, bytes]:
    """The neuron package with code planted into the update of the neurons."""
    network, _ = network_of(SUBTRACTIVE)
    models = emit_program(network)[MODELS]
    assert models.count(UPDATE) == 1
    return {MODELS: models.replace(UPDATE, code)}


@pytest.mark.lava
def test_worker_exception(sessions: list[int]) -> None:
    error, seconds = failure(broken_models(b"raise ValueError('planted here')"))
    (diagnostic,) = error.diagnostics
    assert diagnostic.slug == "lava-failed"
    assert "ValueError: planted here" in diagnostic.message
    assert "run_spk" in diagnostic.message
    assert seconds < 60


@pytest.mark.lava
def test_exception_while_a_worker_is_built(sessions: list[int]) -> None:
    network, _ = network_of(SUBTRACTIVE)
    models = emit_program(network)[MODELS]
    built = models.replace(b'self.interval = proc_params["reset_interval"]\n', b"raise KeyError('planted in init')\n")
    assert built != models
    error, _ = failure({MODELS: built})
    assert "planted in init" in error.diagnostics[0].message


@pytest.mark.lava
@pytest.mark.parametrize("code", [b"import os; os._exit(3)", b"import os; os.kill(os.getpid(), 9)"])
def test_worker_that_dies(code: bytes, sessions: list[int]) -> None:
    error, seconds = failure(broken_models(code))
    assert error.diagnostics[0].slug == "lava-failed"
    assert "worker died" in error.diagnostics[0].message
    assert seconds < 60


@pytest.mark.lava
def test_endless_loop_ends_at_the_limit(sessions: list[int]) -> None:
    error, seconds = failure(broken_models(b"while True: pass"), timeout=4.0)
    (diagnostic,) = error.diagnostics
    assert diagnostic.slug == "lava-timeout"
    assert "within 4 s" in diagnostic.message
    assert seconds < 4 + 2 * process_tree.GRACE_SECONDS + 10


@pytest.mark.lava
@pytest.mark.parametrize(
    ("program", "says"),
    [
        (b"raise RuntimeError('not a network')", "RuntimeError: not a network"),
        (b"def f(:\n", "SyntaxError"),
        (b"", "without complete results"),
        (b"import sys; open(sys.argv[4], 'wb').write(b'PK')", "without complete results"),
        (b"import sys, numpy; numpy.savez(sys.argv[4], readout=numpy.zeros((2, 9)))", "readout_2 is not"),
        (b"import sys, numpy; numpy.savez(sys.argv[4], readout=numpy.array([None]))", "without complete results"),
    ],
    ids=["raises", "syntax", "silent", "torn", "shape", "pickle"],
)
def test_program_without_results(program: bytes, says: str, sessions: list[int]) -> None:
    error, _ = failure({PROGRAM: program})
    assert error.exit_code is ExitCode.INTERNAL
    assert error.diagnostics[0].slug == "lava-failed"
    assert says in error.diagnostics[0].message


@pytest.mark.lava
def test_success_leaves_nothing(sessions: list[int]) -> None:
    network, sample = network_of(SUBTRACTIVE)
    done = run_program(emit_program(network), network, sample[None])
    assert np.array_equal(done.readout[0], reference.run(network, sample).readout)
    assert dict(done.trace.messages) == {}


@pytest.mark.lava
def test_samples_in_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(1, kind="graded")
    inputs = random_inputs(network, 5, 3)
    payload, trace = emit_program(network), frozenset({"messages"})
    whole = run_program(payload, network, inputs, trace)
    most = 2 * (2 * sum(p.neurons for p in network.populations) + inputs[0].size) * (network.timesteps + 1)
    monkeypatch.setattr(lava_run, "SAMPLES_MAX_ELEMENTS", most)
    assert [len(part) for part in lava_run._parts(network, inputs, trace)] == [2, 2, 1]
    parts = run_program(payload, network, inputs, trace)
    assert np.array_equal(whole.readout, parts.readout)
    assert all(np.array_equal(whole.trace.messages[n], parts.trace.messages[n]) for n in network.by_name)


def _usable_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lava_run, "find_lava", lambda: lava_run.LavaInterpreter(Path("/none"), (3, 10), "0.10.0"))


def test_payload_of_another_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    _usable_interpreter(monkeypatch)
    network, sample = network_of(())
    with pytest.raises(NmcError) as caught:
        run_program({"other/file": b""}, network, sample[None])
    assert caught.value.diagnostics[0].slug == "lava-no-program"


@pytest.mark.parametrize("member", ["../../escaped.py", "/tmp/escaped.py", "lava/../../escaped.py"])
def test_payload_stays_in_its_folder(member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _usable_interpreter(monkeypatch)
    network, sample = network_of(())
    with pytest.raises(NmcError) as caught:
        run_program(dict(emit_program(network)) | {member: b""}, network, sample[None])
    assert caught.value.diagnostics[0].slug == "lava-payload-path"


def test_interpreter_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    _usable_interpreter(monkeypatch)
    network, sample = network_of(())
    with pytest.raises(NmcError) as caught:
        run_program(emit_program(network), network, sample[None])
    assert caught.value.exit_code is ExitCode.MISSING


def test_wrong_inputs_are_a_mistake_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    _usable_interpreter(monkeypatch)
    network, sample = network_of(())
    payload = emit_program(network)
    with pytest.raises(ValueError, match="inputs of shape"):
        run_programs([Job(payload, network, sample)])
    with pytest.raises(ValueError, match="unknown trace"):
        run_programs([Job(payload, network, sample[None], frozenset({"spikes"}))])


def test_limit_grows_with_the_work() -> None:
    network = random_network(0)
    payload = emit_program(network)
    few, many = (seconds_limit(Job(payload, network, random_inputs(network, n, 0))) for n in (1, 1000))
    assert 60 < few < many
