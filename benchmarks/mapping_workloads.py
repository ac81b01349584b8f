"""The networks that published mappers are measured on, rebuilt from their shapes.

Layered networks are `Network` values without trained weights: every weight is 1, so every synapse
of the shape exists. Inputs are mapped as neurons, as in the published counts. Reservoirs are
recurrent and have no layers: they are lists of synapses. Firing rates are log-normal (median 8
spikes per inference, sigma 0.8) with a fixed seed, the same for every rival.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, Shape, Skip, size
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF
from nmc.ir.origin import Origin

MEDIAN_SPIKES = 8.0
SIGMA = 0.8
RATE_SEED = 1


def spike_counts(neurons: int) -> np.ndarray:
    """(neurons,) spikes per inference, float64."""
    return np.random.default_rng(RATE_SEED).lognormal(np.log(MEDIAN_SPIKES), SIGMA, neurons)


def rates_of(network: Network) -> dict[str, np.ndarray]:
    """Spikes per inference of every neuron, by population, in its shape."""
    counts = spike_counts(sum(p.neurons for p in network.populations))
    found, begin = {}, 0
    for population in network.populations:
        found[population.name] = counts[begin : begin + population.neurons].reshape(population.shape)
        begin += population.neurons
    return found


def _ones(*shape: int) -> np.ndarray:
    return np.broadcast_to(np.int64(1), shape)


@dataclass
class Shapes:
    """A network that grows layer by layer."""

    name: str
    input_shape: Shape
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._population("input", self.input_shape, 0)

    @property
    def last(self) -> str:
        """The name of the layer that was added last."""
        return self.populations[-1].name

    def shape(self, name: str) -> Shape:
        """Of a layer."""
        return next(p.shape for p in self.populations if p.name == name)

    def _population(self, name: str, shape: Shape, start: int) -> None:
        zero = np.zeros((), dtype=np.int64)
        neuron = LIF(np.array(100), zero, zero, zero)
        self.populations.append(Population(name, shape, neuron, Origin(name, "Layer", name), start))

    def add(self, name: str, *incoming: tuple[str, Connectivity]) -> str:
        """A layer that hears some others; its delays keep windows aligned."""
        starts = {p.name: p.start for p in self.populations}
        start = 1 + max(starts[source] for source, _ in incoming)
        self._population(name, incoming[0][1].out_shape, start)
        for source, operator in incoming:
            origin = self.populations[-1].origin
            link = Projection(f"{source}>{name}", source, name, operator, origin, start - starts[source])
            self.projections.append(link)
        return name

    def conv(self, name: str, out: int, kernel: int, stride: int = 1, pad: int | None = None, groups: int = 1) -> str:
        """A convolution of the last layer."""
        return self.add(name, (self.last, self.convolution(self.last, out, kernel, stride, pad, groups)))

    def convolution(
        self, source: str, out: int, kernel: int, stride: int = 1, pad: int | None = None, groups: int = 1
    ) -> Conv2d:
        """The operator of a convolution."""
        shape = self.shape(source)
        edge = (kernel - 1) // 2 if pad is None else pad
        weight = _ones(out, shape[0] // groups, kernel, kernel)
        return Conv2d(weight, shape, (stride, stride), (edge,) * 4, groups=groups)

    def pool(self, name: str, kernel: int, stride: int, pad: int = 0) -> str:
        """A pooling of the last layer."""
        shape = self.shape(self.last)
        return self.add(name, (self.last, Pool(_ones(shape[0]), shape, (kernel, kernel), (stride, stride), (pad,) * 4)))

    def dense(self, name: str, out: int) -> str:
        """A dense layer behind the last layer."""
        shape = self.shape(self.last)
        return self.add(name, (self.last, Dense(_ones(out, size(shape)), shape, (out,))))

    def network(self) -> Network:
        """The network."""
        spec = InputSpec("input", self.input_shape, 1.0, 0, 1, mode="bias")
        output = OutputSpec(self.last, np.array(1.0), self.shape(self.last))
        return Network(self.name, tuple(self.populations), tuple(self.projections), (spec,), (output,), 1, {})


def lenet() -> Network:
    """LeNet on 28 x 28: 8,878 neurons, 412,960 synapses."""
    net = Shapes("LeNet", (1, 28, 28))
    net.conv("conv1", 6, 5)
    net.pool("pool1", 2, 2)
    net.conv("conv2", 16, 5, pad=0)
    net.pool("pool2", 2, 2)
    for number, width in enumerate((120, 84, 10), 1):
        net.dense(f"fc{number}", width)
    return net.network()


def vgg11(width: float = 1.0) -> Network:
    """VGG-11 on CIFAR; 49,034 neurons and 7,528,384 synapses at a quarter of its width."""
    net = Shapes(f"VGG-11 x{width:g}", (3, 32, 32))
    for number, step in enumerate((64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")):
        if isinstance(step, str):
            net.pool(f"pool{number}", 2, 2)
        else:
            net.conv(f"conv{number}", int(step * width), 3)
    for number, out in enumerate((int(512 * width), int(512 * width), 10), 1):
        net.dense(f"fc{number}", out)
    return net.network()


def alexnet() -> Network:
    """AlexNet on 224 x 224, in the shape with one group."""
    net = Shapes("AlexNet", (3, 224, 224))
    net.conv("conv1", 64, 11, 4, 2)
    net.pool("pool1", 3, 2)
    net.conv("conv2", 192, 5)
    net.pool("pool2", 3, 2)
    for number, out in enumerate((384, 256, 256), 3):
        net.conv(f"conv{number}", out, 3)
    net.pool("pool3", 3, 2)
    for number, width in enumerate((4096, 4096, 1000), 6):
        net.dense(f"fc{number}", width)
    return net.network()


def resnet50(pixels: int = 224) -> Network:
    """ResNet-50: 9,962,984 neurons and 3,954,151,232 synapses at 224 x 224."""
    net = Shapes(f"ResNet-50 {pixels}", (3, pixels, pixels))
    net.conv("conv1", 64, 7, 2, 3)
    before = net.pool("pool1", 3, 2, 1)
    for stage, (blocks, middle) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 1 else 1
            name = f"s{stage}b{block}"
            net.add(f"{name}a", (before, net.convolution(before, middle, 1)))
            net.conv(f"{name}b", middle, 3, stride)
            shortcut = (
                net.convolution(before, 4 * middle, 1, stride)
                if block == 0
                else Skip(_ones(4 * middle), net.shape(before))
            )
            before = net.add(f"{name}c", (net.last, net.convolution(net.last, 4 * middle, 1)), (before, shortcut))
    net.pool("mean", net.shape(net.last)[1], 1)
    net.dense("fc", 1000)
    return net.network()


def mobilenet() -> Network:
    """MobileNet on 224 x 224."""
    net = Shapes("MobileNet", (3, 224, 224))
    net.conv("conv0", 32, 3, 2)
    steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for number, (out, stride) in enumerate(steps, 1):
        inside = net.shape(net.last)[0]
        net.conv(f"depth{number}", inside, 3, stride, groups=inside)
        net.conv(f"point{number}", out, 1)
    net.pool("mean", net.shape(net.last)[1], 1)
    net.dense("fc", 1000)
    return net.network()


def chain(neurons: int) -> Network:
    """The synthetic feed-forward chains S_1000 ... S_2500: two dense layers of the published synapse counts."""
    first = {1000: 400, 1500: 238, 2000: 400, 2500: 900}[neurons]
    net = Shapes(f"S_{neurons}", (first,))
    net.dense("out", neurons - first)
    return net.network()


def image_smoothing() -> Network:
    """ImgSmooth, 4096-1024: windows whose synapses come within 2 % of the published 136,314."""
    net = Shapes("ImgSmooth", (1, 64, 64))
    net.conv("smooth", 1, 12, 2, 5)
    return net.network()


def edge_detection() -> Network:
    """EdgeDet, 4096-1024-1024-1024: windows whose synapses come within 2 % of the published 272,628."""
    net = Shapes("EdgeDet", (1, 64, 64))
    net.conv("smooth", 1, 12, 2, 5)
    net.conv("gradient", 1, 9)
    net.conv("edge", 1, 9)
    return net.network()


@dataclass(frozen=True)
class Reservoir:
    """Recurrent neurons: synapses from ``source[i]`` to ``target[i]``, each pair once."""

    name: str
    neurons: int
    source: np.ndarray
    target: np.ndarray


def _reservoir(name: str, neurons: int, source: np.ndarray, target: np.ndarray) -> Reservoir:
    pairs = np.unique(source * neurons + target)
    return Reservoir(name, neurons, pairs // neurons, pairs % neurons)


def random_reservoir(neurons: int = 10_000, fan_in: int = 100) -> Reservoir:
    """Every neuron hears ``fan_in`` others drawn uniformly: 10,000 neurons, 995,000 synapses."""
    rng = np.random.default_rng(2)
    target = np.repeat(np.arange(neurons), fan_in)
    return _reservoir("random reservoir", neurons, rng.integers(0, neurons, len(target)), target)


def local_reservoir(neurons: int = 100_000, fan_out: int = 100, reach: float = 6.0) -> Reservoir:
    """Neurons on a square grid, closed at its ends, reach others at a normal distance; numbers are shuffled.

    Args:
        neurons: side by side on the largest square that they fill.
        fan_out: synapses drawn for each; about a tenth fall on the same pair.
        reach: standard deviation of the distance along each axis (grid steps).
    """
    rng = np.random.default_rng(3)
    side = int(np.sqrt(neurons))
    count = side * side
    source = np.repeat(np.arange(count), fan_out)
    y = source // side + np.rint(rng.normal(0, reach, len(source))).astype(np.int64)
    x = source % side + np.rint(rng.normal(0, reach, len(source))).astype(np.int64)
    target = y % side * side + x % side
    keep = target != source
    names = rng.permutation(count)
    return _reservoir("local reservoir", count, names[source[keep]], names[target[keep]])


def cluster_net(layers: int, width: int, *, dense: bool) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """The cluster graphs of Jin et al., ASPLOS 2023: (clusters, source, target, spikes).

    Args:
        layers: of clusters.
        width: clusters per layer.
        dense: every cluster of a layer feeds every cluster of the next; else the four from its own on.
    """
    rng = np.random.default_rng(4)
    reach = width if dense else 4
    layer, at, step = np.meshgrid(np.arange(layers - 1), np.arange(width), np.arange(reach), indexing="ij")
    to = step if dense else at + step
    inside = to < width
    source = (layer * width + at)[inside]
    target = ((layer + 1) * width + to)[inside]
    return layers * width, source, target, rng.random(len(source))
