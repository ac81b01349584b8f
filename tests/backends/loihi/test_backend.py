"""The backend's door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmc.backends.api import API_VERSION, Backend, Options
from nmc.backends.loihi import backend as backend_module
from nmc.backends.loihi.backend import LoihiBackend
from nmc.backends.loihi.emit import emit_program
from nmc.backends.loihi.interpreter import LavaInterpreter
from nmc.backends.loihi.lava_run import run_program
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import Routed
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Device
from nmc.testing.random_networks import random_inputs, random_network


def test_is_a_backend() -> None:
    backend: Backend = LoihiBackend()
    assert (backend.name, backend.api_version) == ("loihi", API_VERSION)


def test_targets() -> None:
    backend = LoihiBackend()
    targets = backend.targets()
    assert {"loihi1", "loihi2"} <= targets.keys()
    assert "loihi" not in targets
    assert backend.default_target in targets
    assert all(name == target.name and target.family == "loihi" for name, target in targets.items())


def test_emit_is_the_program_of_the_network() -> None:
    backend, network = LoihiBackend(), random_network(2)
    routed = Routed(network, ())
    target = backend.targets()["loihi2"]
    assert backend.emit(routed, target, Options()) == emit_program(network)


def test_missing_lava_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_LAVA_PYTHON", "/nowhere/python")
    device: Device = LoihiBackend().devices()["lava"]
    reason = device.missing()
    assert reason is not None and "/nowhere/python" in reason and "nmc doctor --install lava" in reason
    network = random_network(2)
    with pytest.raises(NmcError) as caught:
        run_program(emit_program(network), network, random_inputs(network, 1, 0))
    assert caught.value.exit_code is ExitCode.MISSING
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.slug == "lava-missing" and "nmc doctor --install lava" in diagnostic.help


def test_install_goes_to_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    made = LavaInterpreter(Path("/x/python"), (3, 10), "0.10.0")
    monkeypatch.setattr(backend_module, "install_lava", lambda log: made)
    assert LoihiBackend().install("lava", print) == "Lava 0.10.0 under Python 3.10: /x/python"
    with pytest.raises(ValueError, match="board"):
        LoihiBackend().install("board", print)


@pytest.mark.lava
def test_device_runs_an_artifact() -> None:
    network = random_network(4, kind="rate")
    artifact = Artifact({}, Routed(network, ()), None, network, b"", {}, emit_program(network))  # type: ignore[arg-type]
    inputs = random_inputs(network, 2, 0)
    device = LoihiBackend().devices()["lava"]
    assert device.missing() is None
    done = device.execute(artifact, inputs, trace=frozenset({"messages"}))
    assert done.counters is None
    assert done.trace.potentials == {}
    assert set(done.trace.messages) == set(network.by_name)
    assert np.array_equal(done.readout, device.execute(artifact, inputs).readout)
