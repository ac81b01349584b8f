"""Calibration in the loop: every layer is set to what the layers before it really send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import IF, IdealIntegrator, Signed, Source
from nmc.ir.reference import encode
from nmc.kernels.calibrate_respond import respond
from nmc.kernels.calibrate_rows import Rows
from nmc.kernels.layerwise import AnalogStep, analog, joined_channels_last
from nmc.passes.base import Context
from nmc.passes.quantize.calibrate_layer import CalibratedLayer, LayerTask, calibrate_layer
from nmc.passes.quantize.quantize_rate import Quantizer, input_neuron


@dataclass(frozen=True)
class CalibrateLayers:
    """Set weights, thresholds, initial potentials and biases on simulated spikes, layer by layer.

    The layers before are simulated as they will be stored, in integers, on all calibration
    samples. On rows drawn from all of them (`nmc.kernels.calibrate_rows`) a layer's weights are
    fitted again to the float network's pre-activations, quantized as the target will store them,
    and its neurons are searched per channel: threshold, initial potential (it may be negative)
    and bias, by what the best affine read-out of the spike count leaves of the activation. What
    one spike is worth to the layers behind is that read-out's gain, not the threshold. The
    program stays one over reals; quantize-rate makes of it the integers simulated here.

    A network with loops is left as it is: what a loop brings depends on the layer itself.

    Attributes:
        rows: per layer, at most, for windows of `ROW_STEPS` steps and more; shorter ones take up to four times
            as many. The less a count says, the more of them a fit needs: ResNet-20 at T=4, 512 images, 0.237 with
            16,384 rows and 0.227 with 65,536; with signed spikes 0.158 and 0.148.
        rounds: of the search; 0 keeps the neurons and only corrects the biases.
        refit: whether weights may change.
        feedback: times that the weights are fitted to what the spikes leave of the activations.
        smoothness: weight of uneven running sums beside the error of a fit. A neuron cannot take a
            spike back, so what arrives too early makes it fire too often. Measured on ResNet-20 at
            T=8 without waiting (error of the logits relative to their variance, 512 images): 0.083 at 0,
            0.0805 at 0.1, 0.077 at 0.3, 0.082 at 1; the weight that leaves the least error in each layer
            by itself is no better (0.081).
        evenness: weight of uneven spikes beside the error of their count, when neurons are searched.
            Without it every layer takes the neurons that are best for itself, and the next one pays.
            Measured as above (256 samples, 512 other training images, no feedback): 0.093 at 0,
            0.088 at 0.3, 0.089 at 0.5; 0.104 with neither evenness nor smoothness. At 0 a search that
            moves potential and bias together too leaves 0.121: it is better for each layer alone.
            Neither it nor smoothness nor feedback is used where neurons take spikes back (signed): too early a spike
            is no error then. Measured at T=4 (256 images): 0.178 with all three, 0.169 with none.
        bits: of a weight, as quantize-rate will store it.
        thresholds: distinct ones of a layer, as quantize-rate will store them.
    """

    rows: int = 16384
    rounds: int = 2
    refit: bool = True
    feedback: int = 2
    smoothness: float = 0.3
    evenness: float = 0.4
    bits: int | None = None
    thresholds: int | None = None

    name: ClassVar[str] = "calibrate-layers"
    stage: ClassVar[str] = "quantize"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network
    matches_means: ClassVar[bool] = True
    """Read-outs are right on average over the calibration inputs: the compile looks after it."""

    def run(self, program: Network, context: Context) -> Network:
        """The same network with other numbers."""
        if program.recurrent:
            return program
        run = _Run(self._for(program), program, context)
        populations: list[Population] = []
        projections: dict[str, Projection] = {}
        for number, population in enumerate(program.populations):
            done = run.layer(number, population)
            populations.append(done.population)
            projections |= {p.name: p for p in done.projections}
            context.progress(f"calibrate {population.name}", (number + 1) / len(program.populations))
        ordered = tuple(projections[p.name] for p in program.projections)
        return replace(program, populations=tuple(populations), projections=ordered, scales=run.scales)

    def _for(self, network: Network) -> CalibrateLayers:
        """The options, without those that a network with signed spikes has no use for."""
        neurons = (population.neuron for population in network.populations)
        if any(isinstance(neuron, IF) and isinstance(neuron.fire, Signed) for neuron in neurons):
            return replace(self, feedback=0, smoothness=0.0, evenness=0.0)
        return self


class _Run:
    """What grows while layers are calibrated.

    Attributes:
        scales: decode scale of every population, the new one where it is known.
        sent: by population, (T, n) messages of each sample, until nobody reads them any more.
    """

    def __init__(self, options: CalibrateLayers, network: Network, context: Context) -> None:
        self.options, self.network, self.context = options, network, context
        self.scales: dict[str, Array] = dict(network.scales)
        self.sent: dict[str, list[Array]] = {}
        self._left = {name: len(projections) for name, projections in network.outgoing.items()}
        inputs = encode(network, context.calibration.inputs[: _samples_that_fit(network)])
        self._flat = joined_channels_last(network, inputs)
        self._analog: Iterator[AnalogStep] = analog(network, inputs)
        self._quantizer = Quantizer.of(network, context.target, options.bits, options.thresholds)

    def layer(self, number: int, population: Population) -> CalibratedLayer:
        """Calibrate one population and simulate it."""
        incoming = self.network.incoming[population.name]
        neuron = population.neuron
        drive = np.zeros((0, 0)) if isinstance(neuron, Source) else next(self._analog).drive
        if not incoming:
            stored = population if isinstance(neuron, Source) else input_neuron(population, self.network)
            self.sent[population.name] = self._respond(stored, ())
            return CalibratedLayer(population, ())
        folded = tuple(self._refolded(p) for p in incoming)
        if not isinstance(neuron, IF | IdealIntegrator):
            raise TypeError(f"{type(neuron).__name__} in a rate network")
        generator = self.context.generator(f"calibrate-layers:{number}")
        rows = Rows.draw(population.shape, incoming, len(self._flat), self._row_count(incoming), generator)
        patches = {p.name: rows.patches(p.connectivity, self.sent[p.source]) for p in incoming}
        task = LayerTask(
            population, folded, rows, patches, rows.of(drive), drive.reshape(-1, population.shape[0]).max(axis=0),
            self.scales, self.network.timesteps, self._quantizer, self._fires_others(population),
        )  # fmt: skip
        done = calibrate_layer(task, self.options)
        if done.scale is not None:
            self.scales[population.name] = done.scale
        if self.network.outgoing[population.name]:
            stored_layer = self._quantizer.store(done.population, done.projections)
            self.sent[population.name] = self._respond(
                replace(population, neuron=stored_layer.neuron), stored_layer.projections
            )
            self._require_life(population, task)
        self._forget(incoming)
        return done

    def _fires_others(self, population: Population) -> bool:
        """Whether neurons that fire hear it: a read-out adds its messages up, whenever they come."""
        heard_by = (self.network.by_name[p.target].neuron for p in self.network.outgoing[population.name])
        return any(isinstance(neuron, IF) for neuron in heard_by)

    def _require_life(self, population: Population, task: LayerTask) -> None:
        """A layer that never sends, although the float network's is active, starves all behind it."""
        sent = self.sent[population.name]
        if (task.drive > 0).any() and not any(messages.any() for messages in sent):
            self.context.diagnostics.error(
                "layer-dead",
                f"the network dies here: none of the {population.neurons:,} neurons of '{population.name}' sends a "
                f"message in {self.network.timesteps} steps on any of {len(sent)} calibration samples, but the "
                f"float network's activations reach {float(task.drive.max()):.3g}",
                origin=population.origin,
                help="raise the timesteps (-T), calibrate on samples of the data in use (--calib), or use --coding "
                "graded; `nmc verify` shows every layer",
            )

    def _row_count(self, incoming: Sequence[Projection]) -> int:
        """More rows than asked for where windows are short, fewer where their patches would take too much memory."""
        steps = self.network.timesteps
        wanted = self.options.rows * int(np.clip(ROW_STEPS // steps, 1, ROWS_MORE))
        inputs = sum(int(p.connectivity.weight.size // p.connectivity.out_shape[0]) for p in incoming)
        return max(min(wanted, PATCH_BYTES // max(inputs * steps, 1)), 256)

    def _refolded(self, projection: Projection) -> Projection:
        """The projection with its source's new decode scale instead of the old one."""
        ratio = self.scales[projection.source] / self.network.scales[projection.source]
        connectivity = projection.connectivity
        by_weight = ratio if ratio.ndim == 0 else ratio[connectivity.column_channel()]
        return replace(projection, connectivity=connectivity.with_weight(connectivity.weight * by_weight))

    def _respond(self, stored: Population, projections: Sequence[Projection]) -> list[Array]:
        """Messages of a stored population in every sample."""
        populations = tuple(stored if p.name == stored.name else p for p in self.network.populations)
        network = replace(self.network, populations=populations, projections=tuple(projections))
        return respond(network, stored, self.sent, self._flat)

    def _forget(self, incoming: Sequence[Projection]) -> None:
        for projection in incoming:
            self._left[projection.source] -= 1
            if self._left[projection.source] == 0:
                del self.sent[projection.source]


ROW_STEPS, ROWS_MORE = 16, 4
"""Windows with fewer steps take more rows, up to so many times as many."""

PATCH_BYTES = 1 << 28
"""Budget for the patches of one layer."""

SAMPLE_BYTES = 1 << 31
"""Budget for the messages and activations of all samples; fewer samples are used where they would not fit."""

SAMPLES_MIN = 16
"""Samples used even where they exceed the budget."""


def _samples_that_fit(network: Network) -> int:
    """Samples whose messages (T bytes a neuron) and activations (two float64) can be held."""
    # About three populations are alive at once: a layer, its source, and what a skip keeps.
    alive = sum(sorted((p.neurons for p in network.populations), reverse=True)[:3])
    return max(SAMPLE_BYTES // (alive * (network.timesteps + 16)), SAMPLES_MIN)
