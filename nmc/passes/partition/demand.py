"""What a slice asks of a core, and a core that is being filled.

The counts are those of docs/formats.md section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nmc.hardware.target import CoreLimits, Target
from nmc.ir.connectivity import Array, IndexArray, Shape
from nmc.ir.mapping import Box, Slice, box_size, whole
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import IF, LIF, Integrator, SigmaDelta, Signed, spike_levels
from nmc.passes.partition.geometry import Geometry, geometries
from nmc.passes.partition.limits import CoreUse

AXON_BITS = 64
"""Synapse memory of one axon entry's header (docs/formats.md section 3)."""

DIGIT_BASE = 127
"""Base of the digits in which constant axons hold a projection's bias."""

Mask = NDArray[np.bool_]


def index_bits(neurons: int) -> int:
    """Bits that name one of a core's neurons: ceil(log2(neurons))."""
    return max(neurons - 1, 0).bit_length()


def full_bias(projection: Projection, shape: Shape) -> Array | None:
    """The magnitude of a projection's bias per target neuron, in the population's shape."""
    return bias_of(projection, shape, whole(shape))


def bias_of(projection: Projection, shape: Shape, box: Box) -> Array | None:
    """The same of the neurons of a box."""
    if projection.bias is None:
        return None
    out_shape = projection.connectivity.out_shape
    bias = projection.bias
    if bias.ndim == 1 and len(out_shape) > 1:
        bias = bias.reshape(-1, *(1,) * (len(out_shape) - 1))
    full: Array = np.broadcast_to(bias, out_shape)
    if out_shape != shape:
        full = full.reshape(shape)
    return np.abs(full[tuple(slice(*axis) for axis in box)])


def digit_counts(magnitude: Array) -> tuple[int, int]:
    """Digits of the largest magnitude, and non-zero digits of all of them, in base 127."""
    digits, synapses = 0, 0
    rest = np.rint(magnitude).astype(np.int64)
    while rest.any():
        digits += 1
        synapses += int(np.count_nonzero(rest % DIGIT_BASE))
        rest = rest // DIGIT_BASE
    return digits, synapses


def profiles_of(population: Population, box: Box) -> frozenset[tuple[object, ...]]:
    """Distinct (thresholds, reset, decay, firing rule, rest) of a slice; a read-out has one without threshold."""
    neuron = population.neuron
    match neuron:
        case LIF() | IF():
            cut = tuple(slice(*axis) for axis in box)
            lower: Array = neuron.fire.lower if isinstance(neuron.fire, Signed) else np.zeros(())
            both = [np.broadcast_to(values, population.shape)[cut].reshape(-1) for values in (neuron.threshold, lower)]
            decay = (neuron.du, neuron.dv, neuron.refractory) if isinstance(neuron, LIF) else (None, None, 0)
            levels, guarded = spike_levels(neuron), isinstance(neuron.fire, Signed) and neuron.fire.guarded
            pairs = np.unique(np.stack(both, axis=1), axis=0).tolist()
            return frozenset((*pair, str(neuron.reset), *decay, levels, guarded) for pair in pairs)
        case SigmaDelta():
            cut = tuple(slice(*axis) for axis in box)
            thresholds = np.unique(np.broadcast_to(neuron.threshold, population.shape)[cut]).tolist()
            return frozenset((value, "change") for value in thresholds)
        case Integrator():
            return frozenset([(None, "none", None, 0)])
        case _:
            return frozenset()


@dataclass(frozen=True, eq=False)
class Inputs:
    """Axons of one slice from one projection."""

    projection: str
    source: str
    neurons: IndexArray
    channels: int


@dataclass(frozen=True, eq=False)
class Demand:
    """What one slice asks of its core.

    Attributes:
        piece: the slice.
        neurons: of the slice.
        inputs: per incoming projection with at least one axon, its source neurons.
        stored: kernel entries by projection: rows of the weight array, and which of them.
        synapses: synapses stored one by one, those of constant axons included.
        headers: axon entries: per source channel of a kernel, per axon of a matrix, per constant axon.
        constants: constant axons by projection.
        profiles: distinct (threshold, reset, decay).
        out_axons: destination cores of its neurons, summed; 0 while they are not known.
    """

    piece: Slice
    neurons: int
    inputs: tuple[Inputs, ...]
    stored: Mapping[str, tuple[slice, Mask]]
    synapses: int
    headers: int
    constants: Mapping[str, int]
    profiles: frozenset[tuple[object, ...]]
    out_axons: int = 0

    @property
    def axons(self) -> int:
        """Input axons, counted per projection."""
        return sum(len(i.neurons) for i in self.inputs) + sum(self.constants.values())


@dataclass(frozen=True, eq=False)
class DemandModel:
    """Computes demands of slices of one network on one target."""

    network: Network
    target: Target
    geometries: Mapping[str, Geometry]
    rates: Mapping[str, float]
    biases: Mapping[str, Array | None]

    @classmethod
    def of(cls, network: Network, target: Target, rates: Mapping[str, float]) -> DemandModel:
        """The model of a network; ``rates`` are messages per neuron and step, 1 where missing."""
        biases = {p.name: full_bias(p, network.by_name[p.target].shape) for p in network.projections}
        return cls(network, target, geometries(network), rates, biases)

    def rate(self, population: str) -> float:
        """Messages per neuron and step."""
        return self.rates.get(population, 1.0)

    def demand(self, population: str, box: Box, fan_out: IndexArray | None = None) -> Demand:
        """What the slice asks of a core.

        Args:
            population: name.
            box: of step 1 or more, not empty.
            fan_out: destination cores of each neuron, in the population's shape, if known.
        """
        network = self.network
        inputs: list[Inputs] = []
        stored: dict[str, tuple[slice, Mask]] = {}
        constants: dict[str, int] = {}
        synapses = headers = 0
        cut = tuple(slice(*axis) for axis in box)
        for projection in network.incoming[population]:
            geometry = self.geometries[projection.name]
            source = network.by_name[projection.source]
            neurons = geometry.sources(box)
            # Sources come in ascending order, so their channels do too.
            channels = _distinct_sorted(neurons // (source.neurons // source.shape[0]))
            if len(neurons):
                inputs.append(Inputs(projection.name, source.name, neurons, channels))
            if geometry.kernel and self.target.weights.shared:
                stored[projection.name] = geometry.stored(box)
                headers += channels
            else:
                synapses += geometry.synapses(box)
                headers += len(neurons)
            bias = self.biases[projection.name]
            if bias is not None:
                digits, entries = digit_counts(bias[cut])
                synapses += entries
                if digits:
                    constants[projection.name] = digits
        out = 0 if fan_out is None else int(fan_out[cut].sum())
        profiles = profiles_of(network.by_name[population], box)
        return Demand(
            Slice(population, box),
            box_size(box),
            tuple(inputs),
            stored,
            synapses,
            headers,
            constants,
            profiles,
            out,
        )


@dataclass
class Core:
    """A core that is being filled: adds slices as long as every limit holds."""

    model: DemandModel
    demands: list[Demand] = field(default_factory=list)
    neurons: int = 0
    in_axons: int = 0
    out_axons: int = 0
    synapses: int = 0
    headers: int = 0
    seen: dict[str, Mask] = field(default_factory=dict)
    stored: dict[str, Mask] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)
    profiles: set[tuple[object, ...]] = field(default_factory=set)

    def new_axons(self, demand: Demand) -> dict[str, IndexArray]:
        """Source neurons, by population, that the core does not hear yet."""
        by_source: dict[str, list[IndexArray]] = {}
        for entry in demand.inputs:
            by_source.setdefault(entry.source, []).append(entry.neurons)
        fresh: dict[str, IndexArray] = {}
        for source, parts in by_source.items():
            index = parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
            seen = self.seen.get(source)
            fresh[source] = index if seen is None else index[~seen[index]]
        return fresh

    def overlap(self, demand: Demand) -> float:
        """Messages per step that the core hears already: what adding the slice saves."""
        total = 0.0
        for entry in demand.inputs:
            seen = self.seen.get(entry.source)
            if seen is not None:
                total += self.model.rate(entry.source) * int(np.count_nonzero(seen[entry.neurons]))
        return total

    def use_with(self, demand: Demand) -> CoreUse:
        """The counts of the core if the slice were added."""
        neurons = self.neurons + demand.neurons
        fresh = sum(len(index) for index in self.new_axons(demand).values())
        constants = sum(max(digits - self.constants.get(name, 0), 0) for name, digits in demand.constants.items())
        kernels = sum(int(np.count_nonzero(mask)) for mask in self.stored.values())
        for name, (rows, used) in demand.stored.items():
            held = self.stored.get(name)
            kernels += int(np.count_nonzero(used if held is None else used & ~held[rows]))
        return CoreUse(
            neurons=neurons,
            in_axons=self.in_axons + fresh + constants,
            out_axons=self.out_axons + demand.out_axons,
            synapse_bits=synapse_bits(
                self.model.target,
                neurons,
                kernels,
                self.synapses + demand.synapses,
                self.headers + demand.headers + constants,
            ),
            threshold_profiles=len(self.profiles | demand.profiles),
        )

    def use(self) -> CoreUse:
        """The counts of the core as it is."""
        kernels = sum(int(np.count_nonzero(mask)) for mask in self.stored.values())
        bits = synapse_bits(self.model.target, self.neurons, kernels, self.synapses, self.headers)
        return CoreUse(self.neurons, self.in_axons, self.out_axons, bits, len(self.profiles))

    def boxes(self) -> dict[str, list[Box]]:
        """The boxes of its slices, by population."""
        found: dict[str, list[Box]] = {}
        for demand in self.demands:
            found.setdefault(demand.piece.population, []).append(demand.piece.box)
        return found

    def fits(self, demand: Demand, limits: CoreLimits) -> bool:
        """Whether every limit still holds with the slice added."""
        if self.neurons + demand.neurons > limits.neurons:
            return False
        return not self.use_with(demand).exceeded(limits)

    def add(self, demand: Demand) -> dict[str, IndexArray]:
        """Add the slice; returns the source neurons that are new to the core."""
        fresh = self.new_axons(demand)
        network = self.model.network
        for source, index in fresh.items():
            if source not in self.seen:
                self.seen[source] = np.zeros(network.by_name[source].neurons, dtype=np.bool_)
            self.seen[source][index] = True
        for name, (rows, used) in demand.stored.items():
            if name not in self.stored:
                self.stored[name] = np.zeros(self.model.geometries[name].stored_shape, dtype=np.bool_)
            self.stored[name][rows] |= used
        for name, digits in demand.constants.items():
            grown = max(digits - self.constants.get(name, 0), 0)
            self.constants[name] = self.constants.get(name, 0) + grown
            self.headers += grown
            self.in_axons += grown
        self.neurons += demand.neurons
        self.in_axons += sum(len(index) for index in fresh.values())
        self.out_axons += demand.out_axons
        self.synapses += demand.synapses
        self.headers += demand.headers
        self.profiles |= demand.profiles
        self.demands.append(demand)
        return fresh


def synapse_bits(target: Target, neurons: int, kernels: int, synapses: int, headers: int) -> int:
    """Synapse memory of a core (bits).

    Args:
        target: gives the width of a weight.
        neurons: on the core; they set the width of a synapse's target index.
        kernels: stored kernel entries, non-zero, each once.
        synapses: synapses stored one by one.
        headers: axon entries.
    """
    bits = target.weights.bits
    return kernels * bits + synapses * (bits + index_bits(neurons)) + headers * AXON_BITS


def _distinct_sorted(values: IndexArray) -> int:
    return int(np.count_nonzero(np.diff(values))) + 1 if len(values) else 0
