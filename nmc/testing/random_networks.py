"""Random aligned integer networks for differential tests.

Thresholds and shifts are chosen by running the reference's arithmetic on a few inputs
while the network grows, so that populations neither stay silent nor fire all the time.
Everything depends on the seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Shape, Skip, size
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import Graded, GradedReLU, Integrator, Neuron, SigmaDelta, Source
from nmc.ir.origin import Origin
from nmc.ir.samples import joined
from nmc.testing.random_connectivity import (
    lighter,
    random_conv,
    random_dense,
    random_pool,
    random_shape,
    random_sparse,
    random_weights,
)
from nmc.testing.random_neurons import SPIKING_MODELS, draw_family, simulate
from nmc.testing.random_projections import (
    DELTA_LIMIT,
    GRADED_LIMIT,
    MARGIN,
    SUM_LIMIT,
    graded_scaling,
    largest_message,
    loop_shift,
    matrix_of,
    projected_sums,
    spiking_shift,
    within,
)

__all__ = ["GRADED_LIMIT", "KINDS", "SUM_LIMIT", "random_inputs", "random_network"]

KINDS = ("any", "graded", *SPIKING_MODELS, "sigma-delta", "recurrent")
"""What `random_network` makes.

``rate``: LIF without leak and subtractive reset. ``lif-leak``: decays u, v or both, with either
reset. ``reset-zero``: LIF without leak that resets to zero. ``if``: ideal integrate-and-fire with
any firing rule. ``signed``, ``burst``: these firing rules, mostly in LIF. ``ternary``: Lava's
TernaryLIF. ``refractory``: LIF that rests after a message, with any firing rule. ``graded``:
graded ReLU. ``sigma-delta``: changes from the input, sent once or again and again, to a linear
read-out. ``recurrent``: a model per population, with loops. ``any`` mixes them.
"""

_SAMPLES = 8
_NEURONS = (50, 400)
_ATTEMPTS = 12
_LIVELY = (0.02, 0.85)


def random_network(seed: int, *, kind: str = "any", inputs: int = 1) -> Network:
    """An aligned integer network of 50 to 400 neurons.

    Args:
        seed: decides everything.
        kind: one of `KINDS`.
        inputs: how many; all but the first join it further inside, the network then has more neurons.

    Raises:
        ValueError: unknown kind, or no input.
    """
    if kind not in KINDS or inputs < 1:
        raise ValueError(f"kind {kind!r} is not one of {', '.join(KINDS)}, or there are {inputs} inputs")
    network = None
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, attempt, *kind.encode()])
        builder = _Builder(rng, kind if kind != "any" else str(rng.choice([*KINDS[1:], "rate"])))
        network = builder.build(f"random-{kind}-{seed}", ["input", *(f"input{n}" for n in range(2, inputs + 1))])
        neurons = sum(p.neurons for p in network.populations)
        if _NEURONS[0] <= neurons <= _NEURONS[1] * inputs and builder.lively:
            break
    if network is None:  # pragma: no cover - the loop above runs at least once
        raise ValueError("no attempt was made")
    return network


def random_inputs(network: Network, n: int, seed: int) -> Array:
    """Integer inputs (n, *network.input_shape) int64 in the ranges of the input specs.

    About a third of the elements is zero; where the spec splits signs, at most one of each
    pair of channels is not.
    """
    rng = np.random.default_rng([seed, *b"inputs"])
    return joined([_draw_inputs(rng, n, network.by_name[spec.population].shape, spec) for spec in network.inputs])


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


_ONCE = {"sigma-delta": 0.6, "recurrent": 0.2}
"""How often the source of a kind sends once only."""


@dataclass
class _Builder:
    """A network that grows, with its messages on the calibration inputs."""

    rng: np.random.Generator
    kind: str
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)
    messages: dict[str, Array] = field(default_factory=dict)
    """By population: (samples, T, neurons)."""
    timesteps: int = 1
    plain: bool = False
    """Of a sigma-delta network: small weights and no shift at all."""

    @property
    def lively(self) -> bool:
        """Whether every population that computes messages sends neither too few nor too many."""
        computing = [p.name for p in self.populations if not isinstance(p.neuron, Source) and p.name in self.messages]
        rates = [np.count_nonzero(self.messages[name]) / self.messages[name].size for name in computing]
        return all(_LIVELY[0] <= rate <= _LIVELY[1] for rate in rates)

    def build(self, name: str, inputs: list[str]) -> Network:
        rng = self.rng
        match self.kind:
            case "graded":
                self.timesteps = int(rng.choice([1, 1, 2]))
            case "sigma-delta":
                self.timesteps = int(rng.integers(1, 5))
                self.plain = bool(rng.random() < 0.5)
            case "refractory" | "recurrent":
                self.timesteps = int(rng.integers(5, 17))
            case _:
                self.timesteps = int(rng.integers(1, 17))
        specs, (current, *others) = zip(*(self._input(name) for name in inputs), strict=True)
        for _ in range(int(rng.integers(2, 5))):
            current = self._block(current)
            if others:
                current = self._join(current, others.pop())
        for other in others:
            current = self._join(current, other)
        current = self._output(current)
        if len(specs) > 1:
            specs = tuple(replace(spec, name=spec.population) for spec in specs)
        scales = {p.name: np.ones(p.shape[0]) for p in self.populations}
        outputs = (OutputSpec(current.name, np.ones(()), current.shape),)
        return Network(name, tuple(self.populations), tuple(self.projections), specs, outputs, self.timesteps, scales)

    # Populations

    def _input(self, name: str) -> tuple[InputSpec, Population]:
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
        mode = "bias" if self.kind not in ("graded", "sigma-delta") and rng.random() < 0.35 else "message"
        spec = InputSpec(name, outer, 1.0 / high, low, high, mode, bool(split), 0, perm)
        samples = _draw_inputs(rng, _SAMPLES, shape, spec)
        once = bool(rng.random() < _ONCE[self.kind]) if self.kind in _ONCE else False
        population = Population(name, shape, Source(bits, signed, once), Origin(name, "Input", name))
        if mode == "message":
            self.populations.append(population)
            sent = np.repeat(samples.reshape(_SAMPLES, 1, -1), self.timesteps, axis=1)
            if once:
                sent[:, 1:] = 0
            self.messages[name] = sent
            return spec, population
        spec = replace(spec, bias_exp=int(rng.integers(0, 8)))
        model = str(rng.choice(SPIKING_MODELS)) if self.kind == "recurrent" else self.kind
        current = self._spiking(population, model, None, samples, spec.bias_exp)
        return spec, current

    def _model(self) -> str:
        """The neuron model of the next population."""
        if self.kind == "recurrent":
            return str(self.rng.choice([*SPIKING_MODELS, "sigma-delta"]))
        return "plain-delta" if self.plain else self.kind

    def _add(self, shape: Shape, incoming: list[tuple[Population, Connectivity, int]]) -> Population:
        """A hidden population with the given (source, connectivity, delay)."""
        source, _, delay = incoming[0]
        name = f"p{len(self.populations)}"
        blank = Population(name, shape, GradedReLU(), Origin(name, "Conv", name), source.start + delay)
        model = self._model()
        total = self._project(blank, incoming, model)
        if model == "graded":
            self.populations.append(blank)
            self.messages[name] = np.maximum(total, 0)
            return blank
        return self._spiking(blank, model, total, None, 0)

    def _output(self, current: Population) -> Population:
        rng = self.rng
        shape: Shape = (int(rng.integers(3, 11)),)
        connectivity = random_dense(self.rng, current.shape, shape)
        if len(current.shape) == 3 and rng.random() < 0.3:
            connectivity = random_conv(self.rng, current.shape)
            shape = connectivity.out_shape
        delay = int(rng.integers(1, 4))
        model, neuron = self.kind, self._readout(shape)
        if model not in ("graded", "sigma-delta"):
            model = "integrator"
        last = Population("output", shape, neuron, Origin("output", "Gemm", "y"), current.start + delay)
        self._project(last, [(current, connectivity, delay)], "plain-delta" if self.plain else model)
        self.populations.append(last)
        return last

    def _readout(self, shape: Shape) -> Neuron:
        rng = self.rng
        if self.kind == "graded":
            return Graded()
        per_channel: Shape = (shape[0], *(1,) * (len(shape) - 1))
        mant = rng.integers(-4095, 4096, size=per_channel)
        v0 = np.asarray(rng.integers(-5000, 5001, size=shape if rng.random() < 0.5 else ()))
        if self.kind == "sigma-delta":
            shift = rng.integers(0, 4, size=per_channel if rng.random() < 0.5 else ()) * (not self.plain)
            return SigmaDelta(rng.integers(1, 9, size=()), v0, np.asarray(shift), rectify=False)
        return Integrator(mant, rng.integers(0, 5, size=()), v0)

    def _spiking(
        self, blank: Population, model: str, total: Array | None, drive: Array | None, exponent: int
    ) -> Population:
        """A population whose thresholds give a random rate on the calibration inputs."""
        rng = self.rng
        if total is None:
            total = np.zeros((_SAMPLES, self.timesteps, size(blank.shape)), dtype=np.int64)
        family = draw_family(rng, model, blank.shape, total, driven=drive is not None, exponent=exponent)
        loops: list[Projection] = []
        if self.kind == "recurrent" and drive is None:
            loops = self._loops(replace(blank, neuron=family(1.0)), total)
        # What loops reach back to changes with the new population: it is run again, all in step.
        members = [p.name for p in self.populations]
        first = min((members.index(q.target) for q in loops if q.target in members), default=len(members))
        group, inside = self.populations[first:], {*members[first:], blank.name}
        totals = {p.name: self._from_outside(p, inside) for p in group}
        totals[blank.name] = self._from_outside(blank, inside) if group else total
        loops += [q for q in self.projections if {q.source, q.target} <= inside]
        goal = rng.uniform(0.06, 0.5)
        low, high = 0.0, 17.0
        sent, population = {blank.name: total}, blank
        for _ in range(14):
            middle = (low + high) / 2
            population = replace(blank, neuron=family(2.0**middle))
            sent = simulate([*group, population], loops, totals, drive)
            found = sent[blank.name]
            low, high = (middle, high) if np.count_nonzero(found) > goal * found.size else (low, middle)
        known = {q.name for q in self.projections}
        self.projections += [q for q in loops if q.name not in known]
        self.populations.append(population)
        self.messages |= sent
        return population

    # Projections

    def _project(self, target: Population, incoming: list[tuple[Population, Connectivity, int]], model: str) -> Array:
        """Append the projections; the sum into the target, (samples, T, neurons)."""
        rng = self.rng
        total = np.zeros((_SAMPLES, self.timesteps, target.neurons), dtype=np.int64)
        for source, connectivity, delay in incoming:
            name = f"{source.name}>{target.name}#{len(self.projections)}"
            sent = self.messages[source.name]
            projection = Projection(name, source.name, target.name, connectivity, target.origin, delay)
            match model:
                case "graded":
                    connectivity = within(connectivity, int(np.abs(sent).max()), GRADED_LIMIT // MARGIN)
                    raw = sent @ matrix_of(connectivity).T
                    projection = graded_scaling(rng, replace(projection, connectivity=connectivity), raw)
                case "sigma-delta" | "plain-delta":
                    light = lighter(rng, connectivity) if self.plain else connectivity
                    held = int(np.abs(np.cumsum(sent, axis=1)).max())
                    connectivity = within(light, held, DELTA_LIMIT // MARGIN)
                    shift = 0 if self.plain or rng.random() < 0.6 else int(rng.choice([-1, 1, 2]))
                    projection = replace(projection, connectivity=connectivity, shift=np.asarray(shift))
                case _:
                    largest = largest_message(source.neuron, sent)
                    shifts = spiking_shift(rng, connectivity, largest, len(incoming))
                    projection = replace(projection, shift=shifts)
            total += projected_sums(projection, sent)
            self.projections.append(projection)
        return total

    def _from_outside(self, target: Population, inside: set[str]) -> Array:
        """What arrives from populations that are not ``inside``."""
        total = np.zeros((_SAMPLES, self.timesteps, target.neurons), dtype=np.int64)
        for projection in self.projections:
            if projection.target == target.name and projection.source not in inside:
                total += projected_sums(projection, self.messages[projection.source])
        return total

    def _loops(self, new: Population, total: Array) -> list[Projection]:
        """Projections from a new population to itself and to an earlier one, one loop at least for the first."""
        rng = self.rng
        loops = []
        largest = largest_message(new.neuron, total)
        back = [p for p in self.populations[-2:] if self._may_hear(p)]
        if rng.random() < 0.5 or not any(q.source == q.target for q in self.projections):
            loops.append(self._loop(new, new, largest, total))
        if back and rng.random() < 0.6 and not isinstance(new.neuron, SigmaDelta):
            target = back[int(rng.integers(0, len(back)))]
            loops.append(self._loop(new, target, largest, self._from_outside(target, set())))
        return loops

    def _may_hear(self, population: Population) -> bool:
        """Whether a population can take one more projection from behind; the input takes none."""
        heard = [q.source for q in self.projections if q.target == population.name and q.source != population.name]
        names = [p.name for p in self.populations]
        late = [source for source in heard if names.index(source) > names.index(population.name)]
        return not population.name.startswith("input") and not late

    def _loop(self, source: Population, target: Population, largest: int, total: Array) -> Projection:
        rng = self.rng
        draw = rng.random()
        connectivity: Connectivity = random_sparse(rng, source.shape, target.shape)
        if draw < 0.3:
            connectivity = random_dense(rng, source.shape, target.shape)
        elif draw < 0.6 and source.shape == target.shape:
            connectivity = Skip(random_weights(rng, (source.shape[0],), low=2), source.shape)
        name = f"{source.name}>{target.name}#back{len(self.projections)}"
        shift = loop_shift(rng, connectivity, largest, target.neuron, total)
        delay = int(rng.integers(1, 5))
        return Projection(name, source.name, target.name, connectivity, target.origin, delay, shift)

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

    def _join(self, current: Population, other: Population) -> Population:
        """A population that hears the network so far, and another input, whose messages wait as long."""
        rng, shape = self.rng, random_shape(self.rng, (1,))
        delay = int(rng.integers(1, 4))
        make = random_dense if rng.random() < 0.5 else random_sparse
        here, there = random_dense(rng, current.shape, shape), make(rng, other.shape, shape)
        return self._add(shape, [(current, here, delay), (other, there, current.start - other.start + delay)])

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
