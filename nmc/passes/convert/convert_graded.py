"""Graded coding: the message carries the quantized activation, one step per inference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.network import REST, Network, Population, Projection
from nmc.ir.neurons import Graded, GradedReLU, Neuron, Reset
from nmc.ir.samples import parted
from nmc.passes.base import Context
from nmc.passes.convert.convert_rate import scale_sources
from nmc.passes.convert.encode_input import encode_input
from nmc.passes.convert.follow_codes import Followed, follow_codes
from nmc.passes.convert.units import UnitInput, Units, read_units
from nmc.passes.quantize.fit_graded import effective_fan_in, sum_limit
from nmc.passes.quantize.fixed_point import weight_grid


@dataclass(frozen=True)
class ConvertGraded:
    """ReLU layers become graded ReLU neurons; the bias is added to the first projection's sum.

    Where the file brings a quantization along, messages are its integers: what it rounds is rounded
    by a population that reads finer sums (`follow_codes`).

    Attributes:
        bits: of a weight, as `QuantizeGraded` has them.
        follow: let the codes of the file decide; otherwise they are no more than a hint to the quantization.
    """

    bits: int | None = None
    follow: bool = True

    name: ClassVar[str] = "convert-graded"
    stage: ClassVar[str] = "convert"
    consumes: ClassVar[type[LayerGraph]] = LayerGraph
    produces: ClassVar[type[Network]] = Network

    def run(self, program: LayerGraph, context: Context) -> Network:
        """The graded network over real weights.

        Raises:
            NmcError: the target has no graded messages.
        """
        target = context.target
        messages = target.messages
        if "graded-relu" not in target.neurons.models or not (messages.graded_bits and messages.input_bits):
            raise NmcError.single(
                "coding-not-on-target",
                f"{target.name} has no graded messages (graded_bits = {messages.graded_bits}, "
                f"input_bits = {messages.input_bits}, neurons: {', '.join(target.neurons.models)})",
                ExitCode.USAGE,
                help="use --coding rate, or a target with graded messages (`nmc targets`)",
            )
        units = read_units(program)
        parts = parted(context.calibration.inputs, [entry.shape for entry in units.inputs])
        encoded = [
            encode_input(
                entry, part, target, Reset.SUBTRACT, _input_bits(units, entry, target), program.codes.get(layer.name)
            )
            for layer, entry, part in zip(program.inputs, units.inputs, parts, strict=True)
        ]
        scales: dict[str, Array] = {entry.population.name: np.array(entry.scale) for entry in encoded}
        followed = Followed(units, program.codes, frozenset())
        if self.follow and program.codes:
            sent = {entry.population.name: entry.scale for entry in encoded}
            grid = weight_grid(target.weights, self.bits)
            followed = follow_codes(units, program.codes, sent, target, grid)
        populations, projections = [entry.population for entry in encoded], []
        for unit in followed.units.units:
            for number, term in enumerate(unit.terms):
                projection = Projection(
                    f"{term.source}>{unit.name}" + (f"#{number}" if number else ""),
                    term.source,
                    unit.name,
                    scale_sources(term.connectivity, scales[term.source]),
                    term.origin,
                    bias=unit.bias if number == 0 else None,
                )
                projections.append(projection)
                if unit.name in followed.fine:
                    projections.append(_rest_of(projection))
            scales[unit.name] = np.array(1.0)
            neuron: Neuron = GradedReLU() if unit.relu else Graded()
            populations.append(Population(unit.name, unit.shape, neuron, unit.origin))
        outputs = units.output_specs(1.0)
        inputs = tuple(entry.spec for entry in encoded)
        ends = (inputs, outputs, 1, scales, followed.codes)
        return Network(program.name, tuple(populations), tuple(projections), *ends)


def _rest_of(projection: Projection) -> Projection:
    """A second projection along the same synapses, for what the first one's stored weights leave: 0 over reals."""
    connectivity = projection.connectivity
    nothing = connectivity.with_weight(np.zeros(connectivity.weight.shape))
    return replace(projection, name=projection.name + REST, connectivity=nothing, bias=None)


def _input_bits(units: Units, entry: UnitInput, target: Target) -> int:
    """Bits of an input message: as many as the target has, as long as no sum of a reader may be too large."""
    top = min(target.weights.high, -target.weights.low)
    readers = (term.connectivity for unit in units.units for term in unit.terms if term.source == entry.layer.name)
    fan_in = max((effective_fan_in(reader, np.ones(())) for reader in readers), default=1.0)
    # Half of the sum is left to the bias.
    room = int(np.log2(sum_limit(target) / (2 * max(top, 1) * fan_in)))
    return max(min(target.messages.input_bits, room), 1)
