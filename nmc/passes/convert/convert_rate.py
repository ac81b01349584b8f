"""Rate coding: a value is a spike count over T steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, Connectivity
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import IF, Binary, Burst, Fire, IdealIntegrator, Reset, Signed
from nmc.ir.reference import per_channel
from nmc.kernels.propagate import to_channels_last
from nmc.kernels.statistics import best_thresholds
from nmc.passes.base import Context
from nmc.passes.convert.encode_input import encode_inputs
from nmc.passes.convert.units import Unit, read_units

CANDIDATES = (0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.43, 0.5, 0.58, 0.66, 0.74, 0.82, 0.91, 1.0)
"""Thresholds tried, relative to the largest activation of the channel."""

ZERO_RESET_CANDIDATES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""With reset to zero a higher threshold loses less at each spike but fires less often."""


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

    Neurons may send bursts, several spikes in a step, or take spikes back (signed): at
    once where v falls below 0, but never more than they have sent in the window.

    Attributes:
        timesteps: T.
        reset: what a spike does.
        levels: most spikes of a neuron in one step.
        signed: spikes of -1 too.
        threshold: ``min-error`` (least squared error of the count over the calibration
            activations) or ``percentile`` of the activations.
        percentile: for ``percentile``.
    """

    timesteps: int = 32
    reset: Reset = Reset.SUBTRACT
    levels: int = 1
    signed: bool = False
    threshold: str = "min-error"
    percentile: float = 99.9

    name: ClassVar[str] = "convert-rate"
    stage: ClassVar[str] = "convert"
    consumes: ClassVar[type[LayerGraph]] = LayerGraph
    produces: ClassVar[type[Network]] = Network

    def run(self, program: LayerGraph, context: Context) -> Network:
        """The spiking network over real weights.

        Raises:
            NmcError: the target has no integrate-and-fire neurons, or takes no input.
        """
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
        populations, projections = [entry.population for entry in encoded.values()], []
        for unit in units.units:
            for number, term in enumerate(unit.terms):
                connectivity = term.connectivity
                if term.source in encoded:
                    connectivity = encoded[term.source].adapt(connectivity)
                projections.append(
                    Projection(
                        f"{term.source}>{unit.name}" + (f"#{number}" if number else ""),
                        term.source,
                        unit.name,
                        scale_sources(connectivity, scales[term.source]),
                        term.origin,
                    )
                )
            if unit.relu:
                neuron, scales[unit.name] = self._neuron(unit, activations[unit.name], context)
                populations.append(Population(unit.name, unit.shape, neuron, unit.origin))
            else:
                scales[unit.name] = np.array(1.0)
                populations.append(Population(unit.name, unit.shape, IdealIntegrator(bias(unit)), unit.origin))
        outputs = units.output_specs(1.0 / self.timesteps)
        inputs = tuple(entry.spec for entry in encoded.values())
        return Network(program.name, tuple(populations), tuple(projections), inputs, outputs, self.timesteps, scales)

    def _neuron(self, unit: Unit, values: Array, context: Context) -> tuple[IF, Array]:
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
        gain = (1.0, 1.0) if subtract else (0.5, 8.0)
        if self.threshold == "percentile":
            level = np.percentile(flat, self.percentile, axis=0)
            candidates = np.where(level > 0, level, top)[None]
        else:
            grid = CANDIDATES if subtract else ZERO_RESET_CANDIDATES
            candidates = np.array(grid)[:, None] * top[None]
        # A burst counts as finely as that many more steps.
        steps = self.timesteps * self.levels
        threshold, scale = best_thresholds(flat, candidates, steps, subtract=subtract, gain_range=gain)
        bar = per_channel(threshold / self.levels, unit.shape)
        return IF(bar, bias(unit), bar / 2, self.reset, self._fire()), scale / self.levels

    def _fire(self) -> Fire:
        if self.signed:
            return Signed(np.zeros(()))
        return Burst(self.levels) if self.levels > 1 else Binary()


def bias(unit: Unit) -> Array:
    """A unit's bias, broadcastable to its shape."""
    return per_channel(unit.bias, unit.shape)
