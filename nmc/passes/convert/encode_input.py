"""The input: how a float sample reaches the chip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nmc.hardware.target import NeuronLimits, Target
from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, Shape, Sparse, size, sparse_from_synapses
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import Quantize
from nmc.ir.network import InputSpec, Population
from nmc.ir.neurons import IF, Reset, Source
from nmc.ir.samples import parted
from nmc.passes.convert.units import UnitInput, Units


@dataclass(frozen=True, eq=False)
class EncodedInput:
    """The input population.

    Attributes:
        scale: real value of one unit of its message (of one spike per step, for a
            spiking input).
    """

    population: Population
    spec: InputSpec
    scale: float

    def adapt(self, connectivity: Connectivity) -> Connectivity:
        """A connectivity that reads the input, for a sign-split population: [W, -W]."""
        if not self.spec.split_sign:
            return connectivity
        return split_sources(connectivity, self.population.shape)


def split_sources(connectivity: Connectivity, in_shape: Shape) -> Connectivity:
    """Reads max(x, 0) in the first half of the channels and max(-x, 0) in the second."""
    match connectivity:
        case Dense():
            weight = np.concatenate([connectivity.weight, -connectivity.weight], axis=1)
            return replace(connectivity, weight=weight, in_shape=in_shape)
        case Conv2d(groups=1):
            weight = np.concatenate([connectivity.weight, -connectivity.weight], axis=1)
            return replace(connectivity, weight=weight, in_shape=in_shape)
        case _:
            return _split_by_synapse(connectivity, in_shape)


def _split_by_synapse(connectivity: Connectivity, in_shape: Shape) -> Sparse:
    target, source, weight = connectivity.synapses()
    return sparse_from_synapses(
        np.concatenate([target, target]),
        np.concatenate([source, source + size(connectivity.in_shape)]),
        np.concatenate([weight, -weight]),
        in_shape,
        connectivity.out_shape,
    )


PIXEL_BITS = 8
"""Of an input message, where its resolution is not what counts."""


def encode_inputs(units: Units, samples: Array, target: Target, reset: Reset) -> dict[str, EncodedInput]:
    """`encode_input` for every input, by population.

    Args:
        units: the network.
        samples: (N, ...) float32 calibration inputs, those of several inputs joined.
        target: as in `encode_input`.
        reset: likewise.
    """
    parts = parted(samples, [entry.shape for entry in units.inputs])
    found = [encode_input(entry, part, target, reset) for entry, part in zip(units.inputs, parts, strict=True)]
    return {encoded.population.name: encoded for encoded in found}


def encode_input(
    entry: UnitInput,
    samples: Array,
    target: Target,
    reset: Reset,
    bits: int = PIXEL_BITS,
    code: Quantize | None = None,
) -> EncodedInput:
    """Choose the integer code of an input from the range of its calibration samples.

    Targets with graded messages get one message of at most ``input_bits`` per value and step
    (unsigned where no input is negative). Others get a population of spiking neurons
    driven by their bias; inputs with negative values then take two neurons each.

    Args:
        entry: the input.
        samples: (N, *shape of the input) float32.
        target: decides the code.
        reset: of a spiking input population.
        bits: of a message, if the target's messages have as many.
        code: how the file quantizes the input: its messages are the file's integers, less the zero
            point, where the target's messages hold them.

    Raises:
        NmcError: (exit 2) the target takes neither messages nor a bias.
    """
    low, high = float(samples.min()), float(samples.max())
    largest = max(abs(low), abs(high)) or 1.0
    signed, layer = low < 0, entry.layer
    shape = layer.shape
    bits = min(bits, target.messages.input_bits)
    if bits:
        source, scale, least, most = _message_code(signed, largest, bits, code, target)
        spec = InputSpec(layer.name, entry.shape, scale, least, most, "message", perm=entry.perm, name=entry.name)
        return EncodedInput(Population(layer.name, shape, source, layer.origin), spec, scale)
    top, exponent, bar = _drive(target, reset)
    if signed:
        shape = (2 * shape[0], *shape[1:])
    spec = InputSpec(
        layer.name,
        entry.shape,
        largest / top,
        -top if signed else 0,
        top,
        "bias",
        split_sign=signed,
        bias_exp=exponent,
        perm=entry.perm,
        name=entry.name,
    )
    threshold = np.array(bar)
    neuron = IF(threshold, np.zeros(()), threshold / 2, reset)
    return EncodedInput(Population(layer.name, shape, neuron, layer.origin), spec, largest * bar / top)


def _message_code(
    signed: bool, largest: float, bits: int, code: Quantize | None, target: Target
) -> tuple[Source, float, int, int]:
    """The messages of an input, the real value of one unit, and the ends of their range."""
    if code is not None:
        least, most = code.low - code.zero_point, code.high - code.zero_point
        signed_file = least < 0
        width = max(most.bit_length(), (-least - 1).bit_length() if signed_file else 0) + signed_file
        if width <= target.messages.input_bits:
            return Source(width, signed_file), code.scale, least, most
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    return Source(bits, signed), largest / top, -top - 1 if signed else 0, top


DRIVE_MAX = 255
"""The drive of a pixel is a bias mantissa of 8 bits, as pixels are."""


def _drive(target: Target, reset: Reset) -> tuple[int, int, float]:
    """Of an input that its bias drives: the largest mantissa, its exponent, and the threshold.

    With reset to zero a spike loses what is above the threshold, so the threshold is four times
    the largest drive: at most 1/4 of the steps fire, and the loss is at most one drive in four.
    The threshold is given in units of the mantissa and is one that a LIF can store: a multiple
    of 64 units of v, so that a spike has exactly the value that its readers take it for. It
    is below the largest drive, because the compare of a LIF is strict.

    Raises:
        NmcError: (exit 2) the target has no bias.
    """
    limits: NeuronLimits = target.neurons
    top = min(DRIVE_MAX, limits.bias_mantissa_max)
    if top < 1:
        raise NmcError.single(
            "coding-not-on-target",
            f"{target.name} takes no input: messages.input_bits is {target.messages.input_bits} and "
            f"neurons.bias_mantissa_max is {limits.bias_mantissa_max}",
            ExitCode.USAGE,
            help="the target file must name one of them",
        )
    ratio = 1 if reset is Reset.SUBTRACT else 4
    exponent = min(6, limits.bias_exponent_max)
    while exponent and ((top * ratio << exponent) - 1) // 64 > limits.threshold_max:
        exponent -= 1
    stored = min(max(((top * ratio << exponent) - 1) // 64, 1), limits.threshold_max)
    return top, exponent, stored * 64 / (1 << exponent)
