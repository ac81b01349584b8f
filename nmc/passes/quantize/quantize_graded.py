"""Graded networks in the target's integers: a quantized network in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, Skip
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import Graded, Source
from nmc.ir.reference import encode, per_channel
from nmc.kernels.layerwise import analog
from nmc.kernels.propagate import from_channels_last, row_sums
from nmc.passes.base import Context
from nmc.passes.quantize.fixed_point import WeightGrid, by_output, largest_by_channel, weight_grid

MARGIN = 4
"""Messages are assumed to stay within this many times their calibrated range."""

SHIFT_MIN = -7
"""Coarser weights than this gain nothing: every message would drive 2^7 times its own unit."""

SHIFT_MAX = 20
"""Finer scales than this gain nothing: sums would pass 2^23 first."""


@dataclass(frozen=True)
class QuantizeGraded:
    """Activations become integer messages, weights the target's integers.

    Channel c of a population has the scale s_c: its message is ``round(y / s_c)``, computed as
    ``(W m + b + half) >> k_c``. k_c is the largest shift for which the weights of the channel fit;
    s_c is then the scale at which its largest weight fills the range exactly, so messages
    reach between ``levels`` and ``2 * levels`` at the calibrated maximum. Nothing clips.

    Attributes:
        bits: of a weight, sign included; None: all that the target stores.
        levels: smallest message at the calibrated maximum; fewer where the target's
            messages could not carry `MARGIN` times twice as many.
    """

    bits: int | None = None
    levels: int = 255

    name: ClassVar[str] = "quantize-graded"
    stage: ClassVar[str] = "quantize"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The integer network; sums that may pass 2^31 are errors."""
        grid = weight_grid(context.target.weights, self.bits)
        bits = context.target.messages.graded_bits
        fit = _Fit.of(context.target, grid, self.levels)
        top = _largest_drives(program, encode(program, context.calibration.inputs))
        scales: dict[str, Array] = {}
        reach: dict[str, float] = {}
        populations: list[Population] = []
        projections: dict[str, Projection] = {}
        for population in program.populations:
            populations.append(population)
            if isinstance(population.neuron, Source):
                # The scale of the input is folded into the weights already.
                scales[population.name] = np.array(1.0)
                reach[population.name] = float(max(-program.input.low, program.input.high))
                continue
            incoming = program.incoming[population.name]
            stored, scale = fit.solve(population, incoming, scales, top[population.name])
            for projection in stored:
                projections[projection.name] = projection
                _prove(projection, reach[projection.source], context)
            scales[population.name] = scale
            reach[population.name] = float((top[population.name] / scale).max()) * MARGIN
        hidden = max(value for name, value in reach.items() if name not in program.read_outs)
        context.diagnostics.note(
            "graded-range-assumed",
            f"messages are assumed to stay within {MARGIN} times their calibrated range "
            f"(largest {hidden / MARGIN:.0f} of {2 ** (bits - 1) - 1}); the simulator counts "
            "sums beyond 2^31",
        )
        real = {name: program.scales[name] * scale for name, scale in scales.items()}
        outputs = tuple(replace(spec, scale=scales[spec.population]) for spec in program.outputs)
        ordered = tuple(projections[p.name] for p in program.projections)
        return replace(program, populations=tuple(populations), projections=ordered, scales=real, outputs=outputs)


def _largest_drives(network: Network, inputs: Array) -> Mapping[str, Array]:
    """Largest |activation| of each channel on the calibration inputs."""
    top = {}
    for step in analog(network, inputs):
        shape = step.population.shape
        drive = from_channels_last(step.drive, shape).reshape(len(inputs), shape[0], -1)
        size = np.abs(drive).max(axis=(0, 2))
        largest = size if isinstance(step.population.neuron, Graded) else drive.max(axis=(0, 2))
        # A channel that never was active: the size of what it holds back sets its scale.
        largest = np.where(largest > 0, largest, size)
        top[step.population.name] = np.where(largest > 0, largest, 1.0)
    return top


@dataclass(frozen=True)
class _Fit:
    """Finds the scales of one population.

    Attributes:
        levels: wanted of a message at the calibrated maximum.
        widest: the largest message at the calibrated maximum that leaves room for `MARGIN`.
        shift_min, shift_max: right shifts that the target has and that are worth having.
    """

    grid: WeightGrid
    levels: int
    widest: float
    shift_min: int
    shift_max: int

    @classmethod
    def of(cls, target: Target, grid: WeightGrid, levels: int) -> _Fit:
        """The fit for a target's messages and exponents."""
        limits, largest = target.weights, 2 ** (target.messages.graded_bits - 1) - 1
        low = SHIFT_MIN if limits.exponent_max is None else max(SHIFT_MIN, -limits.exponent_max)
        high = SHIFT_MAX if limits.exponent_min is None else min(SHIFT_MAX, -limits.exponent_min)
        return cls(grid, max(min(levels, largest // (2 * MARGIN)), 1), max(largest / MARGIN, 1.0), low, high)

    def solve(
        self, population: Population, incoming: tuple[Projection, ...], scales: Mapping[str, Array], top: Array
    ) -> tuple[list[Projection], Array]:
        """Integer projections of one population, and its scale per channel."""
        real = [_in_source_units(p, scales[p.source]) for p in incoming]
        main = [p for p in real if not isinstance(p.connectivity, Skip)] or real
        skips = [p for p in real if p not in main]
        shift, scale = self._scale(population, main, skips, top)
        biases = [p.bias for p in real if p.bias is not None]
        stored = []
        for projection in real:
            connectivity = projection.connectivity
            if projection in main:
                own = shift
            else:
                room = self.grid.top / np.maximum(largest_by_channel(connectivity) / scale, 1e-300)
                # A skip as large as the scale allows has exactly this room: no rounding may lose it.
                exact = np.floor(np.log2(room) + 1e-9)
                own = np.clip(exact, self.shift_min, self.shift_max).astype(np.int64)
            weight = self.grid.round(connectivity.weight * by_output(connectivity, np.exp2(own) / scale))
            # Half a message turns the floor of each shifted sum into rounding; a sum of zero stays zero.
            half = (np.exp2(own - 1) * (own > 0)).astype(np.int64)
            bias: Array | None = half if half.any() else None
            if projection is main[0]:
                drive = np.rint(_per_output(biases, population, np.exp2(own) / scale)).astype(np.int64)
                bias = drive + (per_channel(half, population.shape) if drive.ndim > 1 else half)
            stored.append(replace(projection, connectivity=connectivity.with_weight(weight), shift=own, bias=bias))
        return stored, scale

    def _scale(
        self, population: Population, main: list[Projection], skips: list[Projection], top: Array
    ) -> tuple[Array, Array]:
        """The shift of the main sums and the real value of one unit of the message, by channel."""
        grid = self.grid
        largest = np.max([largest_by_channel(p.connectivity) for p in main], axis=0)
        largest = np.where(largest > 0, largest, largest.max() or 1.0)
        if isinstance(population.neuron, Graded):
            # The read-out keeps the whole sum, but for what a message cannot carry.
            exact, low = np.ceil(np.log2(grid.top * (top / largest) / self.widest)), 0
            floor = top / self.widest
        else:
            exact, low = np.floor(np.log2(grid.top * (top / self.levels) / largest)), self.shift_min
            # A channel that its bias drives, its weights being tiny, keeps messages of the common size.
            floor = top / (2 * self.levels)
        shift = np.clip(exact, min(low, self.shift_max), self.shift_max).astype(np.int64)
        # Where the shift alone cannot bring a message to its size, weights do not fill their range.
        scale = np.maximum(largest * np.exp2(shift) / grid.top, floor)
        for skip in skips:
            scale = np.maximum(scale, largest_by_channel(skip.connectivity) * 2.0**self.shift_min / grid.top)
        return shift, scale


def _in_source_units(projection: Projection, scale: Array) -> Projection:
    """The projection with weights per unit of the source's integer message."""
    connectivity = projection.connectivity
    if scale.ndim == 0:
        return replace(projection, connectivity=connectivity.with_weight(connectivity.weight * scale))
    weight = connectivity.weight * scale[connectivity.column_channel()]
    return replace(projection, connectivity=connectivity.with_weight(weight))


def _per_output(biases: list[Array], population: Population, factor: Array) -> Array:
    """Real biases of the population times a per-channel factor: (C,) or the full shape."""
    total: Array = np.zeros(population.shape[0])
    for bias in biases:
        wide = bias.ndim > 1 and total.ndim == 1
        total = (per_channel(total, population.shape) if wide else total) + bias
    if total.ndim > 1:
        return total * per_channel(factor, population.shape)
    return np.asarray(total * factor)


def _prove(projection: Projection, reach: float, context: Context) -> None:
    low, high = row_sums(projection.connectivity, -reach, reach)
    bias = 0.0 if projection.bias is None else float(np.abs(projection.bias).max())
    worst = max(float(-low.min()), float(high.max())) + bias
    if worst >= 2**31:
        context.diagnostics.error(
            "accumulator-overflow",
            f"a sum of {projection.name} may reach {worst:.3g}, above 2^31",
            origin=projection.origin,
            help="calibrate with data in the range of use, or use --coding rate",
        )
