"""Strides, pads and dilations of convolutions and poolings, ``auto_pad`` resolved."""

from __future__ import annotations

from dataclasses import dataclass

from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.ir.connectivity import Shape
from nmc.ir.layers import Op, Reshape


@dataclass(frozen=True)
class Window:
    """A resolved window over (C, H, W).

    Attributes:
        stride, dilation: (y, x).
        pads: (top, left, bottom, right).
    """

    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]


def resolve_pads(node: Node, shape: Shape, kernel: tuple[int, int], axes: int = 2) -> Window:
    """The window of a node.

    Args:
        node: a convolution or pooling.
        shape: (C, H, W) of its input.
        kernel: (y, x).
        axes: spatial axes that its attributes speak of: 2, or 1, which is x.

    Raises:
        Refusal: an attribute is out of range, or the window is larger than the padded input.
    """
    stride = _pair(node, "strides", axes)
    dilation = _pair(node, "dilations", axes)
    pads = node.integers("pads", (0,) * (2 * axes))
    if len(pads) != 2 * axes or min(pads) < 0:
        raise Refusal("shape-invalid", f"pads {list(pads)} must be {2 * axes} numbers, none negative")
    if axes == 1:
        pads = (0, pads[0], 0, pads[1])
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    mode = node.text("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = (0, 0, 0, 0)
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for n, s, k in zip(shape[1:], stride, span, strict=True):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            small, large = total // 2, total - total // 2
            before.append(small if mode == "SAME_UPPER" else large)
            after.append(large if mode == "SAME_UPPER" else small)
        pads = (before[0], before[1], after[0], after[1])
    elif mode not in ("NOTSET", ""):
        raise Refusal("model-invalid", "auto_pad is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    for axis, (n, k) in enumerate(zip(shape[1:], span, strict=True)):
        if n + pads[axis] + pads[axis + 2] < k:
            raise Refusal(
                "shape-invalid",
                f"a window of {k} is larger than the padded input of {n + pads[axis] + pads[axis + 2]}",
            )
    return Window(stride, (pads[0], pads[1], pads[2], pads[3]), dilation)


def _pair(node: Node, name: str, axes: int) -> tuple[int, int]:
    values = node.integers(name, (1,) * axes)
    if len(values) != axes or min(values) < 1:
        raise Refusal("shape-invalid", f"{name} {list(values)} must be {axes} positive numbers")
    return (values[0] if axes == 2 else 1, values[-1])


class ImageView:
    """One or two spatial axes as two: (C, L) is (C, 1, L).

    Attributes:
        source: tensor of shape (C, H, W).
        shape: of it.
        axes: spatial axes of the node, 1 or 2.
    """

    def __init__(self, node: Node, graph: GraphBuilder) -> None:
        """See a node's first input as an image.

        Raises:
            Refusal: it has no spatial axis, or three.
        """
        shape = graph.activation(node, 0)
        if len(shape) not in (2, 3):
            raise Refusal(
                "operator-unsupported",
                f"its input has {len(shape) - 1} spatial axes, 1 and 2 are supported",
                "express it over two spatial axes",
            )
        self._node, self._graph = node, graph
        self.axes, self.shape, self.source = len(shape) - 1, shape, node.input(0)
        if self.axes == 1:
            self.shape = (shape[0], 1, shape[1])
            self.source = graph.add_inner(node, "image", Reshape(), (self.source,), self.shape)

    def kernel(self, values: tuple[int, ...]) -> tuple[int, int]:
        """A kernel of the node over two axes.

        Raises:
            Refusal: it has another number of axes.
        """
        if len(values) != self.axes or min(values) < 1:
            raise Refusal("shape-invalid", f"kernel_shape {list(values)} must be {self.axes} positive numbers")
        return (values[0] if self.axes == 2 else 1, values[-1])

    def add(self, op: Op, shape: Shape) -> None:
        """The node's layer, which makes (C, H, W); with one axis, a reshape of it."""
        if self.axes == 2:
            self._graph.add(self._node, op, (self.source,), shape)
            return
        made = self._graph.add_inner(self._node, "row", op, (self.source,), shape)
        self._graph.add(self._node, Reshape(), (made,), (shape[0], shape[2]))
