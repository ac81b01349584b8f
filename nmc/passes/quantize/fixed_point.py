"""Numbers as a chip stores them: weight grids, bias mantissas and exponents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.hardware.target import NeuronLimits, WeightLimits
from nmc.ir.connectivity import Array, Connectivity, Conv2d, Skip
from nmc.ir.diagnostic import ExitCode, NmcError


@dataclass(frozen=True)
class WeightGrid:
    """The weights that a target stores: multiples of ``step`` from ``-top`` to ``top``."""

    step: int
    top: int

    def round(self, values: Array) -> Array:
        """The nearest stored weights, int64."""
        stored = np.rint(values / self.step).astype(np.int64) * self.step
        return np.clip(stored, -self.top, self.top)


def weight_grid(limits: WeightLimits, bits: int | None) -> WeightGrid:
    """The grid of ``bits`` magnitude-and-sign bits (None: all that the target stores).

    8 bits are 127 levels per sign. Fewer bits keep the range and widen the step.

    Raises:
        NmcError: (exit 2) the target stores no weights of both signs.
    """
    top = min(limits.high, -limits.low)
    if top < limits.step:
        raise NmcError.single(
            "coding-not-on-target",
            f"weights from {limits.low} to {limits.high} in steps of {limits.step} have no value of both signs",
            ExitCode.USAGE,
            help="take a target whose synapses excite and inhibit",
        )
    step = limits.step
    levels = top // step if bits is None else max(2 ** (bits - 1) - 1, 1)
    while top // step > levels:
        step *= 2
    return WeightGrid(step, top // step * step)


def is_skip(connectivity: Connectivity) -> bool:
    """Whether every output reads one channel at one place: a residual shortcut, whose weight is a scale."""
    if isinstance(connectivity, Skip):
        return True
    if not isinstance(connectivity, Conv2d) or connectivity.weight.shape[2:] != (1, 1):
        return False
    return bool((np.count_nonzero(connectivity.weight, axis=1) <= 1).all())


def by_output(connectivity: Connectivity, values: Array) -> Array:
    """Per-channel values, broadcastable to the weights that feed each output channel."""
    return values if values.ndim == 0 else values[connectivity.row_channel()]


def mantissa_and_exponent(value: Array, limits: NeuronLimits) -> tuple[Array, Array]:
    """Integers m, e with ``m << e`` nearest to the value, |m| and e within the limits.

    Args:
        value: real biases in units of v.
        limits: of the target.

    Raises:
        OverflowError: a value is beyond the largest mantissa and exponent.
    """
    largest = limits.bias_mantissa_max
    ratio = np.maximum(np.abs(value) / (largest + 0.5), 1e-300)
    exponent = np.maximum(np.ceil(np.log2(ratio)), 0).astype(np.int64)
    if np.any(exponent > limits.bias_exponent_max):
        raise OverflowError("bias")
    mantissa = np.rint(value / np.exp2(exponent)).astype(np.int64)
    return np.clip(mantissa, -largest, largest), exponent
