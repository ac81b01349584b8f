"""Spiking networks in the target's integers: weights, thresholds, biases, with the proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    STATE_LIMIT,
    Fire,
    IdealIntegrator,
    Integrator,
    Neuron,
    Signed,
    Source,
    spike_levels,
)
from nmc.ir.reference import per_channel
from nmc.ir.verify_network import SHIFT_LIMIT
from nmc.kernels.propagate import largest_products, row_sums
from nmc.passes.base import Context
from nmc.passes.quantize.fixed_point import (
    WeightGrid,
    by_output,
    is_skip,
    mantissa_and_exponent,
    weight_grid,
)

UNIT = 64
"""Units of v per unit of a synaptic sum (the ``<< 6`` of docs/arithmetic.md)."""

SUM_LIMIT = STATE_LIMIT // UNIT - 1
"""|a| must stay below 2^17, or u would wrap."""

SKIP_LEVELS = 128
"""The smallest weight of a skip, in units: rounding to even numbers then costs under 1 %."""

SKIP_SHIFT_MAX = 6
"""Finer units than 1/64 of the weights' own gain nothing: the potential has 6 fractional bits."""

BITS_LOST = 3
"""Sums are shifted right where all weights would lose as many bits: every shift floors, in each step."""


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Integer projections of one population and the real value of one unit of their sum."""

    projections: tuple[Projection, ...]
    unit: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class QuantizeRate:
    """IF populations become LIF populations over the target's integers.

    Each output channel has its own unit: the largest weight of the channel fills the weight
    range, and threshold and bias are expressed in that unit. A skip whose weight is beyond
    the range takes a power of two (its projection's left shift). Where the worst case of a
    sum would wrap u, sums are shifted right until it cannot: the bound is interval
    arithmetic over the stored weights. Where the target stores fewer distinct thresholds
    per core, channels are rounded to that many levels and the rest of the scale moves into
    their weights.

    Attributes:
        bits: of a weight, sign included; None: all that the target stores.
        thresholds: distinct ones of a layer, at most; None: as many as a core holds. With fewer,
            layers can share cores.
    """

    bits: int | None = None
    thresholds: int | None = None

    name: ClassVar[str] = "quantize-rate"
    stage: ClassVar[str] = "quantize"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The integer network."""
        quantizer = Quantizer.of(program, context.target, self.bits, self.thresholds)
        populations: list[Population] = []
        projections: list[Projection] = []
        units: dict[str, Array] = {}
        for population in program.populations:
            incoming = program.incoming[population.name]
            neuron = population.neuron
            if isinstance(neuron, Source):
                populations.append(population)
                continue
            if not incoming:
                populations.append(input_neuron(population, program))
                continue
            stored = quantizer.store(population, incoming)
            projections.extend(stored.projections)
            populations.append(replace(population, neuron=stored.neuron))
            units[population.name] = stored.unit
        outputs = tuple(replace(s, scale=s.scale * units[s.population] / UNIT) for s in program.outputs)
        order = {p.name: number for number, p in enumerate(program.projections)}
        projections.sort(key=lambda p: order[p.name])
        return replace(program, populations=tuple(populations), projections=tuple(projections), outputs=outputs)


def _message_ranges(network: Network) -> Mapping[str, tuple[int, int]]:
    ranges = {}
    for population in network.populations:
        spec = network.by_input.get(population.name, network.input)
        ranges[population.name] = spike_levels(population.neuron) or (spec.low, spec.high)
    return ranges


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """A population as the target stores it.

    Attributes:
        projections: integer ones.
        unit: (C,) real value of one unit of their sum.
        neuron: over integers.
    """

    projections: tuple[Projection, ...]
    unit: Array
    neuron: Neuron


@dataclass(frozen=True, eq=False)
class Quantizer:
    """Turns populations over reals into what a target stores, one by one.

    Attributes:
        ranges: smallest and largest message of every population.
        grid: of the weights.
        target: its limits.
        timesteps: T.
    """

    ranges: Mapping[str, tuple[int, int]]
    grid: WeightGrid
    target: Target
    timesteps: int

    @classmethod
    def of(cls, network: Network, target: Target, bits: int | None, thresholds: int | None = None) -> Quantizer:
        """For a network; ``bits`` and ``thresholds`` as in `QuantizeRate`."""
        if thresholds is not None:
            most = max(min(thresholds, target.core.threshold_profiles or thresholds), 1)
            target = replace(target, core=replace(target.core, threshold_profiles=most))
        return cls(_message_ranges(network), weight_grid(target.weights, bits), target, network.timesteps)

    def store(self, population: Population, incoming: tuple[Projection, ...]) -> StoredLayer:
        """The population and its incoming projections over integers.

        Raises:
            NmcError: (exit 4) no unit fits.
        """
        fit = _Fit(population, incoming, self.ranges, self.grid, self.target, self.timesteps)
        scaled, neuron = fit.solve()
        return StoredLayer(scaled.projections, scaled.unit, neuron)


def input_neuron(population: Population, network: Network) -> Population:
    """The input population that its bias drives, over integers (unit: one count of q)."""
    neuron = population.neuron
    if not isinstance(neuron, IF):
        raise TypeError(f"{population.name} is not a spiking input")
    exponent = np.array(network.by_input[population.name].bias_exp, dtype=np.int64)
    threshold = np.maximum(np.rint(neuron.threshold * (1 << int(exponent)) / UNIT).astype(np.int64), 1)
    zero = np.zeros((), dtype=np.int64)
    fire = _in_units(neuron.fire, UNIT / 2.0 ** int(exponent))
    stored = LIF(threshold, zero, exponent, threshold * (UNIT // 2), reset=neuron.reset, fire=fire)
    return replace(population, neuron=stored)


def _in_units(fire: Fire, unit: Array | float) -> Fire:
    """The firing rule with its lower threshold as a mantissa."""
    if not isinstance(fire, Signed):
        return fire
    return replace(fire, lower=np.rint(fire.lower / unit).astype(np.int64))


@dataclass(frozen=True, eq=False)
class _Fit:
    """Finds the units of one population."""

    population: Population
    incoming: tuple[Projection, ...]
    ranges: Mapping[str, tuple[int, int]]
    grid: WeightGrid
    target: Target
    timesteps: int

    def solve(self) -> tuple[_Scaled, Neuron]:
        """The finest units in which weights, sums, threshold and bias all fit.

        Raises:
            NmcError: (exit 4) none do.
        """
        neuron = self.population.neuron
        unit = self._first_unit()
        finer, small = self._finer_by(unit), self._smaller_by(unit)
        # Sums are shifted left for the sake of a skip, or right for that of a bias or threshold.
        shift, unit = (-finer, unit) if finer else (small, unit / 2.0**small)
        exponent_min = self.target.weights.exponent_min
        for _ in range(64):
            scaled = self._scale(unit * 2.0**shift, shift)
            steps = self.timesteps if isinstance(neuron, IdealIntegrator) else 1
            worst = max(float(-scaled.low.min()), float(scaled.high.max())) * steps
            if worst >= SUM_LIMIT:
                if exponent_min is None or shift < -exponent_min:
                    shift += 1
                else:
                    unit = unit * 2
                continue
            stored = self._neuron(scaled)
            if stored is not None:
                if not self._weights_left(scaled):
                    break
                return scaled, stored
            if shift < 0:
                shift += 1
            else:
                unit = unit * 2
        limits = self.target.neurons
        raise NmcError.single(
            "no-scale-fits",
            f"{self.population.name}: no weight is left where its sums stay below {SUM_LIMIT + 1}, its thresholds "
            f"within {limits.threshold_max} and its biases within {limits.bias_mantissa_max} << "
            f"{limits.bias_exponent_max}",
            ExitCode.DOES_NOT_FIT,
            origin=self.population.origin,
            help="take a target with wider thresholds and biases, or rescale the layer's weights",
        )

    def _weights_left(self, scaled: _Scaled) -> bool:
        """Whether rounding left the population a weight, if it had one."""
        had = any(p.connectivity.weight.any() for p in self.incoming)
        return not had or any(p.connectivity.weight.any() for p in scaled.projections)

    def _main(self) -> tuple[Projection, ...]:
        main = tuple(p for p in self.incoming if not is_skip(p.connectivity))
        return main or self.incoming

    def _skips(self) -> tuple[Projection, ...]:
        main = self._main()
        return tuple(p for p in self.incoming if p not in main)

    def _first_unit(self) -> Array:
        """Real value of one unit, (C,): the largest weight of a channel fills the range."""
        largest = np.max([largest_products(p.connectivity) for p in self._main()], axis=0)
        largest = np.where(largest > 0, largest, largest.max() or 1.0)
        unit: Array = largest / self.grid.top
        exponent_max = self.target.weights.exponent_max
        if exponent_max is not None:
            for skip in self._skips():
                unit = np.maximum(unit, largest_products(skip.connectivity) / (self.grid.top * 2.0**exponent_max))
        neuron, limits = self.population.neuron, self.target.neurons
        # A channel of tiny weights would need a threshold or bias beyond its width.
        bias_max = limits.bias_mantissa_max << limits.bias_exponent_max
        if isinstance(neuron, IF | IdealIntegrator):
            unit = np.maximum(unit, self._by_channel(neuron.bias) * UNIT / (0.9 * bias_max))
        if isinstance(neuron, IF):
            threshold = self._by_channel(neuron.threshold)
            unit = np.maximum(unit, threshold / max(limits.threshold_max - 1, 1))
            profiles = self.target.core.threshold_profiles
            if profiles is not None:
                unit = _shared_thresholds(unit, threshold, profiles)
        return unit

    def _finer_by(self, unit: Array) -> int:
        """Left shift of the main sums, so that the weight of every skip is large enough to round well.

        A skip has one weight per channel; if it were 20 units, rounding to even numbers would
        change its gain by up to 5 %.
        """
        ratios = np.concatenate([np.zeros(0), *(largest_products(p.connectivity) / unit for p in self._skips())])
        ratios = ratios[ratios > 0]
        if not len(ratios):
            return 0
        wanted = min(max(int(np.ceil(np.log2(SKIP_LEVELS / ratios.min()))), 0), SKIP_SHIFT_MAX)
        limit = self.target.weights.exponent_max
        if limit is None:
            return wanted
        # The skip itself must stay within its own left shift.
        room = limit + int(np.floor(np.log2(self.grid.top / ratios.max()) + 1e-9))
        return max(min(wanted, limit, room), 0)

    def _smaller_by(self, unit: Array) -> int:
        """Right shift of the main sums with which the weights of a channel fill their range; 0 where few bits are lost.

        A bias or threshold that is far larger than the weights asks for a unit in which all of them
        round to little or nothing.
        """
        largest = np.max([largest_products(p.connectivity) for p in self._main()], axis=0)
        if not largest.any():
            return 0
        room = float((self.grid.top * unit[largest > 0] / largest[largest > 0]).min())
        exponent_min = self.target.weights.exponent_min
        lost = min(int(np.log2(room) + 1e-9), SHIFT_LIMIT if exponent_min is None else -exponent_min)
        return lost if lost >= BITS_LOST else 0

    def _by_channel(self, values: Array) -> Array:
        """Largest magnitude of a neuron parameter in each channel."""
        full = np.broadcast_to(per_channel(values, self.population.shape), self.population.shape)
        return np.asarray(np.abs(full).reshape(len(full), -1).max(axis=1))

    def _scale(self, unit: Array, shift: int) -> _Scaled:
        """Integer projections whose sums, shifted right by ``shift``, are in ``unit``."""
        main, done = self._main(), []
        low, high = np.zeros(len(unit)), np.zeros(len(unit))
        exponent_max = self.target.weights.exponent_max
        for projection in self.incoming:
            connectivity = projection.connectivity
            if projection in main:
                weight = connectivity.weight / by_output(connectivity, unit) * 2.0**shift
                shifts: Array = np.array(shift, dtype=np.int64)
            else:
                ratio = largest_products(connectivity) / unit / self.grid.top
                left = np.maximum(np.ceil(np.log2(np.maximum(ratio, 1e-300))), 0).astype(np.int64)
                if exponent_max is not None:
                    left = np.minimum(left, exponent_max)
                weight = connectivity.weight / by_output(connectivity, unit * np.exp2(left))
                shifts = -left if left.any() else np.zeros((), dtype=np.int64)
            stored = connectivity.with_weight(self.grid.round(weight))
            lowest, highest = row_sums(stored, *self.ranges[projection.source])
            factor = np.exp2(-shifts.astype(np.float64))
            low += np.floor(lowest * factor)
            high += np.floor(highest * factor)
            done.append(replace(projection, connectivity=stored, shift=shifts))
        return _Scaled(tuple(done), unit, low, high)

    def _neuron(self, scaled: _Scaled) -> Neuron | None:
        """The integer neuron, or None if a parameter does not fit its width."""
        shape, neuron, limits = self.population.shape, self.population.neuron, self.target.neurons
        unit = per_channel(scaled.unit, shape)
        # A right shift floors: half a unit per shifted projection puts the mean back.
        floors = sum(bool(np.any(p.shift > 0)) for p in scaled.projections)
        zero = np.zeros((), dtype=np.int64)
        match neuron:
            case IF():
                try:
                    mantissa, exponent = mantissa_and_exponent(neuron.bias / unit * UNIT + UNIT / 2 * floors, limits)
                except OverflowError:
                    return None
                threshold = np.maximum(np.rint(neuron.threshold / unit).astype(np.int64), 1)
                if threshold.max() > limits.threshold_max:
                    return None
                v0 = np.rint(neuron.v0 / unit * UNIT).astype(np.int64)
                fire = _in_units(neuron.fire, unit)
                return LIF(threshold, mantissa, exponent, v0, dv=neuron.dv, reset=neuron.reset, fire=fire)
            case IdealIntegrator():
                bias = neuron.bias / unit * UNIT + UNIT / 2 * floors
                try:
                    mantissa, exponent = mantissa_and_exponent(bias, limits)
                except OverflowError:
                    return None
                worst = np.maximum(-scaled.low, scaled.high) * self.timesteps
                held = per_channel(worst, shape) * UNIT + np.abs(bias) * self.timesteps
                if float(held.max()) >= SUM_LIMIT * UNIT:
                    return None
                return Integrator(mantissa, exponent, zero)
            case _:
                raise TypeError(f"{type(neuron).__name__} in a rate network")


def _shared_thresholds(unit: Array, threshold: Array, profiles: int) -> Array:
    """Wider units, so that at most ``profiles`` distinct thresholds remain.

    Levels are geometric between the smallest and largest threshold; each channel takes the
    nearest level below its own, so no weight grows beyond its range.
    """
    wanted = threshold / unit
    if len(np.unique(np.rint(wanted))) <= profiles:
        return unit
    levels = np.unique(np.rint(np.geomspace(wanted.min(), wanted.max(), profiles)))
    chosen = levels[np.maximum(np.searchsorted(levels, np.rint(wanted), side="right") - 1, 0)]
    return np.asarray(threshold / chosen)
