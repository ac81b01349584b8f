"""Rate coding: a value is a spike count over T steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, Connectivity
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import IF, NO_MEMORY, Binary, Burst, Fire, IdealIntegrator, Reset, Signed
from nmc.ir.reference import per_channel
from nmc.kernels.propagate import to_channels_last
from nmc.kernels.statistics import best_thresholds
from nmc.passes.base import Context
from nmc.passes.convert.encode_input import EncodedInput, encode_inputs
from nmc.passes.convert.thresholds import RULES, Balancer, input_ratio, min_error, percentile
from nmc.passes.convert.units import Unit, Units, read_units


def scale_sources(connectivity: Connectivity, scale: Array) -> Connectivity:
    """Weights times the real value of one message of the input channel they read; the same object where that is 1."""
    if np.all(scale == 1):
        return connectivity
    if scale.ndim == 0:
        return connectivity.with_weight(connectivity.weight * scale)
    return connectivity.with_weight(connectivity.weight * scale[connectivity.column_channel()])


@dataclass(frozen=True)
class ConvertRate:
    """ReLU layers become integrate-and-fire neurons with a threshold per channel.

    A spike of channel c stands for ``scale_c / T``; the scale is folded into the weights
    that read it. With subtractive reset the scale is the threshold; with reset to zero it
    is the least-squares gain of the neuron's response to constant drive, because a spike
    then loses what is above the threshold. The initial potential is half a threshold, so
    that counts round instead of flooring.

    Neurons that leak fire by the rate curve of the LIF neuron: thresholds and scales are fitted
    to it, on the assumption of a bias that makes up for what leaks of half a threshold; that
    bias is found with all others by calibrate-layers, on the spikes that arrive.

    Neurons may send bursts, several spikes in a step, or take spikes back (signed): at
    once where v falls below 0, but never more than they have sent in the window.

    Attributes:
        timesteps: T.
        reset: what a spike does.
        levels: most spikes of a neuron in one step.
        signed: spikes of -1 too.
        threshold: ``min-error`` (least squared error of the count over the calibration
            activations), ``maximum`` or ``percentile`` of the activations, ``balancing`` (the
            largest sum of a step in simulation), or ``ratio`` (a power of two next to the largest
            input); `nmc.passes.convert.thresholds` has the sources. calibrate-layers searches
            thresholds of its own, unless its rounds are 0.
        percentile: for ``percentile``.
        initial: potential at the start of the window, in thresholds: 0.5 rounds, 0 floors.
        decay: of the potential in a step, in 1/4096 of it (the 12 bits of Loihi's ``dv``); inputs do
            not leak.
    """

    timesteps: int = 32
    reset: Reset = Reset.SUBTRACT
    levels: int = 1
    signed: bool = False
    threshold: str = "min-error"
    percentile: float = 99.9
    initial: float = 0.5
    decay: int = 0

    name: ClassVar[str] = "convert-rate"
    stage: ClassVar[str] = "convert"
    consumes: ClassVar[type[LayerGraph]] = LayerGraph
    produces: ClassVar[type[Network]] = Network

    def run(self, program: LayerGraph, context: Context) -> Network:
        """The spiking network over real weights.

        Raises:
            NmcError: the target has no integrate-and-fire neurons, or takes no input; an option is out of range.
        """
        self._check()
        if "lif" not in context.target.neurons.models:
            raise NmcError.single(
                "coding-not-on-target",
                f"{context.target.name} has no LIF neurons (neurons: {', '.join(context.target.neurons.models)})",
                ExitCode.USAGE,
                help="use --coding graded, or a target with LIF neurons (`nmc targets`)",
            )
        units = read_units(program)
        encoded = encode_inputs(units, context.calibration.inputs, context.target, self.reset)
        hidden = [unit.name for unit in units.units if unit.relu]
        activations = context.calibration.activations(hidden)
        scales: dict[str, Array] = {name: np.array(entry.scale) for name, entry in encoded.items()}
        populations, projections = [entry.population for entry in encoded.values()], list[Projection]()
        balancer = self._balancer(program.name, units, encoded, context) if self.threshold == "balancing" else None
        for unit in units.units:
            incoming = _incoming(unit, encoded, scales)
            projections.extend(incoming)
            if unit.relu:
                sources = _Sources(incoming, balancer)
                neuron, scales[unit.name] = self._neuron(unit, activations[unit.name], context, sources)
                populations.append(Population(unit.name, unit.shape, neuron, unit.origin))
                if balancer is not None:
                    balancer.send(populations[-1], incoming)
            else:
                scales[unit.name] = np.array(1.0)
                populations.append(Population(unit.name, unit.shape, IdealIntegrator(bias(unit)), unit.origin))
        outputs = units.output_specs(1.0 / self.timesteps)
        inputs = tuple(entry.spec for entry in encoded.values())
        return Network(program.name, tuple(populations), tuple(projections), inputs, outputs, self.timesteps, scales)

    def _check(self) -> None:
        """Raises ``option-invalid`` for all options that are out of range."""
        sink = DiagnosticSink()
        if self.threshold not in RULES:
            message = f"--set {self.name}.threshold={self.threshold}: no such rule"
            sink.error("option-invalid", message, help=f"rules: {', '.join(RULES)}")
        for option, value, low, high in (
            ("percentile", self.percentile, 0.0, 100.0),
            ("initial", self.initial, 0.0, 1.0),
            ("decay", float(self.decay), 0.0, float(NO_MEMORY)),
        ):
            if not low <= value <= high:
                message = f"--set {self.name}.{option}={value:g} is not from {low:g} to {high:g}"
                sink.error("option-invalid", message)
        sink.raise_errors(ExitCode.USAGE)

    def _balancer(self, name: str, units: Units, encoded: dict[str, EncodedInput], context: Context) -> Balancer:
        inputs, populations = (tuple(getattr(e, part) for e in encoded.values()) for part in ("spec", "population"))
        begun = Network(name, populations, (), inputs, units.output_specs(1.0), self.timesteps, {})
        return Balancer.start(begun, context.calibration.inputs)

    def _neuron(self, unit: Unit, values: Array, context: Context, sources: _Sources) -> tuple[IF, Array]:
        """The neuron of a unit, and the real value of one spike per step, per channel."""
        flat = to_channels_last(values, unit.shape).reshape(-1, unit.shape[0]).astype(np.float64)
        top = flat.max(axis=0)
        silent = top <= 0
        if silent.all():
            context.diagnostics.warning(
                "layer-silent",
                f"no neuron of {unit.name} is active on any of the {len(values)} calibration samples",
                origin=unit.origin,
                help="give calibration data that the network was trained on, with --calib",
            )
        # A channel that never was active gets the layer's largest range: it stays silent at no cost.
        top = np.where(silent, top.max() or 1.0, top)
        subtract = self.reset is Reset.SUBTRACT
        gain = (1.0, 1.0) if subtract and not self.decay else (0.5, 8.0)
        candidates = self._candidates(unit, flat, top, sources)
        # A burst counts as finely as that many more steps.
        steps, leak = self.timesteps * self.levels, 1.0 - (1.0 - self.decay / 4096) ** (1 / self.levels)
        threshold, scale = best_thresholds(
            flat, candidates, steps, subtract=subtract, gain_range=gain, start=self.initial, leak=leak
        )
        bar = per_channel(threshold / self.levels, unit.shape)
        neuron = IF(bar, bias(unit), bar * self.initial, self.reset, self._fire(), self.decay)
        return neuron, scale / self.levels

    def _candidates(self, unit: Unit, flat: Array, top: Array, sources: _Sources) -> Array:
        """(F, C) thresholds to choose from, of a neuron that sends one spike a step."""
        match self.threshold:
            case "maximum":
                return percentile(flat, top, 100.0)
            case "percentile":
                return percentile(flat, top, self.percentile)
            case "balancing":
                return np.full((1, len(top)), sources.largest_sum(unit) or float(top.max()))
            case "ratio":
                return input_ratio(top, sources.incoming, unit.bias, self.reset)
            case _:
                return min_error(top, self.reset)

    def _fire(self) -> Fire:
        if self.signed:
            return Signed(np.zeros(()))
        return Burst(self.levels) if self.levels > 1 else Binary()


@dataclass(frozen=True, eq=False)
class _Sources:
    """Where a layer's drive comes from: what some rules for thresholds look at beside its activations."""

    incoming: tuple[Projection, ...]
    balancer: Balancer | None

    def largest_sum(self, unit: Unit) -> float:
        """The largest sum of a step in simulation; 0 where there is none above."""
        if self.balancer is None:
            raise ValueError("no balancer")
        population = Population(unit.name, unit.shape, IdealIntegrator(bias(unit)), unit.origin)
        return max(self.balancer.threshold(population, self.incoming, bias(unit)), 0.0)


def _incoming(unit: Unit, encoded: dict[str, EncodedInput], scales: dict[str, Array]) -> tuple[Projection, ...]:
    """A unit's projections, with the real value of their sources' messages folded in."""
    found = []
    for number, term in enumerate(unit.terms):
        connectivity = term.connectivity
        if term.source in encoded:
            connectivity = encoded[term.source].adapt(connectivity)
        connectivity = scale_sources(connectivity, scales[term.source])
        name = f"{term.source}>{unit.name}" + (f"#{number}" if number else "")
        found.append(Projection(name, term.source, unit.name, connectivity, term.origin))
    return tuple(found)


def bias(unit: Unit) -> Array:
    """A unit's bias, broadcastable to its shape."""
    return per_channel(unit.bias, unit.shape)
