"""What a neuron needs of a target, in the words of target files."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.hardware.neuron_models import MODELS, features, message_bits, needs_microcode
from nmc.ir.neurons import IF, LIF, Burst, Graded, GradedReLU, Integrator, Neuron, Reset, SigmaDelta, Signed, Source
from tests.passes.targets import loihi

Z = np.zeros((), dtype=np.int64)
ONE = Z + 1
CASES: list[tuple[Neuron, tuple[str, ...], int]] = [
    (LIF(ONE, Z, Z, Z), ("lif", "subtract"), 0),
    (LIF(ONE, Z, Z, Z, reset=Reset.ZERO), ("lif", "zero"), 0),
    (LIF(ONE, Z, Z, Z, fire=Signed(Z), refractory=2), ("lif", "signed", "refractory", "subtract"), 2),
    (LIF(ONE, Z, Z, Z, fire=Burst(1)), ("lif", "subtract"), 0),
    (LIF(ONE, Z, Z, Z, fire=Burst(15)), ("lif", "burst", "subtract"), 4),
    (IF(ONE, Z, Z, Reset.ZERO, Burst(4)), ("if", "burst", "zero"), 3),
    (SigmaDelta(ONE, Z, Z), ("sigma-delta",), 0),
    (GradedReLU(), ("graded-relu",), 0),
    (Graded(), (), 0),
    (Integrator(Z, Z, Z), (), 0),
    (Source(), (), 0),
]


@pytest.mark.parametrize("neuron,needed,bits", CASES)
def test_features_and_bits(neuron: Neuron, needed: tuple[str, ...], bits: int) -> None:
    assert features(neuron) == needed
    assert set(needed) <= {*MODELS, *map(str, Reset)}
    assert message_bits(neuron) == bits


def test_microcode_is_what_the_target_says() -> None:
    first, second = loihi("loihi1"), loihi("loihi2")
    assert not needs_microcode(LIF(ONE, Z, Z, Z, reset=Reset.ZERO), second)
    for neuron in (LIF(ONE, Z, Z, Z), LIF(ONE, Z, Z, Z, reset=Reset.ZERO, refractory=1), SigmaDelta(ONE, Z, Z)):
        assert needs_microcode(neuron, second)
        assert not needs_microcode(neuron, first)
