"""Neuron models. Their equations are section 2 of docs/arithmetic.md.

Parameters are arrays that broadcast to the population's shape: ``()``, ``(C, 1, 1)`` or
the full shape. Integers (int64) after quantization, float64 before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from nmc.ir.connectivity import Array

STATE_LIMIT = 1 << 23
"""M of the arithmetic page: v saturates at +-(M - 1), u wraps at M (24-bit state of Loihi)."""

NO_MEMORY = 4095
"""The du of a current without memory."""


class Reset(StrEnum):
    """What a spike does to the potential."""

    SUBTRACT = "subtract"
    ZERO = "zero"


@dataclass(frozen=True)
class Binary:
    """Fires once in a step in which the potential is beyond the threshold."""


@dataclass(frozen=True)
class Burst:
    """Fires once for every threshold that the potential holds, at most ``levels`` times a step.

    The message is the number of spikes; a reset to subtract takes as many thresholds.
    """

    levels: int


@dataclass(frozen=True, eq=False)
class Signed:
    """Fires 1 beyond the threshold and -1 below ``-lower`` (ternary spikes).

    Attributes:
        lower: in the unit of the model's threshold, >= 0.
        guarded: -1 only while the messages of the window add up to more than 0, so that the
            neuron takes spikes back but stays a rectifier.
    """

    lower: Array
    guarded: bool = True


Fire = Binary | Burst | Signed
"""How a potential becomes a message."""


@dataclass(frozen=True, eq=False)
class LIF:
    """Leaky integrate-and-fire in Loihi's fixed point: u decays by du, v by dv (12 bit).

    Attributes:
        threshold: mantissa; the compare is ``v > threshold << 6``.
        bias_mant, bias_exp: the bias is ``bias_mant << bias_exp``, in units of v.
        v0: potential at the start of the window.
        fire: what passes the threshold.
        refractory: steps after a message in which v stands still and nothing fires; u goes on.
    """

    threshold: Array
    bias_mant: Array
    bias_exp: Array
    v0: Array
    du: int = NO_MEMORY
    dv: int = 0
    reset: Reset = Reset.SUBTRACT
    fire: Fire = Binary()
    refractory: int = 0

    @property
    def bias(self) -> Array:
        """The effective bias, in units of v."""
        return np.left_shift(self.bias_mant, self.bias_exp)


@dataclass(frozen=True, eq=False)
class IF:
    """Ideal integrate-and-fire: ``v += a + bias``, fires at ``v >= threshold``.

    Attributes:
        dv: leak, over reals only: v keeps ``(4096 - dv) / 4096`` of itself in a step, as that of a `LIF`.
    """

    threshold: Array
    bias: Array
    v0: Array
    reset: Reset = Reset.SUBTRACT
    fire: Fire = Binary()
    dv: int = 0


@dataclass(frozen=True, eq=False)
class Integrator:
    """The read-out: integrates like a LIF without leak and never fires."""

    bias_mant: Array
    bias_exp: Array
    v0: Array

    @property
    def bias(self) -> Array:
        """The effective bias, in units of v (64 per unit of synaptic sum)."""
        return np.left_shift(self.bias_mant, self.bias_exp)


@dataclass(frozen=True, eq=False)
class IdealIntegrator:
    """The read-out of a network before quantization: ``v += a + bias`` over reals."""

    bias: Array


@dataclass(frozen=True)
class GradedReLU:
    """``s = max(a, 0)``: the message carries the value."""


@dataclass(frozen=True)
class Graded:
    """``s = a``: a linear graded population (a read-out)."""


@dataclass(frozen=True, eq=False)
class SigmaDelta:
    """Adds up the changes that it receives and sends the changes of its activation.

    ``v += a;  y = max(v >> shift, 0);  d = y - sent;  s = d if |d| >= threshold else 0;  sent += s``

    Lava's ``SigmaDelta`` with its spike and state exponents at 0 is the case ``shift = 0``. The
    shift stands behind the sum, so that it rounds the activation and not every change of it.

    Attributes:
        threshold: smallest change that is sent, >= 1.
        v0: the bias: the sum starts there.
        shift: right shift, >= 0.
        rectify: whether the activation is cut at 0; a linear one else.
    """

    threshold: Array
    v0: Array
    shift: Array
    rectify: bool = True


@dataclass(frozen=True)
class Source:
    """The host sends one message of ``bits`` bits (signed or not) per neuron and step.

    Attributes:
        once: in the first step of the window only: the change from nothing to the input.
    """

    bits: int = 8
    signed: bool = False
    once: bool = False


Neuron = LIF | IF | Integrator | IdealIntegrator | GradedReLU | Graded | SigmaDelta | Source


def spike_levels(neuron: Neuron) -> tuple[int, int] | None:
    """Smallest and largest message of a spiking neuron; None where messages carry values."""
    match neuron:
        case LIF() | IF():
            match neuron.fire:
                case Burst(levels):
                    return 0, levels
                case Signed():
                    return -1, 1
                case Binary():
                    return 0, 1
        case Integrator() | IdealIntegrator():
            return 0, 0
        case _:
            return None


def has_potential(neuron: Neuron) -> bool:
    """Whether a neuron keeps a potential from step to step; its read-out is then v, else its message."""
    return isinstance(neuron, LIF | IF | Integrator | IdealIntegrator | SigmaDelta)
