"""Networks for the tests of the mapping passes: by hand, thresholds do not matter there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, Shape, Skip, sparse_from_synapses
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, Integrator, Neuron, Source
from nmc.ir.origin import Origin


def weights(rng: np.random.Generator, *shape: int, zeros: float = 0.0) -> np.ndarray:
    """Even weights, a share of them zero."""
    values = 2 * rng.integers(1, 60, size=shape) * rng.choice([-1, 1], size=shape)
    return np.where(rng.random(shape) < zeros, 0, values)


def lif(threshold: int = 100) -> LIF:
    zero = np.zeros((), dtype=np.int64)
    return LIF(np.array(threshold), zero, zero, zero)


class Build:
    """A network that grows, windows kept aligned by the delays that the caller gives."""

    def __init__(self, shape: Shape, *, source: Neuron | None = None) -> None:
        origin = Origin("input", "Input", "input")
        self.populations = [Population("in", shape, source or Source(8, False), origin)]
        self.projections: list[Projection] = []

    def shape(self, name: str) -> Shape:
        return next(p.shape for p in self.populations if p.name == name)

    def add(
        self,
        name: str,
        incoming: Sequence[tuple[str, Connectivity, int]],
        *,
        neuron: Neuron | None = None,
        shape: Shape | None = None,
        bias: np.ndarray | None = None,
        on_host: bool = False,
    ) -> Build:
        """A population with (source, connectivity, delay) of each projection into it."""
        first, connectivity, delay = incoming[0]
        start = next(p.start for p in self.populations if p.name == first) + delay
        origin = Origin(f"node_{name}", "Conv", f"{name}_out")
        self.populations.append(
            Population(name, shape or connectivity.out_shape, neuron or lif(), origin, start, on_host)
        )
        for number, (source, operator, steps) in enumerate(incoming):
            suffix = f"#{number}" if number else ""
            self.projections.append(
                Projection(f"{source}>{name}{suffix}", source, name, operator, origin, steps, bias=bias)
            )
        return self

    def network(self, timesteps: int = 4) -> Network:
        last = self.populations[-1]
        spec = InputSpec("in", self.populations[0].shape, 1 / 255, 0, 255)
        return Network(
            "test",
            tuple(self.populations),
            tuple(self.projections),
            (spec,),
            (OutputSpec(last.name, np.array(1.0), last.shape),),
            timesteps,
            {},
        )


def readout() -> Integrator:
    zero = np.zeros((), dtype=np.int64)
    return Integrator(zero, zero, zero)


def conv_net(seed: int = 0) -> Network:
    """conv 8x8 -> conv of stride 2 -> dense read-out."""
    rng = np.random.default_rng(seed)
    first = Conv2d(weights(rng, 4, 1, 3, 3), (1, 8, 8), pads=(1, 1, 1, 1))
    second = Conv2d(weights(rng, 6, 4, 3, 3), (4, 8, 8), (2, 2), (1, 1, 1, 1))
    dense = Dense(weights(rng, 10, 96), (6, 4, 4), (10,))
    build = Build((1, 8, 8)).add("a", [("in", first, 1)]).add("b", [("a", second, 1)])
    return build.add("out", [("b", dense, 1)], neuron=readout()).network()


def residual_net(seed: int = 1) -> Network:
    """A block with a delayed skip, a pooling, and a flattened population."""
    rng = np.random.default_rng(seed)
    shape = (4, 6, 6)
    convs = [Conv2d(weights(rng, 4, c, 3, 3, zeros=0.3), (c, 6, 6), pads=(1, 1, 1, 1)) for c in (2, 4, 4)]
    build = Build((2, 6, 6)).add("a", [("in", convs[0], 1)]).add("b", [("a", convs[1], 1)])
    skip = Skip(np.array([2, 4, 0, 6]), shape)
    build.add("c", [("b", convs[2], 2), ("a", skip, 3)])
    build.add("d", [("c", Pool(np.array([2, 4, 6, 8]), shape, (6, 6), (6, 6)), 1)], shape=(4,))
    return build.add("out", [("d", Dense(weights(rng, 3, 4), (4,), (3,)), 1)], neuron=readout()).network()


def grouped_net(seed: int = 2) -> Network:
    """Grouped, depthwise, dilated and strided 1x1 convolutions, with pruned taps."""
    rng = np.random.default_rng(seed)
    build = Build((4, 9, 7))
    grouped = Conv2d(weights(rng, 6, 2, 3, 3, zeros=0.5), (4, 9, 7), pads=(2, 0, 1, 1), groups=2)
    build.add("a", [("in", grouped, 1)])
    shape = grouped.out_shape
    depthwise = Conv2d(weights(rng, 6, 1, 3, 2, zeros=0.4), shape, (1, 1), (0, 2, 2, 0), (2, 1), groups=6)
    build.add("b", [("a", depthwise, 1)])
    strided = Conv2d(weights(rng, 5, 6, 1, 1), depthwise.out_shape, (2, 3))
    build.add("c", [("b", strided, 1)])
    return build.network()


def sparse_net(seed: int = 3) -> Network:
    """Irregular synapses, twice into one population, and a graded bias on a projection."""
    rng = np.random.default_rng(seed)
    build = Build((30,))
    pairs = np.unique(rng.integers(0, 40 * 30, 150))
    first = sparse_from_synapses(pairs // 30, pairs % 30, weights(rng, len(pairs), zeros=0.2), (30,), (40,))
    build.add("a", [("in", first, 1)], bias=rng.integers(-20000, 20000, 40))
    pairs = np.unique(rng.integers(0, 20 * 40, 90))
    second = sparse_from_synapses(pairs // 40, pairs % 40, weights(rng, len(pairs)), (40,), (20,))
    build.add("b", [("a", second, 1), ("a", Dense(weights(rng, 20, 40, zeros=0.7), (40,), (20,)), 1)])
    return build.network()


def host_net(seed: int = 4) -> Network:
    """The first layer on the host, reading the input there; its messages enter the chip."""
    rng = np.random.default_rng(seed)
    first = Conv2d(weights(rng, 3, 1, 3, 3), (1, 6, 6), pads=(1, 1, 1, 1))
    build = Build((1, 6, 6)).add("a", [("in", first, 1)], on_host=True)
    second = Conv2d(weights(rng, 2, 3, 3, 3), (3, 6, 6), pads=(1, 1, 1, 1))
    return build.add("b", [("a", second, 1)]).network()


SMALL = {
    "conv": conv_net,
    "residual": residual_net,
    "grouped": grouped_net,
    "sparse": sparse_net,
    "host": host_net,
}
"""Small networks by name."""


def resnet20(seed: int = 5) -> Network:
    """ResNet-20 for 32 x 32 images, 16, 32 and 64 channels: 188 k neurons without the input."""
    rng = np.random.default_rng(seed)
    build = Build((3, 32, 32))
    build.add("stem", [("in", Conv2d(weights(rng, 16, 3, 3, 3), (3, 32, 32), pads=(1, 1, 1, 1)), 1)])
    at, channels = "stem", 16
    for stage, out in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if block == 0 and stage else 1
            shape = build.shape(at)
            first = Conv2d(weights(rng, out, channels, 3, 3), shape, (stride, stride), (1, 1, 1, 1))
            name = f"s{stage}b{block}"
            build.add(f"{name}x", [(at, first, 1)])
            second = Conv2d(weights(rng, out, out, 3, 3), first.out_shape, pads=(1, 1, 1, 1))
            short: Connectivity = Skip(np.full(out, 2), shape)
            if stride == 2:
                short = Conv2d(weights(rng, out, channels, 1, 1), shape, (2, 2))
            build.add(f"{name}y", [(f"{name}x", second, 1), (at, short, 2)])
            at, channels = f"{name}y", out
    build.add("pool", [(at, Pool(np.full(64, 2), (64, 8, 8), (8, 8), (8, 8)), 1)], shape=(64,))
    return build.add("out", [("pool", Dense(weights(rng, 10, 64), (64,), (10,)), 1)], neuron=readout()).network(32)
