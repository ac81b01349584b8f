"""Which Lava process a population becomes: stock ones wherever Lava has the arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population
from nmc.ir.neurons import (
    IF,
    LIF,
    Binary,
    Burst,
    Graded,
    GradedReLU,
    Integrator,
    Reset,
    SigmaDelta,
    Signed,
    Source,
)

OWN_PROCESSES = ("IntegrateAndFire", "MicrocodeLIF", "ShiftedSigmaDelta")
"""Of the emitted package ``nmc_neurons``, in the order of their import."""

_LOADED = ("LIF", "TernaryLIF", "SigmaDelta")
"""Stock processes that know no periodic reset: a `StateDataloader` restores their state."""


def process_name(network: Network, population: Population) -> str:
    """The class of the process.

    Raises:
        TypeError: a neuron that has no integer form.
    """
    match population.neuron:
        case Source():
            return "RingBuffer"
        case GradedReLU():
            return "GradedReluVec"
        case Graded():
            return "GradedVec"
        case Integrator() as neuron:
            # LIFReset knows only v = 0.
            return "LIF" if np.any(neuron.v0) else "LIFReset"
        case LIF() as neuron:
            if neuron.reset is not Reset.ZERO or neuron.refractory or population.wait:
                return "MicrocodeLIF"
            if isinstance(neuron.fire, Binary):
                return "LIF" if np.any(neuron.v0) else "LIFReset"
            ternary = isinstance(neuron.fire, Signed) and not neuron.fire.guarded
            return "TernaryLIF" if ternary and _alike(network, population) else "MicrocodeLIF"
        case IF():
            return "IntegrateAndFire"
        case SigmaDelta() as neuron:
            stock = not np.any(neuron.shift) and _alike(network, population)
            return "SigmaDelta" if stock else "ShiftedSigmaDelta"
        case _:
            raise TypeError(f"no integer form of {type(population.neuron).__name__}")


def _alike(network: Network, population: Population) -> bool:
    """Whether all neurons of a process, constant neurons included, have one threshold.

    Lava's TernaryLIF and SigmaDelta hold one number; an array ends in an error of its workers.
    """
    neuron = population.neuron
    thresholds = [neuron.threshold] if isinstance(neuron, LIF | SigmaDelta) else []
    if isinstance(neuron, LIF) and isinstance(neuron.fire, Signed):
        thresholds.append(neuron.fire.lower)
    biased = any(projection.bias is not None for projection in network.outgoing[population.name])
    return not biased and all(_uniform(values) for values in thresholds)


def _uniform(values: Array) -> bool:
    return bool(np.all(values == values.reshape(-1)[0]))


def restored_by_loader(network: Network, population: Population) -> bool:
    """Whether a `StateDataloader` writes the start state of each window."""
    return process_name(network, population) in _LOADED


def microcode(network: Network) -> tuple[str, ...]:
    """What of a network no stock process of Lava computes, in words; empty: all stock."""
    found: dict[str, None] = {}
    for population in network.populations:
        neuron = population.neuron
        # Before quantization other neurons may be there, which have no process.
        if isinstance(neuron, LIF | IF | SigmaDelta) and process_name(network, population) in OWN_PROCESSES:
            found |= dict.fromkeys(_reasons(neuron))
            if population.wait:
                found["waiting before the first spike: needs neuron microcode on hardware"] = None
    return tuple(found)


def _reasons(neuron: LIF | IF | SigmaDelta) -> Iterator[str]:
    if isinstance(neuron, SigmaDelta):
        shifted = bool(np.any(neuron.shift))
        yield (
            "sigma-delta with a shift behind its sum: needs neuron microcode on hardware"
            if shifted
            else "sigma-delta with several thresholds: Lava's SigmaDelta has one"
        )
        return
    if isinstance(neuron, IF):
        yield "ideal integrate-and-fire: needs neuron microcode on hardware"
    elif neuron.reset is Reset.SUBTRACT:
        yield "LIF with subtractive reset: needs neuron microcode on hardware"
    match neuron.fire:
        case Burst():
            yield "bursts, several spikes in one message: need neuron microcode on hardware"
        case Signed(guarded=True):
            yield "signed spikes that only take back what was sent: need neuron microcode on hardware"
        case Signed() if isinstance(neuron, IF) or neuron.reset is Reset.SUBTRACT or neuron.refractory:
            yield "signed spikes: need neuron microcode on hardware"
        case Signed():
            yield "ternary LIF with several thresholds: Lava's TernaryLIF has one"
    if isinstance(neuron, LIF) and neuron.refractory:
        yield "refractory time: Loihi 1 has it, Loihi 2 needs neuron microcode, Lava computes it in floats only"
