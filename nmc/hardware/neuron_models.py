"""The words with which a target says what its neurons can do, and what a neuron needs of them."""

from __future__ import annotations

from nmc.hardware.target import Target
from nmc.ir.neurons import IF, LIF, Burst, GradedReLU, Neuron, SigmaDelta, Signed, spike_levels

MODELS = ("lif", "if", "graded-relu", "signed", "burst", "refractory", "sigma-delta")
"""What `neurons.models` may name: neurons, and what a lif or if may do beyond one spike a step."""

SEVERAL_BITS = ("graded-relu", "signed", "burst", "sigma-delta")
"""Models whose messages are more than one bit: the target needs `messages.graded_bits`."""


def features(neuron: Neuron) -> tuple[str, ...]:
    """What a target must offer for a neuron: of `MODELS`, and a reset. Sources and read-outs need nothing."""
    match neuron:
        case GradedReLU():
            return ("graded-relu",)
        case SigmaDelta():
            return ("sigma-delta",)
        case LIF() | IF():
            found = ["lif" if isinstance(neuron, LIF) else "if"]
            if isinstance(neuron.fire, Signed):
                found.append("signed")
            elif isinstance(neuron.fire, Burst) and neuron.fire.levels > 1:
                found.append("burst")
            if isinstance(neuron, LIF) and neuron.refractory:
                found.append("refractory")
            return (*found, str(neuron.reset))
        case _:
            return ()


def needs_microcode(neuron: Neuron, target: Target) -> bool:
    """Whether the target says that a neuron needs microcode on hardware."""
    return not set(features(neuron)).isdisjoint(target.neurons.microcode)


def message_bits(neuron: Neuron) -> int:
    """Payload bits that the spikes of a neuron need; 0 where the spike itself says it all.

    Values of graded neurons are fitted into the target's width and need what it has.
    """
    low, high = spike_levels(neuron) or (0, 0)
    return 0 if (low, high) in ((0, 0), (0, 1)) else high.bit_length() + (low < 0)
