"""Firing rules, refractory time, sigma-delta and recurrence, against traces computed by hand or seen in Lava."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.connectivity import Dense
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import IF, LIF, Burst, Fire, Neuron, Reset, SigmaDelta, Signed, Source
from tests.golden.networks import ORIGIN, number


def trace(neuron: Neuron, sums: list[int]) -> tuple[list[int], list[int]]:
    """Messages and potentials of one neuron that receives these sums."""
    state = reference._State(Population("n", (1,), neuron, ORIGIN))
    seen = [(int(state.step(np.array([a]), None)[0]), int(state.v[0])) for a in sums]
    return [s for s, _ in seen], [v for _, v in seen]


def lif(threshold: int, fire: Fire, reset: Reset = Reset.SUBTRACT, refractory: int = 0) -> LIF:
    zero = number(0)
    return LIF(number(threshold), zero, zero, zero, reset=reset, fire=fire, refractory=refractory)


@pytest.mark.parametrize(
    "sums,messages,potentials",
    [
        ([1] * 6, [0, 0, 1, 0, 0, 1], [64, 128, 0, 64, 128, 0]),
        ([-1] * 6, [0, 0, -1, 0, 0, -1], [-64, -128, 0, -64, -128, 0]),
        ([3, -3, 3, -3], [1, -1, 1, -1], [0, 0, 0, 0]),
    ],
)
def test_ternary_lif_of_lava(sums: list[int], messages: list[int], potentials: list[int]) -> None:
    """Lava's TernaryLIF with thresholds 2 and -2."""
    assert trace(lif(2, Signed(number(2), guarded=False), Reset.ZERO), sums) == (messages, potentials)


def test_the_guard_takes_back_only_what_was_sent() -> None:
    # v in units of 64: 3 -> 1, -1 -> 1, -2, -5.
    messages, potentials = trace(lif(2, Signed(number(0))), [3, -2, -3, -3])
    assert messages == [1, -1, 0, 0]
    assert potentials == [64, 64, -128, -320]


def test_bursts_of_lif_compare_strictly() -> None:
    # Four thresholds exactly: above three of them only; then 64 + 64 * 9 with 3 spikes at most.
    messages, potentials = trace(lif(1, Burst(3)), [4, 9, 0])
    assert messages == [3, 3, 3]
    assert potentials == [64, 64 * 7, 64 * 4]


def test_bursts_of_if_take_the_equal() -> None:
    neuron = IF(number(10), number(0), number(0), fire=Burst(3))
    assert trace(neuron, [9, 21, 40, -100]) == ([0, 3, 3, 0], [9, 0, 10, -90])


def test_bursts_that_reset_to_zero() -> None:
    assert trace(lif(1, Burst(7), Reset.ZERO), [5, 2, 1]) == ([4, 1, 0], [0, 0, 64])


def test_refractory_time_freezes_the_potential_but_not_the_current() -> None:
    neuron = LIF(number(2), number(10), number(0), number(0), du=2047, refractory=2)
    # u: 256, 128, 64, 32; v: 256 + 10 - 128 = 138, still, still, 138 + 32 + 10 = 180 - 128.
    assert trace(neuron, [4, 0, 0, 0]) == ([1, 0, 0, 1], [138, 138, 138, 52])


def test_sigma_delta_of_lava() -> None:
    """Lava's SigmaDelta with vth 10 and exponents 0; v there is sigma."""
    neuron = SigmaDelta(number(10), number(0), number(0))
    messages, potentials = trace(neuron, [10, 5, -3, 20, -40, 0, 1, 1, 1, 1])
    assert messages == [10, 0, 0, 22, -32, 0, 0, 0, 0, 0]
    assert potentials == [10, 15, 12, 32, -8, -8, -7, -6, -5, -4]


def test_sigma_delta_rounds_the_activation_not_the_changes() -> None:
    rectified = SigmaDelta(number(1), number(2), number(2))
    # v = 2 + 1, 4, 5, 10, -3: y = 0, 1, 1, 2, 0.
    assert trace(rectified, [1, 1, 1, 5, -13]) == ([0, 1, 0, 1, -2], [3, 4, 5, 10, -3])
    linear = SigmaDelta(number(1), number(2), number(2), rectify=False)
    assert trace(linear, [1, 1, 1, 5, -13]) == ([0, 1, 0, 1, -3], [3, 4, 5, 10, -3])


def test_a_source_that_sends_once() -> None:
    network = _loop(Source(once=True), [[3]], [[0]], delay=1)
    trace = reference.run(network, np.array([2]))
    assert trace.messages["in"][:, 0].tolist() == [2, 0, 0, 0, 0, 0]
    assert trace.potentials["loop"][:, 0].tolist() == [6] * 6


@pytest.mark.parametrize("delay,spikes", [(1, [1, 1, 1, 1, 1, 1]), (2, [1, 0, 1, 0, 1, 0]), (4, [1, 0, 0, 0, 1, 0])])
def test_a_spike_that_returns(delay: int, spikes: list[int]) -> None:
    """A neuron that is woken once and then by its own spike, ``delay`` steps later."""
    network = _loop(Source(once=True), [[5]], [[5]], delay=delay, neuron=IF(number(5), number(0), number(0)))
    assert reference.run(network, np.array([1])).messages["loop"][:, 0].tolist() == spikes


def _loop(
    source: Source, forward: list[list[int]], back: list[list[int]], delay: int, neuron: IF | None = None
) -> Network:
    neuron = neuron or IF(number(1000), number(0), number(0))
    populations = (Population("in", (1,), source, ORIGIN), Population("loop", (1,), neuron, ORIGIN, start=1))

    def edge(name: str, source: str, weight: list[list[int]], delay: int) -> Projection:
        return Projection(name, source, "loop", Dense(np.array(weight), (1,), (1,)), ORIGIN, delay)

    projections = (edge("in>loop", "in", forward, 1), edge("loop>loop", "loop", back, delay))
    spec = InputSpec("in", (1,), 1.0, 0, 255)
    network = Network(
        "loop",
        populations,
        projections,
        (spec,),
        (OutputSpec("loop", np.array(1.0), (1,)),),
        6,
        {"loop": np.array(1.0)},
    )
    assert network.recurrent == {"loop>loop"}
    return network
