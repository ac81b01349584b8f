"""`LayerGraph`: the analog network, as read from ONNX and after simplification.

Shapes carry no batch axis. A graph is a tuple of layers in topological order; a layer's
value has the layer's name. After the simplify stage only `Input`, `Linear`, `Add`,
`Relu`, `Identity` and a `Head` remain, and a `Linear` reads an `Input`, a `Relu` or an
`Identity`: neurons that send a linear value as it is, where many read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nmc.ir.connectivity import Array, Connectivity, Shape
from nmc.ir.origin import Origin


@dataclass(frozen=True)
class Input:
    """A graph input."""


@dataclass(frozen=True, eq=False)
class Linear:
    """``y = connectivity(x) + bias``. ``bias`` (channels,) or the full output shape."""

    connectivity: Connectivity
    bias: Array


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """``y = scale * x + shift`` per channel, both (C,): inference-time normalisation."""

    scale: Array
    shift: Array


@dataclass(frozen=True)
class Relu:
    """``max(x, 0)``."""


@dataclass(frozen=True)
class Add:
    """The sum of two or more inputs of one shape."""


@dataclass(frozen=True)
class AveragePool:
    """Mean over windows of (C, H, W); ``count_pads`` divides by the full window at borders."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_pads: bool = False


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows of (C, H, W); what lies outside the input never wins."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Maximum:
    """The largest of two or more inputs of one shape, element by element."""


@dataclass(frozen=True)
class Clip:
    """``min(max(x, low), high)``, ``low <= high``; None is no bound."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class LeakyRelu:
    """``x`` where it is positive, ``slope * x`` elsewhere; ``slope`` (C,). With -1 the absolute value."""

    slope: Array


@dataclass(frozen=True)
class Activation:
    """A function of each element that no sum of ReLUs computes exactly.

    Attributes:
        function: one of `FUNCTIONS`.
        alpha, gamma: its parameters as in ONNX, where it has any.
    """

    function: str
    alpha: float = 1.0
    gamma: float = 1.0


FUNCTIONS = (
    "sigmoid",
    "tanh",
    "softsign",
    "softplus",
    "erf",
    "elu",
    "selu",
    "celu",
    "gelu",
    "gelu-tanh",
    "swish",
    "hard-swish",
    "mish",
    "thresholded-relu",
)
"""What an `Activation` may compute; `nmc.kernels.functions` says how."""


@dataclass(frozen=True)
class Quantize:
    """``clip(rint(x / scale) + zero_point, low, high)``: ONNX QuantizeLinear, ties to even.

    The value is the integer that the ONNX file has there.
    """

    scale: float
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Dequantize:
    """``(x - zero_point) * scale``: ONNX DequantizeLinear."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Pad:
    """Zeros before and after (negative: cropping), one pair per axis."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """``x[start:stop:step]``, one triple per axis, 0 <= start < stop <= size, step >= 1."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Concat:
    """Inputs joined along ``axis`` (without the batch axis)."""

    axis: int


@dataclass(frozen=True)
class Reshape:
    """The same elements in C order with the layer's shape (also Flatten, Squeeze, Unsqueeze)."""


@dataclass(frozen=True)
class Transpose:
    """Axes permuted: output axis i is input axis ``perm[i]`` (without the batch axis)."""

    perm: tuple[int, ...]


@dataclass(frozen=True)
class Identity:
    """Nothing (also Dropout at inference); after the simplify stage, a value with neurons of its own."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A fixed value of the layer's shape (the zeros of an option-A shortcut)."""

    value: Array


@dataclass(frozen=True)
class Softmax:
    """Softmax over an axis: a host tail, never on a chip."""

    axis: int


@dataclass(frozen=True)
class Sigmoid:
    """``1 / (1 + exp(-x))``: a host tail, never on a chip."""


@dataclass(frozen=True)
class ArgMax:
    """The first place of the largest value along an axis, which then has size 1: a host tail."""

    axis: int


Head = Softmax | Sigmoid | ArgMax
"""What the host computes behind the network."""

Op = (
    Input
    | Linear
    | BatchNorm
    | Relu
    | Add
    | AveragePool
    | MaxPool
    | Maximum
    | Clip
    | LeakyRelu
    | Activation
    | Quantize
    | Dequantize
    | Pad
    | Slice
    | Concat
    | Reshape
    | Transpose
    | Identity
    | Constant
    | Softmax
    | Sigmoid
    | ArgMax
)


@dataclass(frozen=True, eq=False)
class Layer:
    """One value of the graph.

    Attributes:
        name: unique in the graph.
        op: what computes it.
        inputs: names of the layers it reads.
        shape: without batch axis.
        origin: the ONNX node behind it.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: Shape
    origin: Origin


@dataclass(frozen=True, eq=False)
class LayerGraph:
    """The analog network: one or more inputs and outputs.

    Attributes:
        outputs: the layers whose values they are; several outputs may share one.
        output_names: what the outputs are called outside; empty: like their layers.
        codes: by layer, how the file quantizes its values, where the file brings a quantization along.
    """

    name: str
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...] = ()
    codes: Mapping[str, Quantize] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """Layers by name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        """For each layer, the layers that read it, in order."""
        users: dict[str, list[str]] = {layer.name: [] for layer in self.layers}
        for layer in self.layers:
            for name in layer.inputs:
                users[name].append(layer.name)
        return {name: tuple(readers) for name, readers in users.items()}

    @cached_property
    def inputs(self) -> tuple[Layer, ...]:
        """The input layers, in the order of the ONNX file; ``origin.node`` is what an input is called outside."""
        return tuple(layer for layer in self.layers if isinstance(layer.op, Input))

    @property
    def input(self) -> Layer:
        """The first input layer."""
        return self.inputs[0]

    @cached_property
    def input_shapes(self) -> Mapping[str, Shape]:
        """By what the inputs are called outside, in order: the shape of one sample."""
        return {layer.origin.node: layer.shape for layer in self.inputs}
