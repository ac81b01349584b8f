"""Strides, pads and dilations of convolutions and poolings, ``auto_pad`` resolved.

Layers know images (C, H, W). A row (C, L) is an image of height 1; a volume (C, D, H, W) is an
image of C * D channels, in the same C order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.ir.connectivity import Shape
from nmc.ir.layers import Op, Reshape


@dataclass(frozen=True)
class WindowAxis:
    """A window along one spatial axis of ``size`` values; ``before`` and ``after`` are its pads."""

    size: int
    kernel: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1

    @property
    def span(self) -> int:
        """Values from the first to the last tap."""
        return self.dilation * (self.kernel - 1) + 1

    def count(self, *, ceil: bool = False) -> int:
        """Windows; with ``ceil`` one more where it begins inside the input or the padding before it."""
        reach = self.size + self.before + self.after - self.span
        count = reach // self.stride + 1
        more = ceil and reach % self.stride and count * self.stride < self.size + self.before
        return count + 1 if more else count


@dataclass(frozen=True)
class Window:
    """A window over (C, H, W).

    Attributes:
        kernel, stride, dilation: (y, x).
        pads: (top, left, bottom, right).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, y: WindowAxis, x: WindowAxis) -> Window:
        """Two axes together."""
        return cls(
            (y.kernel, x.kernel),
            (y.stride, x.stride),
            (y.before, x.before, y.after, x.after),
            (y.dilation, x.dilation),
        )


def resolve_axes(node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[WindowAxis, ...]:
    """The windows of a convolution or pooling along its spatial axes.

    Args:
        node: with strides, dilations, pads or auto_pad.
        sizes: of the spatial axes of its input.
        kernel: size of the window along each.

    Raises:
        Refusal: an attribute is out of range, or the window is larger than the padded input.
    """
    axes = len(sizes)
    if len(kernel) != axes or min(kernel) < 1:
        raise Refusal("shape-invalid", f"kernel_shape {list(kernel)} must be {axes} positive numbers")
    strides, dilations = _positive(node, "strides", axes), _positive(node, "dilations", axes)
    pads = node.integers("pads", (0,) * (2 * axes))
    if len(pads) != 2 * axes or min(pads) < 0:
        raise Refusal("shape-invalid", f"pads {list(pads)} must be {2 * axes} numbers, none negative")
    mode = node.text("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Refusal("model-invalid", "auto_pad is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    made = []
    for axis, (n, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        before, after = (pads[axis], pads[axis + axes]) if mode in ("NOTSET", "") else (0, 0)
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            small, large = total // 2, total - total // 2
            before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
        window = WindowAxis(n, k, s, before, after, d)
        if n + before + after < window.span:
            raise Refusal(
                "shape-invalid", f"a window of {window.span} is larger than the padded input of {n + before + after}"
            )
        made.append(window)
    return tuple(made)


def _positive(node: Node, name: str, axes: int) -> tuple[int, ...]:
    values = node.integers(name, (1,) * axes)
    if len(values) != axes or min(values) < 1:
        raise Refusal("shape-invalid", f"{name} {list(values)} must be {axes} positive numbers")
    return values


class ImageView:
    """One to three spatial axes, seen as an image.

    Attributes:
        source: tensor of shape (C, H, W), (C * D, H, W) with three axes.
        shape: of the node's input: (C, *sizes).
        sizes: of its spatial axes.
    """

    def __init__(self, node: Node, graph: GraphBuilder) -> None:
        """See a node's first input as an image.

        Raises:
            Refusal: it has no spatial axis, or more than three.
        """
        self.shape = graph.activation(node, 0)
        if len(self.shape) not in (2, 3, 4):
            raise Refusal(
                "operator-unsupported",
                f"its input has {len(self.shape) - 1} spatial axes, 1 to 3 are supported",
                "express it over three spatial axes at the most",
            )
        self._node, self._graph, self._steps = node, graph, 0
        self.source, self.sizes = node.input(0), self.shape[1:]
        if len(self.sizes) == 1:
            self.reshape((self.shape[0], 1, *self.sizes))
        elif len(self.sizes) == 3:
            self.reshape((self.shape[0] * self.sizes[0], *self.sizes[1:]))

    def reshape(self, shape: Shape) -> None:
        """See the source in another shape from now on."""
        if self._graph.shape(self.source) != shape:
            self.apply("image", Reshape(), shape)

    def apply(self, suffix: str, op: Op, shape: Shape) -> None:
        """A layer on the way; it is the source from now on."""
        self.source = self._graph.add_inner(self._node, suffix, op, (self.source,), shape)

    def finish(self, op: Op, image: Shape, shape: Shape) -> None:
        """The node's last layer, which makes an ``image``; the node's output has another ``shape`` of the same size."""
        if image == shape:
            self._graph.add(self._node, op, (self.source,), shape)
            return
        if math.prod(image) != math.prod(shape):
            raise TypeError(f"{image} cannot be seen as {shape}")
        self.apply("image", op, image)
        self._graph.add(self._node, Reshape(), (self.source,), shape)
