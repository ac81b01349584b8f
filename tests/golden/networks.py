"""The golden cases as one network, and small networks around them."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import Dense
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, Integrator, Reset
from nmc.ir.origin import Origin
from tests.golden.cases import GOLDEN, Golden

ORIGIN = Origin("node", "Gemm", "y")


def number(value: int) -> np.ndarray:
    return np.array(value, dtype=np.int64)


def neuron_of(case: Golden) -> LIF:
    mantissa, exponent = (number(part) for part in case.bias)
    return LIF(
        number(case.vth),
        mantissa,
        exponent,
        number(case.v0),
        case.du,
        case.dv,
        case.reset,
        case.fire,
        case.refractory,
    )


def pacemaker() -> Population:
    """Two neurons: the first fires in the first step only, the second in every step.

    Driven by its bias with the inputs (0, 1): neuron 0 starts above its threshold and has no
    input; neuron 1 gets 64 > 0 in each step.
    """
    zero = number(0)
    neuron = LIF(np.array([1, 0]), zero, number(6), np.array([65, 0]), reset=Reset.ZERO)
    return Population("pacemaker", (2,), neuron, ORIGIN)


def projections(case: Golden) -> list[Projection]:
    """Sums beyond a weight's range are made of a shifted part and a rest."""
    high, low = (case.first // 1024, case.first % 1024) if abs(case.first) > 255 else (0, case.first)
    parts = [([[low, case.every]], 0)] + ([([[high, 0]], -10)] if high else [])
    return [
        Projection(
            f"pacemaker>{case.name}#{index}",
            "pacemaker",
            case.name,
            Dense(np.array(weight, dtype=np.int64), (2,), (1,)),
            ORIGIN,
            shift=number(shift),
        )
        for index, (weight, shift) in enumerate(parts)
    ]


def network_of(cases: tuple[Golden, ...] = GOLDEN, timesteps: int = 20) -> tuple[Network, np.ndarray]:
    """All cases side by side, and one sample that drives them."""
    populations = [pacemaker()]
    edges = []
    for case in cases:
        populations.append(Population(case.name, (1,), neuron_of(case), ORIGIN, start=1))
        edges += projections(case)
    readout = Integrator(number(0), number(0), number(0))
    populations.append(Population("output", (1,), readout, ORIGIN, start=1))
    weight = Dense(np.array([[2, 4]], dtype=np.int64), (2,), (1,))
    edges.append(Projection("pacemaker>output", "pacemaker", "output", weight, ORIGIN))
    spec = InputSpec("pacemaker", (2,), 1.0, 0, 255, "bias", bias_exp=6)
    outputs = (OutputSpec("output", np.ones(()), (1,)),)
    scales = {p.name: np.ones(()) for p in populations}
    network = Network("golden", tuple(populations), tuple(edges), (spec,), outputs, timesteps, scales)
    return network, np.array([0, 1], dtype=np.int64)
