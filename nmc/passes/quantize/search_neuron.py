"""Threshold, initial potential and bias of a layer's neurons, searched channel by channel on real spikes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.neurons import LIF, Burst, Reset, Signed
from nmc.kernels.calibrate_neurons import mean_moments, spike_counts

UNIT = 64
"""Units of v per unit of a synaptic sum (the ``<< 6`` of docs/arithmetic.md)."""

FRACTIONS = (0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.43, 0.5, 0.58, 0.66, 0.74, 0.82, 0.91, 1.0)
"""Thresholds tried, relative to the largest activation of the channel."""

ZERO_RESET_FRACTIONS = (0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.6, 8.0)
"""With reset to zero a higher threshold loses less at each spike but fires less often."""

POTENTIALS = (-2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
"""Initial potentials tried, in thresholds."""

SIGNED_POTENTIALS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
"""Of neurons that take spikes back: nothing is gained by holding them back at first. Measured on ResNet-20 at T=4 (256
images): 0.160 with these, 0.169 with `POTENTIALS`."""

BIASES = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5)
"""Shifts of the bias tried, in thresholds per window."""

FINE_FRACTIONS = (0.8, 0.87, 0.93, 1.07, 1.15, 1.25)
FINER_FRACTIONS = (0.9, 0.96, 1.04, 1.1)
FINER_STEPS = (-0.3, -0.15, 0.15, 0.3)
"""Of the potential and the bias, around the best so far."""

CORRECTIONS = 3
CORRECTION_GAIN = 0.7
"""Rounds that bring the mean message to the mean activation, and the share that one removes."""

GAIN_MIN = 0.5
GAIN_MAX = {Reset.SUBTRACT: 2.0, Reset.ZERO: 8.0}
"""Decode gain of one spike, in thresholds: with reset to zero or a leak a spike stands for what is lost too."""

LEAK_SHARES = (0.0, 0.5, 1.5, 2.0)
"""Of the bias that makes up for the leak, tried beside all of it."""


@dataclass(frozen=True, eq=False)
class LayerDrive:
    """What the neurons of a layer receive on the sampled rows, and what they should say.

    Attributes:
        stored: the integer neurons as quantized; threshold and v0 are searched.
        total: (rows, T, C) float32, the sum of each step.
        bias: (1, C) or (rows, C) in units of v, as stored.
        values: (rows, C) float64, the float network's activations.
        top: (C,) largest activation, positive.
        unit: (C,) real value of one unit of the sum.
        wait: steps of the window before the first that may fire.
        threshold_max: that the target stores.
        evenness: weight of the unevenness of the spikes, beside the error of their count.
    """

    stored: LIF
    total: Array
    bias: Array
    values: Array
    top: Array
    unit: Array
    wait: int
    threshold_max: int
    evenness: float = 0.0

    @property
    def timesteps(self) -> int:
        """T."""
        return int(self.total.shape[1])

    @property
    def levels(self) -> int:
        """Largest message of one step."""
        return self.stored.fire.levels if isinstance(self.stored.fire, Burst) else 1

    @property
    def leaked(self) -> float:
        """Thresholds that leak in a window, of a potential that is half a threshold on average."""
        return self.stored.dv / 4096 * (self.timesteps + self.wait) / 2

    @cached_property
    def variance(self) -> Array:
        """(C,) of the activations."""
        return np.asarray(self.values.var(axis=0))

    @cached_property
    def mean(self) -> Array:
        """(C,) of the activations."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def gain_max(self) -> float:
        """Of one spike, in thresholds."""
        return GAIN_MAX[Reset.ZERO if self.stored.dv else self.stored.reset]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One neuron per channel, all (C,).

    Attributes:
        threshold: in units of the sum, integer-valued.
        v0, bias_shift: in units of v, integer-valued.
    """

    threshold: Array
    v0: Array
    bias_shift: Array


@dataclass(frozen=True, eq=False)
class FoundNeuron:
    """The best neuron of every channel.

    Attributes:
        candidate: it.
        scale: (C,) real value of a neuron that fires once in every step.
        counts: (rows, C) float32, its messages added up.
        error: (C,) variance of what the best gain leaves of the activations, and what unevenness adds.
    """

    candidate: Candidate
    scale: Array
    counts: Array
    error: Array


def _judge(drive: LayerDrive, candidate: Candidate) -> tuple[Array, Array, Array, Array]:
    """(error, gain, mean count, counts): what is left after the best affine read-out, per channel.

    ``Var(y) + g^2 Var(n) - 2 g Cov(y, n)`` with g the least-squares gain within its limits;
    an offset costs nothing, because the layers behind take it into their biases. Spikes that come
    late, early or in bunches are an error of the layer behind: its neurons cannot take back what
    they fired on half of them. The mean square of the running count's deviation from an even flow
    is added with the weight ``evenness``.
    """
    lower = None
    if isinstance(drive.stored.fire, Signed):
        share = np.asarray(drive.stored.fire.lower / drive.stored.threshold, dtype=np.float64).reshape(-1)
        lower = np.rint(share * candidate.threshold) * UNIT
    counts, uneven = spike_counts(
        drive.stored,
        drive.total,
        bias=drive.bias + candidate.bias_shift,
        v0=candidate.v0[None],
        threshold=candidate.threshold * UNIT,
        lower=lower,
        wait=drive.wait,
    )
    mean, square, product = mean_moments(counts, drive.values)
    spread, common = square - mean * mean, product - mean * drive.mean
    per_spike = candidate.threshold * drive.unit / drive.timesteps
    gain = np.divide(common, spread, out=per_spike.copy(), where=spread > 0)
    gain = np.clip(gain, GAIN_MIN * per_spike, drive.gain_max * per_spike)
    error = drive.variance + gain * gain * (spread + drive.evenness * uneven) - 2 * gain * common
    return error, gain, mean, counts


class _Search:
    """Coordinate search over all channels at once: every trial moves one parameter of each."""

    def __init__(self, drive: LayerDrive) -> None:
        channels = len(drive.unit)
        self.drive = drive
        self.fraction = np.full(channels, 0.6 if drive.stored.reset is Reset.SUBTRACT else 2.0)
        self.potential = np.full(channels, 0.25)
        self.shift = np.full(channels, drive.leaked)
        self.error = np.full(channels, np.inf)

    def candidate(self, fraction: Array, potential: Array, shift: Array) -> Candidate:
        drive = self.drive
        threshold = np.rint(fraction * drive.top / (drive.unit * drive.levels))
        threshold = np.clip(threshold, 1, drive.threshold_max)
        return Candidate(
            threshold,
            np.rint(potential * threshold * UNIT),
            np.rint(shift * threshold * UNIT / (drive.timesteps + drive.wait)),
        )

    def best(self) -> Candidate:
        return self.candidate(self.fraction, self.potential, self.shift)

    def _try(self, fraction: Array, potential: Array, shift: Array) -> None:
        error = _judge(self.drive, self.candidate(fraction, potential, shift))[0]
        better = error < self.error
        self.error = np.where(better, error, self.error)
        self.fraction = np.where(better, fraction, self.fraction)
        self.potential = np.where(better, potential, self.potential)
        self.shift = np.where(better, shift, self.shift)

    def start_at(self, found: FoundNeuron, unit: Array) -> None:
        """Begin with neurons found for other weights, whose sums were in ``unit``."""
        drive, candidate = self.drive, found.candidate
        per_threshold = candidate.threshold * UNIT
        fraction = candidate.threshold * unit * drive.levels / drive.top
        shift = candidate.bias_shift * (drive.timesteps + drive.wait) / per_threshold
        self._try(fraction, candidate.v0 / per_threshold, shift)

    def coarse(self) -> None:
        subtract = self.drive.stored.reset is Reset.SUBTRACT
        ones = np.ones(len(self.error))
        for fraction in FRACTIONS if subtract else ZERO_RESET_FRACTIONS:
            self._try(fraction * ones, self.potential, self.shift)
        signed = isinstance(self.drive.stored.fire, Signed)
        for potential in SIGNED_POTENTIALS if signed else POTENTIALS:
            self._try(self.fraction, potential * ones, self.shift)
        for share in LEAK_SHARES if self.drive.leaked else ():
            self._try(self.fraction, self.potential, share * self.drive.leaked * ones)
        around = self.shift if self.drive.leaked else 0.0 * ones
        for shift in BIASES:
            self._try(self.fraction, self.potential, around + shift)
        around = self.fraction
        for factor in FINE_FRACTIONS:
            self._try(around * factor, self.potential, self.shift)

    def fine(self) -> None:
        around = self.potential
        for step in FINER_STEPS:
            self._try(self.fraction, around + step, self.shift)
        around = self.shift
        for step in FINER_STEPS:
            self._try(self.fraction, self.potential, around + step)
        around = self.fraction
        for factor in FINER_FRACTIONS:
            self._try(around * factor, self.potential, self.shift)


def search_neuron(drive: LayerDrive, *, rounds: int, start: tuple[FoundNeuron, Array] | None = None) -> FoundNeuron:
    """Search threshold, initial potential and bias shift, then bring the means together.

    Args:
        drive: of the layer.
        rounds: 1 for the coarse search, more to refine it.
        start: neurons found for much the same weights, and the unit of their sums: only refined.
    """
    search = _Search(drive)
    if start is None:
        search.coarse()
    else:
        search.start_at(*start)
    for _ in range(rounds - 1 if start is None else 1):
        search.fine()
    return match_means(drive, search.best())


def match_means(drive: LayerDrive, candidate: Candidate) -> FoundNeuron:
    """Correct the bias until the mean message stands for the mean activation."""
    steps = drive.timesteps + drive.wait
    for _ in range(CORRECTIONS):
        _, gain, mean, _ = _judge(drive, candidate)
        missing = (drive.mean - gain * mean) / drive.unit * UNIT * drive.timesteps / steps
        shifted = candidate.bias_shift + np.rint(CORRECTION_GAIN * missing)
        candidate = Candidate(candidate.threshold, candidate.v0, shifted)
    error, gain, _, counts = _judge(drive, candidate)
    return FoundNeuron(candidate, gain * drive.timesteps, counts, error)
