"""Random aligned integer networks for differential tests.

Thresholds and shifts are chosen by running the reference's arithmetic on a few inputs
while the network grows, so that populations neither stay silent nor fire all the time.
Everything depends on the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from nmc.ir import reference
from nmc.ir.connectivity import (
    Array,
    Connectivity,
    Conv2d,
    Shape,
    Skip,
    size,
)
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import IF, LIF, NO_MEMORY, Graded, GradedReLU, Integrator, Neuron, Reset, Source
from nmc.ir.origin import Origin
from nmc.testing.random_connectivity import (
    random_conv,
    random_dense,
    random_pool,
    random_shape,
    random_sparse,
    random_weights,
)

KINDS = ("any", "rate", "graded", "lif-leak", "reset-zero")
"""What `random_network` makes: ``rate`` is LIF without leak and subtractive reset, ``lif-leak``
decays u, v or both with either reset, ``reset-zero`` is LIF without leak that resets to zero,
``graded`` is one-step graded ReLU; ``any`` mixes them and adds IF."""

SUM_LIMIT = 1 << 17
"""No sum into a LIF or integrator reaches it: ``a << 6`` stays inside the 24-bit state."""

GRADED_LIMIT = 1 << 23
"""No sum of a graded network reaches it on the inputs of `random_inputs`."""

_SAMPLES = 8
_NEURONS = (50, 400)
_ATTEMPTS = 12
_LIVELY = (0.02, 0.85)


def random_network(seed: int, *, kind: str = "any") -> Network:
    """An aligned integer network of 50 to 400 neurons.

    Args:
        seed: decides everything.
        kind: one of `KINDS`.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    network = None
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, attempt, *kind.encode()])
        builder = _Builder(rng, kind if kind != "any" else str(rng.choice([*KINDS[1:], "rate", "if"])))
        network = builder.build(f"random-{kind}-{seed}")
        neurons = sum(p.neurons for p in network.populations)
        if _NEURONS[0] <= neurons <= _NEURONS[1] and builder.lively:
            break
    if network is None:  # pragma: no cover - the loop above runs at least once
        raise ValueError("no attempt was made")
    return network


def random_inputs(network: Network, n: int, seed: int) -> Array:
    """Integer inputs (n, *input population shape) int64 in the range of the input spec.

    About a third of the elements is zero; where the spec splits signs, at most one of each
    pair of channels is not.
    """
    rng = np.random.default_rng([seed, *b"inputs"])
    spec = network.input
    shape = network.by_name[spec.population].shape
    return _draw_inputs(rng, n, shape, spec)


def _draw_inputs(rng: np.random.Generator, n: int, shape: Shape, spec: InputSpec) -> Array:
    low, high = spec.low, spec.high
    if spec.split_sign:
        shape = (shape[0] // 2, *shape[1:])
    # A brightness per sample, so that samples differ in more than noise.
    bright = rng.uniform(0.3, 1.0, size=(n, *(1,) * len(shape)))
    q = rng.integers(low, high + 1, size=(n, *shape)) * bright * (rng.random((n, *shape)) > 0.3)
    values: Array = np.clip(np.rint(q), low, high).astype(np.int64)
    if spec.split_sign:
        values = np.concatenate([np.maximum(values, 0), np.maximum(-values, 0)], axis=1)
    return values


@dataclass
class _Builder:
    """A network that grows, with its messages on the calibration inputs."""

    rng: np.random.Generator
    kind: str
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)
    messages: dict[str, Array] = field(default_factory=dict)
    """By population: (samples, T, neurons)."""
    lively: bool = True
    timesteps: int = 1

    @property
    def graded(self) -> bool:
        return self.kind == "graded"

    def build(self, name: str) -> Network:
        rng = self.rng
        self.timesteps = int(rng.choice([1, 1, 2])) if self.graded else int(rng.integers(1, 17))
        spec, current = self._input()
        for _ in range(int(rng.integers(2, 5))):
            current = self._block(current)
        current = self._output(current)
        scales = {p.name: np.ones(p.shape[0]) for p in self.populations}
        output = OutputSpec(current.name, np.ones(()), current.shape)
        return Network(name, tuple(self.populations), tuple(self.projections), spec, output, self.timesteps, scales)

    # Populations

    def _input(self) -> tuple[InputSpec, Population]:
        rng = self.rng
        shape: Shape = (int(rng.integers(10, 50)),)
        if rng.random() < 0.8:
            shape = (int(rng.integers(1, 5)), int(rng.integers(4, 8)), int(rng.integers(4, 8)))
        bits = int(rng.choice([4, 8]))
        signed = bool(rng.random() < 0.4)
        split = not signed and shape[0] % 2 == 0 and rng.random() < 0.3
        high = (1 << (bits - signed)) - 1
        low = -high if signed or split else 0
        outer = (shape[0] // 2, *shape[1:]) if split else shape
        perm = (2, 0, 1) if len(shape) == 3 and rng.random() < 0.2 else None
        if perm is not None:
            outer = (*outer[1:], outer[0])
        mode = "bias" if not self.graded and rng.random() < 0.35 else "message"
        spec = InputSpec("input", outer, 1.0 / high, low, high, mode, bool(split), 0, perm)
        samples = _draw_inputs(rng, _SAMPLES, shape, spec)
        population = Population("input", shape, Source(bits, signed), Origin("input", "Input", "input"))
        if mode == "message":
            self.populations.append(population)
            sent = samples.reshape(_SAMPLES, 1, -1)
            self.messages["input"] = np.repeat(sent, self.timesteps, axis=1)
            return spec, population
        spec = replace(spec, bias_exp=int(rng.integers(0, 8)))
        current = self._spiking(population, None, samples, spec.bias_exp)
        return spec, current

    def _add(self, shape: Shape, incoming: list[tuple[Population, Connectivity, int]]) -> Population:
        """A hidden population with the given (source, connectivity, delay)."""
        source, _, delay = incoming[0]
        name = f"p{len(self.populations)}"
        blank = Population(name, shape, GradedReLU(), Origin(name, "Conv", name), source.start + delay)
        total = self._project(blank, incoming)
        if self.graded:
            return self._finish(blank, np.maximum(total, 0))
        return self._spiking(blank, total, None, 0)

    def _output(self, current: Population) -> Population:
        rng = self.rng
        shape: Shape = (int(rng.integers(3, 11)),)
        connectivity = random_dense(self.rng, current.shape, shape)
        if len(current.shape) == 3 and rng.random() < 0.3:
            connectivity = random_conv(self.rng, current.shape)
            shape = connectivity.out_shape
        delay = int(rng.integers(1, 4))
        neuron: Neuron = Graded()
        if not self.graded:
            mant = rng.integers(-4095, 4096, size=(shape[0], *(1,) * (len(shape) - 1)))
            v0 = rng.integers(-5000, 5001, size=shape if rng.random() < 0.5 else ())
            neuron = Integrator(mant, rng.integers(0, 5, size=()), np.asarray(v0))
        last = Population("output", shape, neuron, Origin("output", "Gemm", "y"), current.start + delay)
        self._project(last, [(current, connectivity, delay)])
        self.populations.append(last)
        return last

    def _spiking(self, blank: Population, total: Array | None, drive: Array | None, exponent: int) -> Population:
        """A spiking population whose thresholds give a random rate on the calibration inputs."""
        shape, rng = blank.shape, self.rng
        if total is None:
            total = np.zeros((_SAMPLES, self.timesteps, size(shape)), dtype=np.int64)
        make = self._neuron_family(shape, total, drive is not None, exponent)
        goal = rng.uniform(0.06, 0.5)
        low, high = 0.0, 17.0
        sent = total
        population = blank
        for _ in range(14):
            middle = (low + high) / 2
            population = replace(blank, neuron=make(2.0**middle))
            sent = _simulate(population, total, drive)
            low, high = (middle, high) if np.count_nonzero(sent) > goal * sent.size else (low, middle)
        return self._finish(population, sent)

    def _finish(self, population: Population, sent: Array) -> Population:
        self.populations.append(population)
        self.messages[population.name] = sent
        rate = np.count_nonzero(sent) / sent.size
        self.lively &= bool(_LIVELY[0] <= rate <= _LIVELY[1])
        return population

    def _neuron_family(self, shape: Shape, total: Array, driven: bool, exponent: int) -> Callable[[float], Neuron]:
        """Neurons by threshold: every parameter but the threshold's size is drawn here."""
        rng = self.rng
        channels: Shape = (shape[0], *(1,) * (len(shape) - 1))
        spread = 2.0 ** rng.uniform(-1, 1, size=channels if rng.random() < 0.7 else ())
        start = rng.uniform(-0.5, 0.9, size=shape) if rng.random() < 0.4 else np.asarray(rng.choice([0.0, 0.5]))
        reset = Reset.ZERO if self.kind == "reset-zero" else Reset.SUBTRACT
        if self.kind in ("lif-leak", "if"):
            reset = Reset(rng.choice([r.value for r in Reset]))
        leak = self.kind == "lif-leak"
        du = int(rng.integers(200, 4096)) if leak and rng.random() < 0.7 else NO_MEMORY
        dv = int(rng.integers(1, 2500)) if leak and rng.random() < 0.7 else 0
        typical = float(np.std(total))
        drawn = rng.normal(0.2, 0.4, size=channels) * typical * (0.0 if driven else 1.0)
        if self.kind == "if":
            bias = np.rint(drawn).astype(np.int64)

            def ideal(scale: float) -> Neuron:
                threshold = np.maximum(np.rint(scale * spread), 1).astype(np.int64)
                return IF(threshold, bias, np.rint(start * threshold).astype(np.int64), reset)

            return ideal
        if not driven:
            largest = float(np.abs(drawn).max()) * 64
            needed = max(0, math.ceil(math.log2(max(largest, 1.0) / 4095)))
            exponent = min(7, needed + int(rng.integers(0, 2)))
        mant = np.clip(np.rint(drawn * 64 / (1 << exponent)), -4095, 4095).astype(np.int64)

        def lif(scale: float) -> Neuron:
            threshold = np.clip(np.rint(scale * spread), 1, 131071).astype(np.int64)
            v0 = np.rint(start * threshold * 64).astype(np.int64)
            return LIF(threshold, mant, np.asarray(exponent, dtype=np.int64), v0, du, dv, reset)

        return lif

    # Projections

    def _project(self, target: Population, incoming: list[tuple[Population, Connectivity, int]]) -> Array:
        """Append the projections; the sum into the target, (samples, T, neurons)."""
        total = np.zeros((_SAMPLES, self.timesteps, target.neurons), dtype=np.int64)
        for source, connectivity, delay in incoming:
            name = f"{source.name}>{target.name}#{len(self.projections)}"
            sent = self.messages[source.name]
            connectivity, raw = self._within_limits(connectivity, sent)
            projection = Projection(name, source.name, target.name, connectivity, target.origin, delay)
            if self.graded:
                projection = self._graded_scaling(projection, raw)
            else:
                projection = replace(projection, shift=self._spiking_shift(projection, len(incoming)))
            if projection.bias is not None:
                raw = raw + _flat(projection.bias, connectivity.out_shape)
            shift = _flat(projection.shift, connectivity.out_shape)
            total += (raw >> np.maximum(shift, 0)) << np.maximum(-shift, 0)
            self.projections.append(projection)
        return total

    def _within_limits(self, connectivity: Connectivity, sent: Array) -> tuple[Connectivity, Array]:
        """Weights halved until no graded sum can reach its limit; the sums without bias and shift."""
        matrix = _matrix(connectivity)
        if self.graded:
            # Messages of other inputs may be larger than those seen here: four times at most.
            largest = 4 * int(np.abs(sent).max()) * int(np.abs(matrix).sum(axis=1).max())
            halvings = max(0, math.ceil(math.log2(max(1, largest) / (GRADED_LIMIT / 4))))
            if halvings:
                weight = np.sign(connectivity.weight) * ((np.abs(connectivity.weight) >> (halvings + 1)) << 1)
                connectivity = connectivity.with_weight(weight)
                matrix = _matrix(connectivity)
        return connectivity, sent @ matrix.T

    def _graded_scaling(self, projection: Projection, raw: Array) -> Projection:
        """A shift that brings sums to 6 to 9 bits, per channel or not, and a bias."""
        rng = self.rng
        shape = projection.connectivity.out_shape
        largest = int(np.abs(raw).max())
        if rng.random() < 0.7:
            width = max(1, largest // 4)
            sizes: list[Shape] = [(), (shape[0],), shape]
            bias = rng.integers(-width, width + 1, size=sizes[int(rng.integers(0, 3))])
            projection = replace(projection, bias=np.asarray(bias, dtype=np.int64))
        per_channel = raw.reshape(_SAMPLES, self.timesteps, shape[0], -1)
        peaks = np.abs(per_channel).max(axis=(0, 1, 3)) if rng.random() < 0.6 else np.asarray(largest)
        bits = np.ceil(np.log2(np.maximum(peaks, 1) + 1)).astype(np.int64)
        shift = np.clip(bits - rng.integers(6, 10, size=peaks.shape), -3, 20)
        return replace(projection, shift=np.asarray(shift, dtype=np.int64))

    def _spiking_shift(self, projection: Projection, parts: int) -> Array:
        """A shift that keeps ``parts`` such sums below `SUM_LIMIT`, often per channel, at times negative."""
        rng = self.rng
        connectivity = projection.connectivity
        neuron = next(p.neuron for p in self.populations if p.name == projection.source)
        largest = 1 << neuron.bits if isinstance(neuron, Source) else 1
        largest *= int(np.abs(_matrix(connectivity)).sum(axis=1).max())
        least = max(1, largest * parts).bit_length() - 16
        if least <= 0 and rng.random() < 0.5:
            return np.zeros((), dtype=np.int64)
        draw = rng.integers(0, 3, size=(connectivity.out_shape[0],) if rng.random() < 0.6 else ())
        return np.asarray(max(least, -2) + draw, dtype=np.int64)

    # Connectivity

    def _block(self, current: Population) -> Population:
        rng = self.rng
        flat = len(current.shape) == 1
        choices = ["dense", "sparse", "skip", "residual"] if flat else _BLOCKS
        block = str(rng.choice(choices))
        delay = int(rng.integers(1, 4))
        one: Connectivity
        match block:
            case "conv" | "depthwise":
                one = random_conv(self.rng, current.shape, depthwise=block == "depthwise")
            case "pool":
                one = random_pool(self.rng, current.shape)
            case "sparse" | "double":
                shape = random_shape(self.rng, current.shape)
                one = random_sparse(self.rng, current.shape, shape)
                if block == "double":
                    return self._add(
                        shape, [(current, one, delay), (current, random_dense(self.rng, current.shape, shape), delay)]
                    )
            case "skip":
                one = Skip(random_weights(self.rng, (current.shape[0],), low=2), current.shape)
            case "residual":
                return self._residual(current)
            case _:
                one = random_dense(self.rng, current.shape, random_shape(self.rng, (1,)))
        return self._add(one.out_shape, [(current, one, delay)])

    def _residual(self, current: Population) -> Population:
        """Two populations on a branch and an addition; the skip waits as long as the branch takes."""
        rng = self.rng
        first, second = int(rng.integers(1, 5)), int(rng.integers(1, 5))
        if len(current.shape) == 1:
            branch = self._add(current.shape, [(current, random_dense(self.rng, current.shape, current.shape), first)])
            back: Connectivity = random_dense(self.rng, current.shape, current.shape)
        else:
            channels = current.shape[0]
            middle = int(rng.integers(1, 5))
            there = Conv2d(random_weights(self.rng, (middle, channels, 3, 3)), current.shape, pads=(1, 1, 1, 1))
            branch = self._add(there.out_shape, [(current, there, first)])
            back = Conv2d(random_weights(self.rng, (channels, middle, 3, 3)), there.out_shape, pads=(1, 1, 1, 1))
        skip = Skip(random_weights(self.rng, (current.shape[0],), low=2), current.shape)
        return self._add(current.shape, [(branch, back, second), (current, skip, first + second)])


_BLOCKS = ("conv", "conv", "conv", "depthwise", "pool", "residual", "residual", "sparse", "double", "skip", "dense")


def _flat(values: Array, shape: Shape) -> Array:
    """Values of shape (), (C,) or ``shape``, as (neurons,)."""
    return np.broadcast_to(reference.per_channel(values, shape), shape).reshape(-1)


def _matrix(connectivity: Connectivity) -> Array:
    """(targets, sources) int64."""
    matrix = np.zeros((size(connectivity.out_shape), size(connectivity.in_shape)), dtype=np.int64)
    target, source, weight = connectivity.synapses()
    matrix[target, source] = weight
    return matrix


def _simulate(population: Population, total: Array, drive: Array | None) -> Array:
    """Messages (samples, T, neurons) for the sums of each step, by the reference's own update."""
    samples, steps, neurons = total.shape
    state = reference._State(replace(population, shape=(samples, *population.shape)))
    sent = [state.step(total[:, t].reshape(samples, *population.shape), drive) for t in range(steps)]
    return np.stack(sent, axis=1).reshape(samples, steps, neurons)
