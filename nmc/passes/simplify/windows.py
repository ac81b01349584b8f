"""Geometry of windows: which convolution reads exactly what."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import Array, Conv2d, Shape


def covers(outer: Conv2d, inner: Conv2d) -> bool:
    """Whether the zeros that ``outer`` pads with are what ``inner`` would compute there.

    Beyond its output the inner convolution must see padding only; otherwise a composed
    convolution would read real values where the outer one reads zeros.
    """
    for axis in (0, 1):
        n_in, n_mid, n_out = inner.in_shape[1 + axis], inner.out_shape[1 + axis], outer.out_shape[1 + axis]
        stride, pad = inner.stride[axis], inner.pads[axis]
        reach = (inner.weight.shape[2 + axis] - 1) * inner.dilation[axis]
        if outer.pads[axis] and reach - stride - pad >= 0:
            return False
        kernel = (outer.weight.shape[2 + axis] - 1) * outer.dilation[axis]
        last = (n_out - 1) * outer.stride[axis] + kernel - outer.pads[axis]
        if last >= n_mid and n_mid * stride - pad < n_in:
            return False
    return True


def fitted_conv(
    weight: Array,
    in_shape: Shape,
    stride: tuple[int, int],
    pads: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    out_shape: Shape,
) -> Conv2d:
    """The convolution with these taps whose output has exactly ``out_shape``.

    Pads below and beside are chosen; where even without them there would be too many
    windows, taps of weight zero keep the last ones from fitting.

    Args:
        weight: (out, in / groups, kh, kw).
        in_shape: (C, H, W).
        stride: (y, x).
        pads: (top, left), >= 0.
        dilation: (y, x) distance of the taps.
        groups: of the convolution.
        out_shape: (out, H, W).
    """
    after = []
    for axis in (0, 1):
        n, step = in_shape[1 + axis], stride[axis]
        span = dilation[axis] * (weight.shape[2 + axis] - 1) + 1
        least = (out_shape[1 + axis] - 1) * step + span - n - pads[axis]
        extra = -(least + step - 1)
        if extra > 0:
            taps = -(-extra // dilation[axis])
            widen = [(0, 0)] * 4
            widen[2 + axis] = (0, taps)
            weight = np.pad(weight, widen)
            least += taps * dilation[axis]
        after.append(max(least, 0))
    spread = tuple(d if k > 1 else 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    return Conv2d(weight, in_shape, stride, (*pads, after[0], after[1]), (spread[0], spread[1]), groups)
