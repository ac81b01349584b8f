"""What every layer needs of a chip at least, before anything is mapped: milliseconds per layer.

The least cores are lower bounds that no partition can beat: each is the count of docs/formats.md
section 3 for the layer as a whole, over the limit of a core. The fan-in is that of the widest
neuron, exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, IndexArray, Pool, Skip, Sparse
from nmc.ir.mapping import Box, whole
from nmc.ir.network import Network, Population, Projection
from nmc.passes.partition.assemble import chip_populations, on_host
from nmc.passes.partition.demand import AXON_BITS, Core, Demand, DemandModel, Mask, digit_counts, profiles_of
from nmc.passes.partition.limits import LIMITS


@dataclass(frozen=True)
class LayerFit:
    """One layer against the limits of a core.

    Attributes:
        fan_in: input axons of its widest neuron, constant axons included.
        cores: by limit that the target has, the fewest cores that can hold the whole layer.
        limit: the limit that asks for most of them.
        exceeded: limits that one neuron alone passes: no number of cores helps.
        fix: what is done, or has to be done, and what it costs; empty where there is nothing to do.
    """

    layer: str
    neurons: int
    fan_in: int
    cores: Mapping[str, int]
    limit: str
    exceeded: tuple[str, ...]
    fix: str = ""

    @property
    def least(self) -> int:
        """The fewest cores under all limits."""
        return max(self.cores.values())

    def with_relays(self, relays: Sequence[LayerFit]) -> LayerFit:
        """The layer with its fan-in split: relays that add up parts of it."""
        neurons, cores = sum(r.neurons for r in relays), sum(r.least for r in relays)
        cost = f"{neurons:,} relay neurons on at least {cores:,} core{'s' if cores > 1 else ''}, one step more"
        return replace(self, fix=f"split into partial sums: {cost}")

    def refused(self, reason: str) -> LayerFit:
        """The layer whose neurons fit no core, and why they are not split."""
        over = " and ".join(name.replace("_", " ") for name in self.exceeded)
        return replace(self, fix=f"fits no core: one neuron exceeds {over}; {reason}")

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "layer": self.layer,
            "neurons": self.neurons,
            "fan_in": self.fan_in,
            "cores": dict(self.cores),
            "least": self.least,
            "limit": self.limit,
            "exceeded": list(self.exceeded),
            "fix": self.fix,
        }


def feasibility(model: DemandModel) -> tuple[LayerFit, ...]:
    """All layers that need cores, in the order of the network."""
    readers = _Readers.of(model)
    return tuple(_layer(model, readers, population) for population in chip_populations(model.network))


def least_cores(model: DemandModel) -> tuple[int, str]:
    """The fewest cores for the whole network, where layers share cores, and the limit that asks for them."""
    readers, layers = _Readers.of(model), chip_populations(model.network)
    cores = {}
    for limit in LIMITS:
        number = limit.of(model.target.core)
        if number is None:
            continue
        amounts = [_amount(model, readers, p, limit.name) for p in layers]
        # Layers may hear the same neurons and have the same thresholds: then a core counts them once.
        total = sum(amounts)
        if limit.name == "in_axons":
            total = sum(int(mask.sum()) for mask in readers.on_chip.values())
        elif limit.name == "threshold_profiles":
            total = max(amounts, default=0)
        cores[limit.name] = max(-(-total // number), 1)
    name = max(cores, key=lambda key: cores[key])
    return cores[name], name


@dataclass(frozen=True, eq=False)
class _Readers:
    """Which neurons are read.

    Attributes:
        by_projection: (source neurons,) those with a synapse.
        on_chip: by source population, those with a reader on the chip.
        on_host: the same for the host.
    """

    by_projection: Mapping[str, Mask]
    on_chip: Mapping[str, Mask]
    on_host: Mapping[str, Mask]

    @classmethod
    def of(cls, model: DemandModel) -> _Readers:
        """Every projection is looked at once, as a whole."""
        network = model.network
        masks: dict[str, Mask] = {}
        sides: tuple[dict[str, Mask], dict[str, Mask]] = ({}, {})
        for projection in network.projections:
            source, target = network.by_name[projection.source], network.by_name[projection.target]
            mask = np.zeros(source.neurons, dtype=np.bool_)
            mask[model.geometries[projection.name].sources(whole(target.shape))] = True
            masks[projection.name] = mask
            side = sides[on_host(target)]
            side[source.name] = side[source.name] | mask if source.name in side else mask
        return cls(masks, *sides)


def widest_demand(model: DemandModel, population: Population) -> Demand:
    """The demand of the neuron with the largest fan-in."""
    boxes = [_one(population, index) for index in _widest(model.network, population)]
    found = [model.demand(population.name, box) for box in dict.fromkeys(boxes)]
    return max(found, key=lambda demand: demand.axons)


def exceeded_by_one(model: DemandModel, demand: Demand) -> tuple[str, ...]:
    """The limits that one neuron alone passes."""
    return tuple(limit.name for limit in Core(model).use_with(demand).exceeded(model.target.core))


def _one(population: Population, flat: int) -> Box:
    return tuple((int(at), int(at) + 1, 1) for at in np.unravel_index(flat, population.shape))


def _widest(network: Network, population: Population) -> list[int]:
    """Neurons of which one has the largest fan-in: by projection, and in all of them together."""
    total = np.zeros(population.neurons, dtype=np.int64)
    found: list[int] = []
    for projection in network.incoming[population.name]:
        inputs = _inputs(projection.connectivity, population.neurons)
        found.append(int(inputs.argmax()))
        total += inputs
    return [int(total.argmax()), *found]


def _inputs(operator: Connectivity, neurons: int) -> IndexArray:
    """(neurons,) sources with a synapse into each."""
    match operator:
        case Dense():
            return np.asarray(np.count_nonzero(operator.weight, axis=1))
        case Sparse():
            return np.bincount(operator.rows[operator.weight != 0], minlength=neurons)
        case Conv2d():
            return _kernel_inputs(operator)
        case Pool():
            return _kernel_inputs(operator.as_conv())
        case Skip():
            return np.repeat((operator.weight != 0).astype(np.int64), neurons // len(operator.weight))
        case _:
            return np.bincount(operator.synapses()[0], minlength=neurons)


def _kernel_inputs(conv: Conv2d) -> IndexArray:
    """The same for a convolution: places that see the same taps are counted once."""
    entries = np.count_nonzero(conv.weight, axis=1)
    (rows, row_of), (columns, column_of) = (_seen_taps(conv, axis) for axis in (0, 1))
    counts = np.einsum("opq,yp,xq->oyx", entries, rows, columns, optimize=True)
    full: IndexArray = counts[:, row_of][:, :, column_of]
    return full.reshape(-1)


def _seen_taps(conv: Conv2d, axis: int) -> tuple[IndexArray, IndexArray]:
    """(patterns, taps) 1 where a tap reads inside the input, and (places,) the pattern of each output place."""
    outputs, taps = np.arange(conv.out_shape[1 + axis]), np.arange(conv.weight.shape[2 + axis])
    inputs = outputs[:, None] * conv.stride[axis] + taps * conv.dilation[axis] - conv.pads[axis]
    seen = ((inputs >= 0) & (inputs < conv.in_shape[1 + axis])).astype(np.int64)
    patterns, of = np.unique(seen, axis=0, return_inverse=True)
    return patterns, of.reshape(-1)


def _layer(model: DemandModel, readers: _Readers, population: Population) -> LayerFit:
    widest = widest_demand(model, population)
    cores = {
        limit.name: max(-(-_amount(model, readers, population, limit.name) // number), 1)
        for limit in LIMITS
        if (number := limit.of(model.target.core)) is not None
    }
    return LayerFit(
        population.name,
        population.neurons,
        Core(model).use_with(widest).in_axons,
        cores,
        max(cores, key=lambda key: cores[key]),
        exceeded_by_one(model, widest),
    )


def _amount(model: DemandModel, readers: _Readers, population: Population, limit: str) -> int:
    """What a whole layer takes of a limit at least: what a core can share is counted once."""
    match limit:
        case "neurons":
            return population.neurons
        case "in_axons":
            return _heard(model.network, readers, population)
        case "out_axons":
            sides = (readers.on_chip, readers.on_host)
            return sum(int(side[population.name].sum()) for side in sides if population.name in side)
        case "synapse_bits":
            return sum(_bits(model, readers, p) for p in model.network.incoming[population.name])
        case _:
            return len(profiles_of(population, whole(population.shape)))


def _heard(network: Network, readers: _Readers, population: Population) -> int:
    """Distinct source neurons of the layer."""
    masks: dict[str, Mask] = {}
    for projection in network.incoming[population.name]:
        mask, name = readers.by_projection[projection.name], projection.source
        masks[name] = masks[name] | mask if name in masks else mask
    return sum(int(mask.sum()) for mask in masks.values())


def _bits(model: DemandModel, readers: _Readers, projection: Projection) -> int:
    """Synapse memory: a kernel once where it is shared, a matrix synapse by synapse without its indices."""
    operator, weights = projection.connectivity, model.target.weights
    source = model.network.by_name[projection.source].shape
    target = model.network.by_name[projection.target].shape
    mask = readers.by_projection[projection.name].reshape(source[0], -1)
    if isinstance(operator, Conv2d | Pool | Skip) and weights.shared:
        _, used = model.geometries[projection.name].stored(whole(target))
        bits = int(np.count_nonzero(used)) * weights.bits + int(mask.any(axis=1).sum()) * AXON_BITS
    else:
        bits = model.geometries[projection.name].synapses(whole(target)) * weights.bits
        bits += int(mask.sum()) * AXON_BITS
    bias = model.biases[projection.name]
    if bias is not None:
        digits, entries = digit_counts(bias)
        bits += digits * AXON_BITS + entries * weights.bits
    return bits
