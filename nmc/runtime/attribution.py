"""Which step of the conversion the error of a layer comes from.

For a population whose float values y are known, the values that its messages stand for are built up
step by step from what its sources really sent, and each step is charged with what it adds to the
mean-square error against y:

```
inputs     relu(z + o)               z: the weights over reals on what the sources sent
weights    relu(z' + o)              z': the stored integers on the same
clipping   min(relu(z' + o), top)    top: a message of the largest level in each of the T steps
levels     s n / T                   n: the whole levels in the charge of the window, all there at once
timing     what was sent             the same charge, arriving step by step
```

so the five parts add up to the error. A part below zero takes away from an error that an earlier
part brought: weights and neurons are calibrated to do so. ``o`` is the offset per channel that
the neuron search moved into the bias (the mean of y - z where y > 0): it belongs to the code.

Beside it stands the error of the same network if all charge of a window were there at once in every
layer (ideal levels). It is no lower bound: weights and neurons are calibrated to the spikes that
really come, and what they make up for is then missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, size
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    Graded,
    GradedReLU,
    IdealIntegrator,
    Integrator,
    Neuron,
    Reset,
    SigmaDelta,
    spike_levels,
)
from nmc.kernels.integrate import flat
from nmc.kernels.layerwise import execute_network
from nmc.kernels.propagate import plan, to_channels_last
from nmc.runtime.tables import TextTable

UNIT = 64
"""Units of v per unit of a synaptic sum (the ``<< 6`` of docs/arithmetic.md)."""

NOTICEABLE = 0.005
"""Share of a layer's variance below which an error is not worth a word: 32 levels make 0.001 to 0.003."""

PARTS = ("inputs", "weights", "clipping", "levels", "timing")
"""Where an error comes from, in the order of the computation."""


REMEDIES: Mapping[str, str] = {
    "inputs": "look at the layers before it",
    "weights": "store more bits per weight (--weight-bits), or take a target that has them",
    "clipping": "calibrate on more, or more varied, samples (--calib)",
    "levels": "raise the timesteps (-T), or let messages carry levels (--coding burst or graded)",
    "timing": "let layers wait a step (--wait auto), or allow negative spikes (--coding signed)",
}
"""What to do about each."""


@dataclass(frozen=True)
class Attribution:
    """Where the error of one population comes from; errors are shares of the variance of the float values.

    Attributes:
        name: of the population.
        rate: messages per neuron and step; of bursts their levels.
        dead: share of the neurons that never send although their float value is above zero somewhere.
        saturated: share of the values that are at the largest that the code can say.
        error: mean-square error of the decoded values.
        parts: by `PARTS`; they add up to ``error``.
        ideal: the error if every layer had all charge of its window at once.
    """

    name: str
    rate: float
    dead: float
    saturated: float
    error: float
    parts: Mapping[str, float]
    ideal: float

    @property
    def own(self) -> float:
        """What the population adds to what its inputs bring along."""
        return self.error - self.parts["inputs"]

    @property
    def main_part(self) -> str:
        """The part of its own that adds most."""
        return max(PARTS[1:], key=lambda part: self.parts[part])

    def to_dict(self) -> dict[str, object]:
        """The ``--json`` form."""
        return {
            "name": self.name, "rate": self.rate, "dead": self.dead, "saturated": self.saturated,
            "error": self.error, "parts": dict(self.parts), "ideal": self.ideal,
        }  # fmt: skip


def worst(found: Sequence[Attribution]) -> Attribution | None:
    """The population that adds most to the error; None if none adds more than `NOTICEABLE`."""
    adding = [row for row in found if row.own > NOTICEABLE]
    return max(adding, key=lambda row: row.own, default=None)


def attribution_table(found: Sequence[Attribution]) -> TextTable:
    """A row per population; errors in per cent of the variance of the float values."""
    columns = ("layer", "#rate", "#dead", "#saturated", "#error", *(f"#{part}" for part in PARTS), "#ideal levels")
    rows = tuple(
        (
            row.name, f"{row.rate:.3f}", f"{100 * row.dead:.1f} %", f"{100 * row.saturated:.1f} %",
            *(f"{100 * value:.2f}" for value in (row.error, *(row.parts[part] for part in PARTS), row.ideal)),
        )
        for row in found
    )  # fmt: skip
    return TextTable("where the error comes from, % of the variance of the float values", columns, rows)


def attribute(network: Network, spiking: Network, inputs: Array, wanted: Mapping[str, Array]) -> list[Attribution]:
    """Split the error of every population whose float values are known.

    Args:
        network: quantized, without loops.
        spiking: the same before quantization.
        inputs: as `nmc.ir.reference.encode` makes them.
        wanted: by population, (N, *shape): the float network's values.
    """
    run = execute_network(network, inputs, counts=True)
    sent = {p.name: to_channels_last(run.counts[p.name], p.shape) for p in network.populations}
    # What cannot be reckoned (loops apart: an input that its bias drives) counts as sent.
    ideal = dict(sent)
    for spec, readout in zip(network.outputs, run.readouts, strict=True):
        population = network.by_name[spec.population]
        if isinstance(population.neuron, Integrator):
            sent[population.name] = to_channels_last(readout, population.shape)
    found = []
    for population in network.populations:
        name, incoming = population.name, network.incoming[population.name]
        if incoming:
            ideal[name] = _at_once(network, population, ideal)
        if name not in wanted:
            continue
        y = to_channels_last(wanted[name], population.shape)
        ladder = [] if not incoming else _ladder(network, spiking, population, sent, y)
        errors = [_mean_square(values, y) for values in (*ladder, _values(network, population, sent[name]))]
        reached = _mean_square(_values(network, population, ideal[name]), y)
        found.append(_attribution(network, population, sent[name], y, errors, reached))
    return found


def _mean_square(values: Array, y: Array) -> float:
    return float(np.square(values - y).mean())


def _attribution(
    network: Network, population: Population, sent: Array, y: Array, errors: list[float], reached: float
) -> Attribution:
    """Of the errors after each step of the computation; an input has only its own levels."""
    power = float(y.var()) or float(np.square(y).mean()) or 1.0
    added = np.diff([0.0, *errors]) / power
    given = dict(zip(PARTS, added, strict=True)) if len(added) == len(PARTS) else {"levels": added[-1]}
    parts = {part: float(given.get(part, 0.0)) for part in PARTS}
    levels, steps = spike_levels(population.neuron), network.timesteps
    rate = dead = saturated = 0.0
    if not isinstance(population.neuron, Integrator):
        rate = float(np.abs(sent).mean() / steps) if levels else float(np.count_nonzero(sent) / sent.size)
        one = np.abs(_values(network, population, np.ones((1, population.neurons))))
        wanted_once = (y >= one).any(axis=0)
        dead = float((wanted_once & ~sent.any(axis=0)).mean())
    if levels and levels[1]:
        saturated = float((sent >= levels[1] * steps).mean())
    return Attribution(population.name, rate, dead, saturated, errors[-1] / power, parts, reached / power)


def _values(network: Network, population: Population, sent: Array) -> Array:
    """The real values that messages added up over the window (or a read-out) stand for; (N, n)."""
    if isinstance(population.neuron, Integrator):
        scale = next((s.scale for s in network.outputs if s.population == population.name), np.ones(()))
        return np.asarray(sent * flat(np.asarray(scale, dtype=np.float64), population.shape))
    scale = np.asarray(network.scales[population.name], dtype=np.float64)
    return np.asarray(sent * flat(scale, population.shape) / network.timesteps)


def _is_linear(neuron: Neuron) -> bool:
    return isinstance(neuron, Integrator | Graded) or (isinstance(neuron, SigmaDelta) and not neuron.rectify)


def _ladder(
    network: Network, spiking: Network, population: Population, sent: Mapping[str, Array], y: Array
) -> list[Array]:
    """What the population would say after each part but the last, (N, n) each."""
    charge = _charge(network, population, sent)
    real = _real_drive(network, spiking, population, sent)
    linear = _is_linear(population.neuron)
    if real is None:  # A later pass made it: its weights are its own.
        active = np.ones_like(y) if linear else (y > 0).astype(np.float64)
        unit = _unit(charge * active, y * active, population)
        real = stored = charge * unit
    else:
        stored = charge * _unit(charge, real, population)
    offset = np.zeros(()) if linear else _offset(real, y, population)
    inputs, weights = (z if linear else np.maximum(z + offset, 0.0) for z in (real, stored))
    levels = spike_levels(population.neuron)
    clipped = weights
    if levels is not None and not linear:
        top = _values(network, population, np.full((1, population.neurons), float(levels[1] * network.timesteps)))
        clipped = np.minimum(weights, top)
    return [inputs, weights, clipped, _values(network, population, _at_once(network, population, sent))]


def _by_channel(values: Array, population: Population) -> Array:
    """(N, n) channels last as (values of a channel, C)."""
    return values.reshape(-1, population.shape[0])


def _unit(charge: Array, real: Array, population: Population) -> Array:
    """(n,) the real value of one unit of the charge of a window, per channel, by least squares."""
    c, z = _by_channel(charge, population), _by_channel(real, population)
    square = np.einsum("mc,mc->c", c, c)
    unit = np.einsum("mc,mc->c", c, z) / np.where(square > 0, square, 1.0)
    return np.asarray(np.tile(unit, population.neurons // population.shape[0]))


def _offset(real: Array, y: Array, population: Population) -> Array:
    """(n,) what the drives lack where the float network is active, per channel: it is in the neurons' bias."""
    missing = _by_channel(np.where(y > 0, y - real, 0.0), population).sum(axis=0)
    active = np.maximum(_by_channel(y > 0, population).sum(axis=0), 1)
    return np.asarray(np.tile(missing / active, population.neurons // population.shape[0]))


def _real_drive(network: Network, spiking: Network, population: Population, sent: Mapping[str, Array]) -> Array | None:
    """Pre-activations of the weights over reals on what the sources really sent, (N, n); None if there are none."""
    before = {p.name: p for p in spiking.incoming.get(population.name, ())}
    incoming = network.incoming[population.name]
    if set(before) != {p.name for p in incoming}:
        return None
    total = np.zeros(())
    for projection in incoming:
        source = network.by_name[projection.source]
        scale = flat(np.asarray(spiking.scales[source.name], dtype=np.float64), source.shape)
        messages = _values(network, source, sent[source.name]) / np.where(scale > 0, scale, 1.0)
        total = total + _linear(before[projection.name], messages, 1)
    neuron = spiking.by_name[population.name].neuron
    if isinstance(neuron, IF | IdealIntegrator):
        window = (network.timesteps + population.wait) / network.timesteps
        total = total + flat(neuron.bias, population.shape) * window
    return np.asarray(total)


def _linear(projection: Projection, messages: Array, steps: int) -> Array:
    """W m + steps * b in float64, its shift as a factor; (N, n_out) channels last."""
    shape = projection.connectivity.out_shape
    total: Array = np.zeros((len(messages), size(shape)))
    plan(projection.connectivity, np.float64).add(np.ascontiguousarray(messages, dtype=np.float64), total)
    if projection.bias is not None:
        total += steps * flat(projection.bias, shape)
    return np.asarray(total * np.exp2(-flat(projection.shift, shape).astype(np.float64)))


def _charge(network: Network, population: Population, sent: Mapping[str, Array]) -> Array:
    """What a population takes in over its window, v0 apart: in units of v, or of the sum without a potential."""
    neuron, incoming = population.neuron, network.incoming[population.name]
    total = np.asarray(sum(_linear(p, sent[p.source], network.timesteps) for p in incoming))
    match neuron:
        case LIF() | Integrator():
            window = network.timesteps + (population.wait if isinstance(neuron, LIF) else 0)
            return np.asarray(total * UNIT + flat(neuron.bias, population.shape) * window)
        case SigmaDelta():
            return np.asarray(total + flat(neuron.v0, population.shape))
        case _:
            return total


def _at_once(network: Network, population: Population, sent: Mapping[str, Array]) -> Array:
    """The messages of a window, added up, if all its charge were there in the first step; (N, n)."""
    neuron, charge = population.neuron, _charge(network, population, sent)
    match neuron:
        case LIF():
            levels = spike_levels(neuron) or (0, 1)
            theta = flat(neuron.threshold, population.shape) * UNIT
            v0 = flat(neuron.v0, population.shape)
            most = levels[1] * network.timesteps
            if neuron.dv:
                return _leaky_spikes(neuron, charge, theta, v0, network.timesteps, population.wait)
            if neuron.reset is Reset.ZERO:
                return _even_spikes(charge / (network.timesteps + population.wait), theta, v0, network.timesteps)
            return np.asarray(np.clip(np.ceil((charge + v0) / np.maximum(theta, 1)) - 1, 0, most))
        case Integrator():
            return np.asarray(charge + flat(neuron.v0, population.shape))
        case GradedReLU() | Graded():
            # Every projection's sum is floored by its own shift.
            parts = [np.floor(_linear(p, sent[p.source], 1)) for p in network.incoming[population.name]]
            total = np.asarray(sum(parts))
            return np.maximum(total, 0) if isinstance(neuron, GradedReLU) else total
        case SigmaDelta():
            activation = np.floor(charge * np.exp2(-flat(neuron.shift, population.shape).astype(np.float64)))
            return np.asarray(np.maximum(activation, 0) if neuron.rectify else activation)
        case _:
            raise TypeError(f"{type(neuron).__name__} is not integer")


def _leaky_spikes(neuron: LIF, charge: Array, theta: Array, v0: Array, timesteps: int, wait: int) -> Array:
    """Spikes in T steps of even charge, some of which leaks: nothing that leaks can be there at once."""
    kept, most = 1.0 - neuron.dv / 4096, (spike_levels(neuron) or (0, 1))[1]
    v, counts = np.broadcast_to(v0, charge.shape).astype(np.float64), np.zeros(charge.shape)
    for step in range(timesteps + wait):
        v = v * kept + charge / (timesteps + wait)
        sent = np.clip(np.ceil(v / theta) - 1, 0, most) if step >= wait else np.zeros(charge.shape)
        counts += sent
        v = np.where(sent > 0, 0.0, v) if neuron.reset is Reset.ZERO else v - sent * theta
    return counts


def _even_spikes(step: Array, theta: Array, v0: Array, timesteps: int) -> Array:
    """Spikes in T steps of even charge, where a spike resets to zero: one in each whole number of steps."""
    step = np.maximum(step, 1e-9)
    first = np.maximum(np.floor((theta - v0) / step) + 1, 1)
    between = np.floor(theta / step) + 1
    return np.where(first <= timesteps, 1 + np.floor((timesteps - first) / between), 0)
