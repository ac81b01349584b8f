"""The golden traces again, from the emitted program in Lava itself."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.backends.loihi.emit import emit_program
from nmc.backends.loihi.lava_run import TRACES, run_program
from tests.golden.cases import GOLDEN, Golden
from tests.golden.networks import network_of

pytestmark = pytest.mark.lava


def test_golden_traces() -> None:
    network, sample = network_of()
    done = run_program(emit_program(network), network, np.stack([sample, sample]), TRACES)
    for case in GOLDEN:
        steps = len(case.v)
        for run in range(2):
            assert tuple(done.trace.potentials[case.name][run, :steps, 0]) == case.v, case.name
            assert tuple(done.trace.messages[case.name][run, :steps, 0]) == case.s, case.name
    assert done.readout.tolist() == [[64 * (2 + 4 * 20)]] * 2


def test_every_window_starts_from_rest() -> None:
    """LIFReset with interval 4: the second sample sees nothing of the first."""
    cases = (
        Golden("no-memory", (64, 128, 192, 256), (0,) * 4, every=1),
        Golden("leaking", (64, 191, 381, 634), (0,) * 4, every=1, du=0),
    )
    network, sample = network_of(cases, timesteps=4)
    done = run_program(emit_program(network), network, np.stack([sample] * 3), TRACES)
    for case in cases:
        assert done.trace.potentials[case.name][:, :, 0].tolist() == [list(case.v)] * 3
