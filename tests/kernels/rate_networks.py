"""Small rate networks with what the vector kernels tell apart: widths, windows, shifts, rules."""

import numpy as np

from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import IF, LIF, Binary, Burst, Integrator, Reset, Signed, Source
from nmc.ir.origin import Origin

ORIGIN = Origin("node", "Conv", "y")


def rate_network(seed, *, rules=True):
    """A feed-forward network of convolutions, poolings, skips and dense layers; everything from the seed."""
    rng = np.random.default_rng([seed, *b"rate"])
    steps = int(rng.choice([1, 3, 8, 9, 16, 21]))
    signed = bool(rng.random() < 0.4)
    channels = int(rng.choice([1, 3, 4]))
    shape = (channels, int(rng.integers(4, 7)), int(rng.integers(4, 8)))
    populations = [Population("in", shape, Source(8, signed), ORIGIN)]
    if rng.random() < 0.25:
        populations = [Population("in", shape, neuron(rng, shape, rules), ORIGIN)]
    projections = []

    def link(source, target_shape, operator, start):
        out = operator.out_shape[0]
        size = () if rng.random() < 0.5 else (out,)
        shift = rng.integers(-2, 3, size=size) if rng.random() < 0.6 else np.zeros((), dtype=np.int64)
        bias = rng.integers(-40, 40, size=(out,)) if rng.random() < 0.2 else None
        name = f"{source.name}>p{len(populations)}#{len(projections)}"
        projections.append(
            Projection(
                name,
                source.name,
                f"p{len(populations)}",
                operator,
                ORIGIN,
                start - source.start,
                np.asarray(shift),
                bias,
            )
        )

    for _ in range(int(rng.integers(2, 5))):
        source = populations[-1]
        start = source.start + int(rng.integers(1, 3))
        operator = operator_from(rng, source.shape)
        if isinstance(source.neuron, Source) or getattr(source.neuron, "fire", None) == Burst(200):
            operator = operator.with_weight(operator.weight // 32)
        link(source, operator.out_shape, operator, start)
        earlier = [p for p in populations[:-1] if p.shape == operator.out_shape]
        if earlier and rng.random() < 0.7:
            scale = rng.integers(1, 255, size=(operator.out_shape[0],)) << int(rng.integers(0, 4))
            link(earlier[-1], operator.out_shape, Skip(scale, operator.out_shape), start)
        target = operator.out_shape
        populations.append(Population(f"p{len(populations)}", target, neuron(rng, target, rules), ORIGIN, start))
    last = populations[-1]
    dense = Dense(weights(rng, (5, int(np.prod(last.shape)))), last.shape, (5,))
    link(last, (5,), dense, last.start + 1)
    readout = Integrator(rng.integers(-50, 50, size=(5,)), np.asarray(1), np.asarray(-9))
    if rng.random() < 0.3:
        readout = neuron(rng, (5,), rules)
    populations.append(Population(f"p{len(populations)}", (5,), readout, ORIGIN, last.start + 1))
    mode = "message" if isinstance(populations[0].neuron, Source) else "bias"
    spec = InputSpec("in", shape, 1.0, -128 if signed else 0, 127 if signed else 255, mode)
    output = OutputSpec(populations[-1].name, np.ones(()), (5,))
    scales = {p.name: np.ones(()) for p in populations}
    return Network("rate", tuple(populations), tuple(projections), (spec,), (output,), steps, scales)


def weights(rng, shape):
    """Bytes, nine bits in steps of two, or more, channel by channel."""
    # Few enough that no sum leaves 24 bits.
    values = rng.integers(-127, 128, size=shape) * (rng.random(shape) < min(0.6, 25 / np.prod(shape[1:])))
    kind = rng.random()
    if kind < 0.4:
        return values * 2
    return values * 3 if kind < 0.5 else values


def operator_from(rng, shape):
    """A convolution of any form, a pooling or a skip."""
    channels = shape[0]
    out = int(rng.choice([3, 8, 16, 20, 32, 40]))
    pick = int(rng.integers(6))
    if min(shape[1:]) < 3:
        pick = 5
    if pick == 0:
        return Conv2d(weights(rng, (channels, 1, 3, 3)), shape, pads=(1, 1, 1, 1), groups=channels)
    if pick == 1:
        return Pool(rng.integers(1, 255, size=(channels,)), shape, (2, 2), (2, 2), (0, 1, 1, 0))
    if pick == 2:
        return Conv2d(weights(rng, (out, channels, 3, 2)), shape, stride=(2, 1), pads=(0, 1, 2, 0))
    if pick == 3:
        return Conv2d(weights(rng, (out, channels, 2, 2)), shape, pads=(1, 1, 1, 1), dilation=(2, 1))
    if pick == 4:
        return Conv2d(weights(rng, (channels, channels, 3, 3)), shape, pads=(1, 1, 1, 1))
    return Conv2d(weights(rng, (out, channels, 1, 1)), shape)


def neuron(rng, shape, rules):
    """LIF or IF without memory, of any rule, with thresholds that some sums pass."""

    def numbers(low, high):
        shapes = [(), (shape[0], *(1,) * (len(shape) - 1)), shape]
        return np.asarray(rng.integers(low, high, size=shapes[int(rng.integers(3))]))

    fire = Binary()
    if rules and rng.random() < 0.3:
        fire = (
            Burst(int(rng.choice([3, 200])))
            if rng.random() < 0.5
            else Signed(numbers(0, 500), bool(rng.random() < 0.5))
        )
    reset = Reset(rng.choice(["subtract", "zero"]))
    if rng.random() < 0.3:
        return IF(numbers(1, 900), numbers(-50, 90), numbers(-99, 99), reset, fire)
    return LIF(numbers(1, 900), numbers(-900, 2000), numbers(0, 3), numbers(-9000, 9000), reset=reset, fire=fire)


def rate_inputs(network, seed, count=2):
    """Integer inputs in the range of the network's input."""
    spec = network.input
    shape = network.by_name[spec.population].shape
    return np.random.default_rng(seed).integers(spec.low, spec.high + 1, size=(count, *shape))
