"""Graded networks in the target's integers: a quantized network in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import Graded
from nmc.ir.reference import encode, per_channel
from nmc.kernels.layerwise import AnalogStep, LaidProjection, analog, joined_channels_last
from nmc.kernels.parallel import parallel
from nmc.kernels.propagate import from_channels_last, row_sums, to_channels_last
from nmc.kernels.statistics import column_means
from nmc.passes.base import Context
from nmc.passes.quantize.clip_weights import coarse
from nmc.passes.quantize.fit_graded import MARGIN, Fitted, GradedFit, by_channel, sum_limit
from nmc.passes.quantize.fixed_point import weight_grid
from nmc.passes.quantize.prescribed import fit_prescribed, prescribed_step
from nmc.passes.quantize.refit_graded import refit_graded
from nmc.passes.quantize.whole_weights import WholeFit

PRIOR_SAMPLES = 8
"""Weight of the layer's spread of errors in that of a channel."""

SAMPLES = (64, 256)
"""Fewest and most calibration samples used."""

VALUES_MAX = 1 << 24
"""Messages of all samples together that should do: larger networks have more positions to learn from."""

COARSE_SAMPLES = (64, 512)
COARSE_VALUES_MAX = 1 << 27
"""The same where weights have few bits and are fitted again. Measured on ResNet-20 with 4 bits, in error variance of
the logits (512 other images): .0153 with weights rounded as they are, .0091 with steps searched, .0083 fitted again
on 256 samples, .0070 on 512."""


@dataclass(frozen=True)
class QuantizeGraded:
    """Activations become integer messages, weights the target's integers.

    Channel c of a population has the scale s_c: its message is ``round(y / s_c)``, computed as
    ``(W m + b + half) >> k_c``. k_c is the largest shift for which the weights of the channel fit;
    s_c is then near the scale at which its largest weight fills the range exactly, so messages
    reach between ``levels`` and about ``2 * levels`` at the calibrated maximum. Nothing clips.

    Layer by layer, on the messages that the layers before really send: weights are rounded so
    that their errors cancel on the calibration inputs, the scale is the one at which they
    do that best, and the mean error that is left goes into the bias.

    Attributes:
        bits: of a weight, sign included; None: all that the target stores.
        levels: smallest message at the calibrated maximum; fewer where the target's messages could
            not carry `MARGIN` times twice as many, or the sums of a reader might reach 2^31.
        samples: calibration samples used; 0: as many as the size of the network asks for.
        refit: with at most 6 bits: steps are narrower than the largest weight of a channel asks for where that
            leaves less error, and weights are fitted again to what the layers before really send.
    """

    bits: int | None = None
    levels: int = 1023
    samples: int = 0
    refit: bool = True

    name: ClassVar[str] = "quantize-graded"
    stage: ClassVar[str] = "quantize"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The integer network; sums that may pass 2^31 are errors."""
        bits = context.target.messages.graded_bits
        fit = GradedFit.of(context.target, weight_grid(context.target.weights, self.bits), self.levels, self.refit)
        few = self.refit and coarse(fit.grid)
        inputs = encode(program, context.calibration.inputs[: self.samples or _samples(program, few)])
        entries, flat = program.by_input, joined_channels_last(program, inputs)
        # The scales of inputs are folded into the weights already.
        scales: dict[str, Array] = {name: np.array(1.0) for name in entries}
        ranges = {name: (np.array(float(spec.low)), np.array(float(spec.high))) for name, spec in entries.items()}
        messages = {name: np.ascontiguousarray(flat[:, place]) for name, place in program.input_places.items()}
        left = {name: len(outgoing) for name, outgoing in program.outgoing.items()}
        projections: dict[str, Projection] = {}
        imported: dict[str, WholeFit | None] = {}
        apart: dict[str, float] = {}
        for step in analog(program, inputs):
            name = step.population.name
            top = _largest_drives(step.population, step.drive)
            reach = {source: np.maximum(np.abs(low), np.abs(high)) for source, (low, high) in ranges.items()}
            fitted, fine = self._fitted(program, step, fit, _Sources(scales, messages, reach, top), context)
            if fine is not None:
                apart[name] = fine
            imported[name] = fitted.whole
            scale = fitted.scale
            stored, drive = _without_mean_error(step, fitted, messages)
            for projection in stored:
                projections[projection.name] = projection
                prove_sums(projection, *ranges[projection.source], context)
                left[projection.source] -= 1
                if left[projection.source] == 0:
                    del messages[projection.source]
            scales[name] = scale
            linear = isinstance(step.population.neuron, Graded)
            ranges[name] = (-MARGIN * top / scale if linear else 0.0 * top, MARGIN * top / scale)
            if left[name]:
                messages[name] = drive if linear else np.maximum(drive, 0)
        hidden = max(float(high.max()) for name, (_, high) in ranges.items() if name not in program.read_outs)
        context.diagnostics.note(
            "graded-range-assumed",
            f"messages are assumed to stay within {MARGIN} times their calibrated range "
            f"(largest {hidden / MARGIN:.0f} of {2 ** (bits - 1) - 1}); the simulator counts "
            "sums beyond 2^31",
        )
        if program.codes:
            _note_imported(program, imported, apart, context)
        real = {name: program.scales[name] * scale for name, scale in scales.items()}
        outputs = tuple(replace(spec, scale=scales[spec.population]) for spec in program.outputs)
        ordered = tuple(projections[p.name] for p in program.projections)
        return replace(program, projections=ordered, scales=real, outputs=outputs)

    def _fitted(
        self, program: Network, step: AnalogStep, fit: GradedFit, sources: _Sources, context: Context
    ) -> tuple[Fitted, float | None]:
        """The integers of one population; of fine sums, how far they may be off too."""
        population, messages = step.population, sources.messages
        incoming = program.incoming[population.name]
        own = prescribed_step(program, population)
        given = sources.scales, messages, sources.reach
        fine = None if own is None else fit_prescribed(fit, population, incoming, *given, sources.top, own)
        if fine is not None:
            return fine
        readers = tuple(p.connectivity for p in program.outgoing[population.name])
        fitted = fit.solve(
            population, incoming, readers, sources.scales, sources.top, messages, sources.reach, program.codes
        )
        if fitted.whole is not None or not (self.refit and coarse(fit.grid)):
            return fitted, None
        generator = context.generator(f"quantize-graded:{population.name}")
        return refit_graded(step, incoming, fitted, sources.scales, messages, fit.grid, generator), None


@dataclass(frozen=True, eq=False)
class _Sources:
    """What the layers before send.

    Attributes:
        scales, messages, reach: by source, as `GradedFit.solve` takes them.
        top: (C,) largest activation of each channel of the population that they lead to.
    """

    scales: Mapping[str, Array]
    messages: Mapping[str, Array]
    reach: Mapping[str, Array]
    top: Array


def _note_imported(
    network: Network, imported: Mapping[str, WholeFit | None], apart: Mapping[str, float], context: Context
) -> None:
    """Say how far the file's own integers are those of the program.

    Args:
        network: over reals.
        imported: by population, whether it stores and sends integers of the file.
        apart: by population with fine sums, how far they may be off.
        context: takes the note.
    """
    coded = [name for name in imported if name in network.codes and network.incoming[name] and name not in apart]
    sent = [name for name in coded if (fit := imported[name]) is not None and fit.of_file]
    worst = max((off / _step_behind(network, name) for name, off in apart.items()), default=0.0)
    fine = f", {len(apart)} more make the sums that they round, right to {worst:.2g} of a step of the file"
    others = [name for name in coded if name not in sent]
    why = f"; the others, beginning with {others[0]}, have messages with steps of their own" if others else ""
    context.diagnostics.note(
        "quantization-imported",
        f"{len(sent)} of {len(coded)} populations whose values the file quantizes send its integers (ties are rounded "
        f"up, not to even){fine if apart else ''}{why}",
    )


def _step_behind(network: Network, fine: str) -> float:
    """The step of the file that a fine sum is rounded to."""
    return network.codes[network.outgoing[fine][0].target].scale


def _samples(network: Network, few_bits: bool) -> int:
    fewest, most = COARSE_SAMPLES if few_bits else SAMPLES
    values = COARSE_VALUES_MAX if few_bits else VALUES_MAX
    return int(np.clip(values // sum(p.neurons for p in network.populations), fewest, most))


def _largest_drives(population: Population, drive: Array) -> Array:
    """Largest |activation| of each channel on the calibration inputs."""
    shape = population.shape
    by_channel = from_channels_last(drive, shape).reshape(len(drive), shape[0], -1)
    size = np.abs(by_channel).max(axis=(0, 2))
    largest = size if isinstance(population.neuron, Graded) else by_channel.max(axis=(0, 2))
    # A channel that never was active: the size of what it holds back sets its scale.
    largest = np.where(largest > 0, largest, size)
    return np.where(largest > 0, largest, 1.0)


def _without_mean_error(
    step: AnalogStep, fitted: Fitted, messages: Mapping[str, Array]
) -> tuple[list[Projection], Array]:
    """The projections with the mean error of each channel in their first bias, and their drives then.

    Of a ReLU only the inputs count on which the analog neuron is active: elsewhere an error is not seen.

    Args:
        step: the target and its real drives.
        fitted: its integer projections; those with the integers of a file have no error of their own.
        messages: integer messages by source, (N, n) channels last.

    Returns:
        the projections, and (N, n) drives, channels last.
    """
    population, stored, scale = step.population, fitted.stored, fitted.scale
    sums = [_exact_sums(p, messages[p.source]) for p in stored]
    drive = np.asarray(sum(_shifted(p, own, population) for p, own in zip(stored, sums, strict=True)))
    if fitted.whole is not None and fitted.whole.of_file:
        return stored, drive
    channels = population.shape[0]
    error = step.drive.reshape(-1, channels) / scale - drive.reshape(-1, channels)
    if not isinstance(population.neuron, Graded):
        error = np.where(step.drive.reshape(-1, channels) > 0, error, 0.0)
    count = np.maximum(np.count_nonzero(error, axis=0), 1)
    mean = column_means(error) * len(error) / count
    variance = np.maximum(column_means(error**2) * len(error) / count - mean**2, 0.0)
    # Neighbours in a map err together: samples count. What they do not show for sure is not corrected,
    # and few of them do not show their own spread either: the layer's counts as `PRIOR_SAMPLES`.
    samples = count * channels / population.neurons
    spread = float((variance + mean**2).mean())
    variance = (samples * variance + PRIOR_SAMPLES * spread) / (samples + PRIOR_SAMPLES)
    sure = mean**2 / np.maximum(mean**2 + variance / np.maximum(samples, 1e-3), 1e-300)
    first = stored[0]
    added = np.rint(mean * sure * np.exp2(first.shift)).astype(np.int64)
    bias = np.zeros(channels, dtype=np.int64) if first.bias is None else first.bias
    corrected = replace(first, bias=bias + (per_channel(added, bias.shape)))
    drive = drive + _shifted(corrected, sums[0], population) - _shifted(first, sums[0], population)
    return [corrected, *stored[1:]], drive


def _exact_sums(projection: Projection, messages: Array) -> Array:
    """W m for (N, n) messages, channels last: (N, n_out)."""
    laid = LaidProjection.lay(replace(projection, shift=np.zeros((), dtype=np.int64), bias=None))
    parts: list[Array] = [np.zeros(0)] * len(messages)

    def one(index: int) -> None:
        parts[index] = laid.sums(messages[index : index + 1])[0]

    parallel(one, len(messages))
    return np.stack(parts).astype(np.int64)


def _shifted(projection: Projection, sums: Array, population: Population) -> Array:
    """(W m + b) >> k, channels last."""
    shape, bias = population.shape, projection.bias
    total = sums
    if bias is not None:
        total = total + to_channels_last(np.broadcast_to(per_channel(bias, shape), shape), shape)
    shift = np.tile(projection.shift, population.neurons // shape[0])
    return np.asarray(np.left_shift(np.right_shift(total, np.maximum(shift, 0)), np.maximum(-shift, 0)))


def prove_sums(projection: Projection, lowest: Array, highest: Array, context: Context) -> None:
    """No sum reaches the target's limit on messages between these, by channel of the source."""
    connectivity = projection.connectivity
    least, most = row_sums(connectivity, lowest, highest)
    bias = np.zeros(1) if projection.bias is None else by_channel(np.abs(projection.bias))
    worst = float((np.maximum(-least, most) + bias).max())
    if worst >= sum_limit(context.target):
        context.diagnostics.error(
            "accumulator-overflow",
            f"a sum of {projection.name} may reach {worst:.3g}, above 2^{context.target.neurons.sum_bits - 1}",
            origin=projection.origin,
            help="calibrate with data in the range of use, or use --coding rate",
        )
