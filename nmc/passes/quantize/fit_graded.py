"""Scales, shifts and stored weights of one graded population."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, Connectivity, Skip
from nmc.ir.layers import Quantize
from nmc.ir.network import Population, Projection
from nmc.ir.neurons import Graded
from nmc.ir.reference import per_channel
from nmc.ir.verify_network import SHIFT_LIMIT
from nmc.kernels.propagate import largest_products, row_sums
from nmc.passes.convert.convert_rate import scale_sources
from nmc.passes.quantize.clip_weights import Channels, best_factors
from nmc.passes.quantize.fixed_point import WeightGrid, by_output
from nmc.passes.quantize.round_weights import round_weights
from nmc.passes.quantize.whole_weights import ShiftRange, WholeFit, fit_whole

MARGIN = 4
"""Messages are assumed to stay within this many times their calibrated range."""

SHIFT_MIN = -7
"""Coarser weights than this gain nothing: every message would drive 2^7 times its own unit."""

SHIFT_LEVELS = 11
"""Bits of a message that the largest shift leaves: finer scales gain nothing, sums would be too large first."""

RELAY_LEVELS = 4
"""Times the levels of other messages: a relay's rounding comes on top of theirs, and its readers have one synapse."""

SUM_ROOM = 0.97
"""Part of the largest sum that real weights may fill; the rest is left to their rounding."""


def sum_limit(target: Target) -> float:
    """What no sum of a graded projection may reach: 2^31 unless the target says otherwise."""
    return float(2.0 ** (target.neurons.sum_bits - 1))


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `GradedFit.solve` finds.

    Attributes:
        stored: the integer projections, in order.
        scale: (C,) real value of one unit of the message.
        whole: where the integers are the file's.
    """

    stored: list[Projection]
    scale: Array
    whole: WholeFit | None


@dataclass(frozen=True, eq=False)
class _Job:
    """One population to fit.

    Attributes:
        main: its projections but for shortcuts, which are in ``skips``; all where there are only shortcuts.
        scales: of the sources.
        top: (C,) largest activations.
        largest: by projection, (C,) largest weights per unit of the source's message.
        sums: by main projection, (C,) the largest real sum.
        levels: wanted of a message.
        whole: whether it keeps the whole sum: a read-out that nobody hears.
    """

    population: Population
    main: list[Projection]
    skips: list[Projection]
    scales: Mapping[str, Array]
    top: Array
    largest: Mapping[str, Array]
    sums: Mapping[str, Array]
    levels: int
    whole: bool


@dataclass(frozen=True)
class GradedFit:
    """Finds the integers of one population after the other.

    Attributes:
        levels: wanted of a message at the calibrated maximum.
        widest: the largest message at the calibrated maximum that leaves room for `MARGIN`.
        shift_min, shift_max: right shifts that the target has and that are worth having.
        sum_limit: no sum may reach it.
        narrow: whether steps may be narrower than the largest weights ask for.
    """

    grid: WeightGrid
    levels: int
    widest: float
    shift_min: int
    shift_max: int
    sum_limit: float
    narrow: bool = False

    @classmethod
    def of(cls, target: Target, grid: WeightGrid, levels: int, narrow: bool = False) -> GradedFit:
        """The fit for a target's messages and exponents."""
        limits, largest = target.weights, 2 ** (target.messages.graded_bits - 1) - 1
        levels = max(min(levels, largest // (2 * MARGIN)), 1)
        low = SHIFT_MIN if limits.exponent_max is None else max(SHIFT_MIN, -limits.exponent_max)
        high = min(target.neurons.sum_bits - 1 - SHIFT_LEVELS, SHIFT_LIMIT)
        high = high if limits.exponent_min is None else min(high, -limits.exponent_min)
        return cls(grid, levels, max(largest / MARGIN, 1.0), low, high, sum_limit(target), narrow)

    def solve(
        self,
        population: Population,
        incoming: tuple[Projection, ...],
        readers: tuple[Connectivity, ...],
        scales: Mapping[str, Array],
        top: Array,
        messages: Mapping[str, Array],
        reach: Mapping[str, Array],
        codes: Mapping[str, Quantize],
    ) -> Fitted:
        """Integer projections of one population, and its scale per channel.

        Args:
            population: what is fitted.
            incoming: its projections over reals, in real units.
            readers: what reads it, over reals.
            scales: of the sources.
            top: (C,) largest activation of each channel.
            messages: integer messages by source on calibration inputs, (N, n) channels last.
            reach: (channels,) or (): the largest size of a message by source.
            codes: of the network; where there are any, the file has integers, which are stored if they can be.
        """
        # At twice the levels and MARGIN times the calibrated range, less a tenth for rounding.
        room = 0.9 * self.sum_limit / (2 * MARGIN * self.grid.top)
        fan_in = max((effective_fan_in(reader, top) for reader in readers), default=1.0)
        linear = isinstance(population.neuron, Graded)
        wanted = min(self.levels * RELAY_LEVELS, int(self.widest / 2)) if linear else self.levels
        levels = max(min(wanted, int(room / fan_in)), 1)
        # Weights count per unit of the source's integer message; they are scaled where they are rounded.
        largest = {p.name: largest_products(p.connectivity, scales[p.source]) for p in incoming}
        main = [p for p in incoming if not isinstance(p.connectivity, Skip)] or list(incoming)
        biases = [p.bias for p in incoming if p.bias is not None]
        sums = {p.name: largest_sums(p.connectivity, scales[p.source] * reach[p.source]) for p in main}
        sums[main[0].name] += by_channel(np.abs(_per_output(biases, population, np.ones(population.shape[0]))))
        skips = [p for p in incoming if p not in main]
        job = _Job(population, main, skips, scales, top, largest, sums, levels, linear and not readers)
        whole = self._whole(job, codes) if codes else None
        shifts, scale = self._free(job, messages) if whole is None else (dict(whole.shifts), whole.scale)
        stored = []
        for projection in incoming:
            connectivity, name = projection.connectivity, projection.name
            # A shortcut from a channel that is nearly silent needs no finer unit than a message has room for.
            own = shifts.get(name, np.minimum(self._own_shift(largest[name], scale), self._finest(levels)))
            units = scales[projection.source], np.exp2(own) / scale
            if whole is not None:
                weight = self.grid.round(
                    scale_sources(connectivity, units[0]).weight * by_output(connectivity, units[1])
                )
            else:
                weight = round_weights(connectivity, messages[projection.source], self.grid, *units)
            # Half a message turns the floor of each shifted sum into rounding; a sum of zero stays zero.
            half = (np.exp2(own - 1) * (own > 0)).astype(np.int64)
            bias: Array | None = half if half.any() else None
            if projection is main[0]:
                drive = np.rint(_per_output(biases, population, np.exp2(own) / scale)).astype(np.int64)
                bias = drive + (per_channel(half, population.shape) if drive.ndim > 1 else half)
            stored.append(replace(projection, connectivity=connectivity.with_weight(weight), shift=own, bias=bias))
        return Fitted(stored, scale, whole)

    def _free(self, job: _Job, messages: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
        """The shifts of the main projections, and the scale, where nothing but the range of the weights decides."""
        shift, scale = self._scale(job)
        scale = np.maximum(scale, self._least_scale(job))
        most = SUM_ROOM * self.sum_limit
        # A bias may be far larger than what it is added to: then weights do not fill their range either.
        scale = np.maximum(scale, np.max(list(job.sums.values()), axis=0) * np.exp2(shift) / most)
        if self.narrow and len(job.main) == 1:
            shift, scale = self._finer(job, shift, scale, messages)
        shifts = {p.name: shift for p in job.main}
        if len(job.main) > 1:
            for name, own in job.sums.items():
                # No projection is rounded more coarsely than its own weights ask for.
                finest = np.minimum(np.floor(np.log2(most * scale / np.maximum(own, 1e-200))), self._finest(job.levels))
                fits = np.minimum(self._own_shift(job.largest[name], scale), finest)
                shifts[name] = np.maximum(shift, fits).astype(np.int64)
        return shifts, scale

    def _finer(self, job: _Job, shift: Array, scale: Array, messages: Mapping[str, Array]) -> tuple[Array, Array]:
        """The shift and the scale of the only main projection, searched where weights have few bits."""
        (main,) = job.main
        channels = Channels(main, job.skips, messages, job.scales, shift, scale)
        floor = job.top / (self.widest if job.whole else 2 * job.levels)
        # One shift more brings a message that is too large back to its size.
        more = shift < (shift if job.whole else self._finest(job.levels))
        room = job.sums[main.name] * np.exp2(shift) / (SUM_ROOM * self.sum_limit)
        least = np.max([np.where(more, floor / 2, floor), room, self._least_scale(job)], axis=0) / scale
        found = scale * best_factors(channels, self.grid, least, (self.shift_min, self.shift_max))
        large = (found < floor) & (found < scale)
        return np.where(large, shift + 1, shift), np.where(large, 2 * found, found)

    def _whole(self, job: _Job, codes: Mapping[str, Quantize]) -> WholeFit | None:
        """The shifts and the scale with which the integers of the file are stored; None where they cannot be."""
        # A read-out keeps the whole sum, but for what a message cannot carry.
        wanted = 2 * job.top / self.widest if job.whole else job.top / job.levels
        allowed = ShiftRange(0 if job.whole else self.shift_min, self._finest(job.levels))
        code = codes.get(job.population.name)
        whole = fit_whole(job.main, job.scales, self.grid, wanted, allowed, None if code is None else code.scale)
        if whole is None or np.any(whole.scale < self._least_scale(job)):
            return None
        room = SUM_ROOM * self.sum_limit * whole.scale
        fits = all(np.all(own * np.exp2(whole.shifts[name]) <= room) for name, own in job.sums.items())
        return whole if fits else None

    def _least_scale(self, job: _Job) -> Array:
        """(C,) the scale for which the weights of the shortcuts can be stored."""
        sizes = [job.largest[skip.name] * 2.0**self.shift_min / self.grid.top for skip in job.skips]
        return np.asarray(np.max([np.zeros(len(job.top)), *sizes], axis=0))

    def _own_shift(self, largest: Array, scale: Array) -> Array:
        """The largest shift for which weights up to these fit, by channel."""
        room = self.grid.top / np.maximum(largest / scale, 1e-300)
        # A skip as large as the scale allows has exactly this room: no rounding may lose it.
        exact = np.floor(np.log2(room) + 1e-9)
        return np.clip(exact, self.shift_min, self.shift_max).astype(np.int64)

    def _finest(self, levels: int) -> int:
        """A sum is its message times 2^shift: a larger one would not leave the message its room."""
        return max(min(self.shift_max, int(np.log2(self.sum_limit / (4 * MARGIN * levels)))), self.shift_min)

    def _scale(self, job: _Job) -> tuple[Array, Array]:
        """The shift of the main sums and the real value of one unit of the message, by channel."""
        grid, top, levels = self.grid, job.top, job.levels
        largest = np.max([job.largest[p.name] for p in job.main], axis=0)
        alone = largest == 0  # its bias is all that such a channel has
        largest = np.where(alone, 1.0, largest)
        if job.whole:
            # The read-out keeps the whole sum, but for what a message cannot carry.
            exact, low = np.ceil(np.log2(grid.top * (top / largest) / self.widest)), 0
            floor = top / self.widest
        else:
            exact, low = np.floor(np.log2(grid.top * (top / levels) / largest)), self.shift_min
            # A channel that its bias drives, its weights being tiny, keeps messages of the common size.
            floor = top / (2 * levels)
        high = self._finest(levels)
        shift = np.where(alone, 0, np.clip(exact, min(low, high), high)).astype(np.int64)
        # Where the shift alone cannot bring a message to its size, weights do not fill their range.
        return shift, np.maximum(np.where(alone, 0.0, largest * np.exp2(shift) / grid.top), floor)


def largest_sums(connectivity: Connectivity, reach: Array) -> Array:
    """(C,) the largest size that a sum may have on sources of sizes up to ``reach``."""
    return row_sums(connectivity, -reach, reach)[1]


def by_channel(values: Array) -> Array:
    """(C,) the largest of each channel."""
    return np.asarray(values.reshape(len(values), -1).max(axis=1))


def effective_fan_in(connectivity: Connectivity, sizes: Array) -> float:
    """The largest sum of |weights| of a neuron, in units of the largest weight of its channel.

    Args:
        connectivity: of the reader.
        sizes: ``()`` or (source channels,) what the weights of each source channel are multiplied with first.
    """
    largest, highest = largest_products(connectivity, sizes), largest_sums(connectivity, sizes)
    return float((highest / np.where(largest > 0, largest, 1.0)).max(initial=1.0))


def _per_output(biases: list[Array], population: Population, factor: Array) -> Array:
    """Real biases of the population times a per-channel factor: (C,) or the full shape."""
    total: Array = np.zeros(population.shape[0])
    for bias in biases:
        wide = bias.ndim > 1 and total.ndim == 1
        total = (per_channel(total, population.shape) if wide else total) + bias
    if total.ndim > 1:
        return total * per_channel(factor, population.shape)
    return np.asarray(total * factor)
