"""Rules for the thresholds of a rate code: ours and those of the field, to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import Reset, Source
from nmc.ir.reference import encode
from nmc.kernels.layerwise import LaidPopulation, LaidProjection, joined_channels_last

RULES = ("min-error", "maximum", "percentile", "balancing", "ratio")
"""Names of the rules, as `ConvertRate.threshold` takes them."""

CANDIDATES = (0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.43, 0.5, 0.58, 0.66, 0.74, 0.82, 0.91, 1.0)
"""Thresholds tried, relative to the largest activation of the channel."""

ZERO_RESET_CANDIDATES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""With reset to zero a higher threshold loses less at each spike but fires less often."""

BALANCED_SAMPLES = 32
"""Calibration samples that are simulated for threshold balancing."""

THRESHOLD_MANTISSA, WEIGHT_TOP = 512, 255
"""Of the ratio rule: the stored threshold and the stored form of the largest weight (SNN Toolbox's Loihi backend)."""

INPUT_RATIO = {Reset.SUBTRACT: 1.0, Reset.ZERO: 8.0}
"""Of the ratio rule: the threshold over the largest input of a step (SNN Toolbox: DTHIR)."""


def min_error(top: Array, reset: Reset) -> Array:
    """(F, C) candidates of which the one with the least squared error of the count is taken.

    Args:
        top: (C,) largest activation of each channel.
        reset: of the neurons.
    """
    grid = CANDIDATES if reset is Reset.SUBTRACT else ZERO_RESET_CANDIDATES
    return np.array(grid)[:, None] * top[None]


def percentile(flat: Array, top: Array, percent: float) -> Array:
    """(1, C) percentile of the activations of each channel; 100 is the maximum.

    The maximum is the data-based normalization of Diehl et al., Fast-classifying, high-accuracy
    spiking deep networks through weight and threshold balancing (IJCNN 2015); the percentile that
    of Rueckauer et al., Conversion of continuous-valued deep networks to efficient event-driven
    networks for image classification (Frontiers in Neuroscience, 2017); both by channel, as Kim et
    al., Spiking-YOLO (AAAI 2020).

    Args:
        flat: (M, C) activations.
        top: (C,) what a channel takes whose percentile is 0.
        percent: 0 to 100.
    """
    level = np.percentile(flat, percent, axis=0)
    return np.where(level > 0, level, top)[None]


def input_ratio(top: Array, incoming: Sequence[Projection], bias: Array, reset: Reset) -> Array:
    """(1, C) one threshold of a layer, a power of two away from its largest weight.

    The rule of the SNN Toolbox for Loihi (Rueckauer et al., NxTF, 2021): weights and biases share
    one scale, the threshold mantissa is fixed, and the power of two is the one for which the
    threshold is nearest to `INPUT_RATIO` times the largest input that a neuron of the layer gets in
    a step.

    Args:
        top: (C,) largest activation of each channel.
        incoming: the projections of the layer, with the values of their sources' messages folded in.
        bias: of the layer.
        reset: decides the ratio.
    """
    largest = max([float(np.abs(p.connectivity.weight).max(initial=0.0)) for p in incoming], default=0.0)
    largest = max(largest, float(np.abs(bias).max(initial=0.0)))
    wanted = INPUT_RATIO[reset] * float(top.max())
    unit = (largest or wanted) * THRESHOLD_MANTISSA / WEIGHT_TOP
    return np.full((1, len(top)), unit * 2.0 ** np.rint(np.log2(wanted / unit)))


@dataclass(frozen=True, eq=False)
class Balancer:
    """Threshold balancing: a layer's threshold is the largest sum that reaches one of its neurons in a step.

    Sengupta et al., Going deeper in spiking neural networks: VGG and residual architectures
    (Frontiers in Neuroscience, 2019), after Diehl et al. (IJCNN 2015): layer by layer, the spikes of
    the layers before are simulated with the thresholds that these have got.

    Attributes:
        timesteps: T.
        samples: (N, n) integer inputs, channels last, all inputs of a sample joined.
        places: of each input population in a sample.
        sent: by population, (T, n) messages of every sample.
    """

    timesteps: int
    samples: Array
    places: dict[str, slice]
    sent: dict[str, list[Array]] = field(default_factory=dict)

    @classmethod
    def start(cls, network: Network, x: Array) -> Balancer:
        """Of a network that has its inputs only, on the first of the calibration samples."""
        inputs = encode(network, x[:BALANCED_SAMPLES])
        begun = cls(network.timesteps, joined_channels_last(network, inputs), dict(network.input_places))
        for population in network.populations:
            begun.send(population, ())
        return begun

    def _laid(self, population: Population, incoming: Iterable[Projection]) -> LaidPopulation:
        arriving = tuple(LaidProjection.lay(p) for p in incoming)
        real = not isinstance(population.neuron, Source)
        return LaidPopulation(population, arriving, self.timesteps, self.places.get(population.name), real=real)

    def _totals(self, laid: LaidPopulation, index: int) -> Array:
        names = {part.projection.source for part in laid.incoming} & self.sent.keys()
        return laid.totals({name: self.sent[name][index] for name in names})

    def threshold(self, population: Population, incoming: Iterable[Projection], bias: Array) -> float:
        """The largest sum, the bias included; 0 or less where nothing ever reaches a neuron."""
        laid = self._laid(population, incoming)
        shape, largest = population.shape, -np.inf
        offset = np.moveaxis(np.broadcast_to(bias, shape), 0, -1).reshape(-1)
        for index in range(len(self.samples)):
            largest = max(largest, float((self._totals(laid, index) + offset).max()))
        return largest

    def send(self, population: Population, incoming: Iterable[Projection]) -> None:
        """Simulate a population whose neurons are decided."""
        laid = self._laid(population, incoming)
        self.sent[population.name] = [
            laid.respond(self._totals(laid, index), self.samples[index])[0] for index in range(len(self.samples))
        ]
