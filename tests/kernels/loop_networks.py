"""Small random networks with every neuron model and firing rule, most of them with loops."""

import numpy as np

from nmc.ir.connectivity import Conv2d, Dense, Skip, size, sparse_from_synapses
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    NO_MEMORY,
    Binary,
    Burst,
    Graded,
    GradedReLU,
    Integrator,
    Reset,
    SigmaDelta,
    Signed,
    Source,
)
from nmc.ir.origin import Origin

NEURONS = ("lif", "leak", "rest", "if", "delta", "mixed")
RULES = ("binary", "burst", "signed", "guarded")
ORIGIN = Origin("node", "Gemm", "y")


def random_fire(rng, rule):
    match rule:
        case "burst":
            return Burst(int(rng.choice([2, 7, 127, 128, 1000])))
        case "signed" | "guarded":
            return Signed(np.asarray(rng.integers(0, 40)), guarded=rule == "guarded")
        case _:
            return Binary()


def random_neuron(rng, kind, rule, shape):
    """Any neuron with a potential; parameters per channel, per neuron or shared."""

    def numbers(low, high):
        shapes = [(), (shape[0], *(1,) * (len(shape) - 1)), shape]
        return np.asarray(rng.integers(low, high, size=shapes[int(rng.integers(3))]))

    if kind == "mixed":
        kind = str(rng.choice(NEURONS[:4]))
        rule = str(rng.choice(RULES))
    fire, reset = random_fire(rng, rule), Reset(rng.choice(["subtract", "zero"]))
    if kind == "delta":
        return SigmaDelta(numbers(1, 9), numbers(-50, 50), numbers(0, 4), bool(rng.random() < 0.7))
    if kind == "if":
        return IF(numbers(1, 60), numbers(-3, 9), numbers(-20, 20), reset, fire)
    du = int(rng.integers(0, NO_MEMORY)) if kind == "leak" else NO_MEMORY
    dv = int(rng.integers(0, 3000)) if kind == "leak" else 0
    rest = int(rng.integers(1, 4)) if kind == "rest" else 0
    return LIF(numbers(1, 60), numbers(-200, 400), numbers(0, 2), numbers(-900, 900), du, dv, reset, fire, rest)


def random_operator(rng, source, target):
    """Any operator from one shape to another."""

    def weights(*shape):
        return rng.integers(-9, 10, size=shape) * (rng.random(shape) < 0.7)

    pick = int(rng.integers(3))
    if source == target and pick == 0:
        return Skip(weights(source[0]), source)
    if len(source) == 3 and source[1:] == target[1:] and pick < 2:
        return Conv2d(weights(target[0], source[0], 3, 3), source, pads=(1, 1, 1, 1))
    if pick == 1:
        matrix = weights(size(target), size(source)) * (rng.random((size(target), size(source))) < 0.3)
        rows, columns = np.nonzero(matrix)
        return sparse_from_synapses(rows, columns, matrix[rows, columns], source, target)
    return Dense(weights(size(target), size(source)), source, target)


def loop_network(seed, kind="mixed", rule="binary", *, loops=3):
    """An aligned integer network.

    Args:
        seed: decides everything.
        kind: one of `NEURONS`.
        rule: one of `RULES`; a mixed network has all of them.
        loops: recurrent projections, at most.
    """
    rng = np.random.default_rng([seed, *kind.encode(), *rule.encode()])
    steps, delta = int(rng.integers(3, 12)), kind == "delta"
    shapes = [(2, 4, 4), (3, 4, 4), (7,), (5,)]
    first = Source(8, True, once=delta) if rng.random() < 0.6 or delta else random_neuron(rng, kind, rule, (2, 4, 4))
    populations = [Population("in", (2, 4, 4), first, ORIGIN)]
    projections = []

    def link(source, target, delay):
        operator = random_operator(rng, source.shape, target.shape)
        channels = operator.out_shape[0]
        shift = rng.integers(-1, 3, size=() if rng.random() < 0.5 else (channels,))
        bias = rng.integers(-30, 30, size=(channels,)) if rng.random() < 0.3 else None
        name = f"{source.name}>{target.name}#{len(projections)}"
        projections.append(Projection(name, source.name, target.name, operator, ORIGIN, delay, np.asarray(shift), bias))

    for number in range(int(rng.integers(2, 5))):
        shape = shapes[int(rng.integers(len(shapes)))]
        # Not always the one before: a late population may open early.
        sources = list({int(rng.integers(len(populations))), int(rng.integers(len(populations)))})
        start = 1 + max(populations[s].start for s in sources)
        neuron = random_neuron(rng, kind, rule, shape)
        if rng.random() < 0.15:
            neuron = GradedReLU() if rng.random() < 0.5 else Graded()
        target = Population(f"p{number}", shape, neuron, ORIGIN, start)
        for s in sources:
            link(populations[s], target, start - populations[s].start)
        populations.append(target)
    last = Population("out", (4,), Integrator(*(np.asarray(v) for v in (3, 1, -7))), ORIGIN, populations[-1].start + 1)
    if delta or rng.random() < 0.3:
        last = Population("out", (4,), random_neuron(rng, kind, rule, (4,)), ORIGIN, last.start)
    link(populations[-1], last, 1)
    populations.append(last)
    stateful = [p for p in populations[1:] if not isinstance(p.neuron, Graded | GradedReLU)]
    for _ in range(loops):
        target = stateful[int(rng.integers(len(stateful)))]
        later = populations[populations.index(target) :]
        link(later[int(rng.integers(len(later)))], target, int(rng.integers(1, 6)))
    mode = "message" if isinstance(first, Source) else "bias"
    spec = InputSpec("in", (2, 4, 4), 1.0, -90, 90, mode)
    output = OutputSpec("out", np.ones(()), (4,))
    scales = {p.name: np.ones(()) for p in populations}
    return Network("loop", tuple(populations), tuple(projections), (spec,), (output,), steps, scales)


def loop_inputs(seed, count=2):
    """Integer inputs of `loop_network`."""
    return np.random.default_rng(seed).integers(-90, 91, size=(count, 2, 4, 4))
