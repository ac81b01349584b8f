"""Partial sums as signed spikes: relays for spiking networks whose messages carry no sums.

A relay adds up its part of the sum, sends 1 beyond its threshold and -1 below minus it, and takes
the threshold back either way. The neuron counts every spike as one threshold, so that what it gets
in a sample is the partial sum but for what the relay still holds at the end: one threshold at most,
while no sum of one step is larger than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, Skip, Sparse, sparse_from_synapses
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import LIF, STATE_LIMIT, Integrator, Reset, Signed
from nmc.passes.partition.partial_sums import Cut, largest_sum

MESSAGE_BITS = 2
"""Payload of a signed spike: 1 or -1."""

POTENTIAL = 64
"""Units of potential in one unit of a sum."""

SUM_LIMIT = STATE_LIMIT // POTENTIAL
"""No sum may reach it: the current of a LIF would wrap (docs/arithmetic.md section 4)."""


@dataclass(frozen=True)
class Threshold:
    """What one spike of a relay stands for: ``mantissa << exponent``, the mantissa a weight of the target."""

    mantissa: int
    exponent: int

    @property
    def value(self) -> int:
        """In units of the sum."""
        return self.mantissa << self.exponent


def sends_signs(target: Target) -> bool:
    """Whether neurons of the target can send signed spikes and keep what they have not sent."""
    return (
        {"lif", "signed"} <= set(target.neurons.models)
        and Reset.SUBTRACT in target.neurons.resets
        and target.messages.graded_bits >= MESSAGE_BITS
    )


def is_spiking(population: Population) -> bool:
    """Whether a population adds up spikes over the steps, so that partial sums may come late."""
    return isinstance(population.neuron, LIF | Integrator)


def threshold_for(peak: int, target: Target) -> Threshold:
    """The smallest threshold of at least ``peak`` whose mantissa is a weight of the target."""
    step, top = target.weights.step, target.weights.high
    exponent = 0
    while -(-max(peak, 1) // (step << exponent)) * step > top:
        exponent += 1
    return Threshold(-(-max(peak, 1) // (step << exponent)) * step, exponent)


def relay_neuron(threshold: Threshold) -> LIF:
    """A relay: an integrator that fires both ways."""
    value, zero = np.array(threshold.value), np.zeros((), dtype=np.int64)
    fire = Signed(lower=value, guarded=False)
    return LIF(threshold=value, bias_mant=zero, bias_exp=zero, v0=zero, reset=Reset.SUBTRACT, fire=fire)


def fits(
    network: Network,
    projection: Projection,
    cut: Cut,
    threshold: Threshold,
    target: Target,
    bounds: Mapping[str, tuple[int, int]],
) -> bool:
    """Whether a projection can be cut so: every stored number fits the target, and no current wraps.

    Args:
        network: before.
        projection: that is cut.
        cut: of its operator.
        threshold: of the relays.
        target: the chip.
        bounds: smallest and largest message of each population that the target population hears.
    """
    shift = projection.shift - threshold.exponent
    highest = target.weights.exponent_max
    if projection.bias is not None or np.any(shift > 0) or (highest is not None and np.any(-shift > highest)):
        return False
    relayed = float(cut.fan_in * threshold.value * np.exp2(-projection.shift.astype(np.float64)).max())
    others = sum(
        _largest(network, other, bounds) for other in network.incoming[projection.target] if other is not projection
    )
    enters = largest_sum(cut.parts, *bounds[projection.source])
    return threshold.value <= target.neurons.threshold_max and max(enters, relayed + others) < SUM_LIMIT


def _largest(network: Network, projection: Projection, bounds: Mapping[str, tuple[int, int]]) -> float:
    """The largest magnitude of the sum of a projection."""
    found = max(
        (largest_sum(part, *bounds[projection.source]) for part in _operators(projection.connectivity)), default=0
    )
    return float(found * np.exp2(-projection.shift.astype(np.float64)).max())


def _operators(operator: Connectivity) -> Iterator[Conv2d | Sparse]:
    match operator:
        case Conv2d() | Sparse():
            yield operator
        case Pool():
            yield operator.as_conv()
        case Dense() | Skip() | _:
            target, source, weight = operator.synapses()
            yield sparse_from_synapses(target, source, weight, operator.in_shape, operator.out_shape)


def held_back(projection: Projection, cut: Cut, threshold: Threshold, population: Population) -> float:
    """What relays still hold at the end of a sample, at most: in spikes of a neuron, in potential of a read-out."""
    rest = float(cut.fan_in * threshold.value * np.exp2(-projection.shift.astype(np.float64)).max())
    neuron = population.neuron
    return rest / float(np.min(neuron.threshold)) if isinstance(neuron, LIF) else rest * POTENTIAL
