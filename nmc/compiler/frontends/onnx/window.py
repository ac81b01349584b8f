"""Strides, pads and dilations of convolutions and poolings, ``auto_pad`` resolved."""

from __future__ import annotations

from dataclasses import dataclass

from nmc.compiler.frontends.onnx.node import Node, Refusal
from nmc.ir.connectivity import Shape


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


def resolve_pads(node: Node, shape: Shape, kernel: tuple[int, int]) -> Window:
    """The window of a node.

    Args:
        node: Conv or AveragePool.
        shape: (C, H, W) of its input.
        kernel: (y, x).

    Raises:
        Refusal: an attribute is out of range, or the window is larger than the padded input.
    """
    stride = _pair(node, "strides", 1)
    dilation = _pair(node, "dilations", 1)
    pads = node.integers("pads", (0, 0, 0, 0))
    if len(pads) != 4 or min(pads) < 0:
        raise Refusal("shape-invalid", f"pads {list(pads)} must be 4 numbers, none negative")
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


def _pair(node: Node, name: str, default: int) -> tuple[int, int]:
    values = node.integers(name, (default, default))
    if len(values) != 2 or min(values) < 1:
        raise Refusal("shape-invalid", f"{name} {list(values)} must be 2 positive numbers")
    return (values[0], values[1])
