"""The reference interpreter against traces that were recorded from Lava."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.network import Population
from nmc.ir.neurons import LIF, Reset
from tests.golden.cases import GOLDEN, Golden
from tests.golden.networks import ORIGIN, network_of, neuron_of, number


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: c.name)
def test_neuron_alone(case: Golden) -> None:
    state = reference._State(Population("n", (1,), neuron_of(case), ORIGIN))
    seen: list[tuple[int, int, int]] = []
    for step in range(len(case.v)):
        spike = state.step(np.array([case.every + (case.first if step == 0 else 0)]), None)
        seen.append((int(state.u[0]), int(state.v[0]), int(spike[0])))
    u, v, s = zip(*seen, strict=True)
    assert v == case.v
    assert s == case.s
    assert u == (case.u or u)


def test_in_a_network() -> None:
    network, sample = network_of()
    trace = reference.run(network, sample)
    for case in GOLDEN:
        steps = len(case.v)
        assert tuple(trace.potentials[case.name][:steps, 0]) == case.v, case.name
        assert tuple(trace.messages[case.name][:steps, 0]) == case.s, case.name
    assert trace.readout.tolist() == [64 * (2 + 4 * 20)]


@pytest.mark.parametrize(("du", "v"), [(4095, (64, 128, 192, 256)), (0, (64, 191, 381, 634))])
def test_a_window_starts_from_rest(du: int, v: tuple[int, ...]) -> None:
    """Lava's LIFReset with interval 4 and a constant input, seen in its second window."""
    neuron = LIF(number(1000), number(0), number(0), number(0), du, 0, Reset.ZERO)
    state = reference._State(Population("n", (1,), neuron, ORIGIN))
    for expected in v:
        state.step(np.array([1]), None)
        assert state.v[0] == expected
