"""Floats in, floats out, on any device."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.reference import decode, encode
from nmc.ir.reference import run as reference_run
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Execution, Trace
from nmc.runtime.session import calibrated_ranges, run
from nmc.runtime.simulator import Simulator
from tests.runtime.artifacts import residual_artifact, samples


class Mute:
    """A device that cannot count, and at times is not there."""

    def __init__(self, reason: str | None = None) -> None:
        self.name = "mute"
        self._reason = reason

    def missing(self) -> str | None:
        return self._reason

    def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
        return Execution((np.zeros((len(inputs), 5), dtype=np.int64),), Trace())


def test_outputs_are_the_decoded_readouts() -> None:
    artifact, x = residual_artifact(), samples(4, seed=8)
    result = run(artifact, x, Simulator(), trace=frozenset({"messages"}))
    network = artifact.network
    want = np.stack([reference_run(network, s).readout for s in encode(network, x)])
    assert np.array_equal(result.outputs, decode(network, want)) and result.outputs.shape == (4, 5)
    assert "logits" in result.execution.trace.messages
    document = result.to_dict()
    assert list(document) == ["device", "samples", "outputs", "seconds", "counters", "mean_steps"]
    assert document["device"] == "sim" and document["samples"] == 4
    counters = document["counters"]
    assert isinstance(counters, dict)
    assert list(counters) == ["spikes", "synops", "neuron_updates", "packets", "hops", "cycles"]
    assert counters["cycles"] is None and counters["spikes"] > 0


def test_devices_that_cannot_count() -> None:
    counters = run(residual_artifact(), samples(2), Mute()).to_dict()["counters"]
    assert isinstance(counters, dict) and counters["spikes"] is None and counters["hops"] is None


def test_missing_devices_end_with_exit_6() -> None:
    with pytest.raises(NmcError, match="install it") as caught:
        run(residual_artifact(), samples(2), Mute("it is not installed: install it"))
    assert caught.value.exit_code is ExitCode.MISSING and caught.value.diagnostics[0].slug == "device-missing"


def test_calibrated_range_is_that_of_the_code() -> None:
    ((low, high),) = calibrated_ranges(residual_artifact().network)
    assert low == 0.0 and 0.99 < high <= 1.0
