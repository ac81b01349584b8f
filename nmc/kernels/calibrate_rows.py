"""Sampled rows of a layer: what calibration measures instead of whole samples.

A row is one position of one sample with all its channels. What a row receives is decided by
its patch, the messages that it reads, so parameters are searched on a few thousand rows drawn
from all samples. Sums over rows are products of integers in float32 or float64, which are
exact below 2^24 and 2^53: whatever adds them, in whatever order, finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, IndexArray, Pool, Shape, Skip, size
from nmc.ir.network import Projection
from nmc.ir.reference import per_channel
from nmc.kernels.layerwise import LaidProjection
from nmc.kernels.parallel import parallel
from nmc.kernels.propagate import plan, row_sums

CHUNK = 512
"""Rows per task."""

_FLOAT32_EXACT = 1 << 24


@numba.njit(nogil=True, cache=True)
def _patches(lines, ys, xs, window, out):
    height, width, chans, kh, kw, sy, sx, top, left, dy, dx = window
    for m in range(len(ys)):
        for t in range(lines.shape[0]):
            for ky in range(kh):
                y = ys[m] * sy - top + ky * dy
                if y < 0 or y >= height:
                    continue
                for kx in range(kw):
                    x = xs[m] * sx - left + kx * dx
                    if x < 0 or x >= width:
                        continue
                    first = (ky * kw + kx) * chans
                    at = (y * width + x) * chans
                    for c in range(chans):
                        out[m, t, first + c] = lines[t, at + c]


@numba.njit(nogil=True, cache=True)
def _step_sums(patches, first, last, out):
    for m in range(patches.shape[0]):
        for t in range(first, last):
            for k in range(patches.shape[2]):
                out[m, k] += patches[m, t, k]


def step_sums(patches: Array, first: int, last: int) -> Array:
    """Messages of the steps from ``first`` to before ``last``, added up: (rows, K) int32.

    Args:
        patches: (rows, T, K) integers.
        first: the first of the steps.
        last: the first that is left out.
    """
    out = np.zeros((len(patches), patches.shape[2]), dtype=np.int32)

    def one(index: int) -> None:
        chunk = slice(index * CHUNK, (index + 1) * CHUNK)
        _step_sums(patches[chunk], first, last, out[chunk])

    parallel(one, -(-len(patches) // CHUNK))
    return out


def _window(conv: Conv2d) -> tuple[int, ...]:
    chans, height, width = conv.in_shape
    kh, kw = conv.weight.shape[2:]
    return height, width, chans, kh, kw, *conv.stride, *conv.pads[:2], *conv.dilation


def as_conv(connectivity: Connectivity) -> Conv2d | None:
    """The same operator as a convolution, where every position has the same weights."""
    match connectivity:
        case Conv2d():
            return connectivity
        case Pool():
            return connectivity.as_conv()
        case Skip() if len(connectivity.in_shape) == 3:
            weight = connectivity.weight[:, None, None, None]
            return Conv2d(weight, connectivity.in_shape, groups=len(weight))
        case _:
            return None


def matrix_of(connectivity: Connectivity) -> Array | None:
    """The weights as (inputs of a patch, channels); None where that would be no plain product."""
    match connectivity:
        case Dense():
            laid = plan(connectivity, np.float64)
            return np.asarray(getattr(laid, "weight"))  # noqa: B009
        case Conv2d(groups=1):
            out = connectivity.weight.shape[0]
            return connectivity.weight.transpose(2, 3, 1, 0).reshape(-1, out).astype(np.float64)
        case _:
            return None


def with_matrix(connectivity: Connectivity, matrix: Array) -> Connectivity:
    """The operator whose `matrix_of` is ``matrix``."""
    if isinstance(connectivity, Conv2d):
        out, per_in, kh, kw = connectivity.weight.shape
        weight = matrix.reshape(kh, kw, per_in, out).transpose(3, 2, 0, 1)
        return connectivity.with_weight(np.ascontiguousarray(weight))
    chans, *places = connectivity.in_shape
    weight = np.moveaxis(matrix.T.reshape(-1, *places, chans), -1, 1)
    return connectivity.with_weight(np.ascontiguousarray(weight).reshape(matrix.T.shape))


def exact_type(connectivity: Connectivity, largest: float) -> type[np.generic]:
    """A float type in which sums of integer messages up to ``largest`` are exact."""
    low, high = row_sums(connectivity, -largest, largest)
    return np.float32 if max(-float(low.min()), float(high.max())) < _FLOAT32_EXACT else np.float64


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a population.

    Attributes:
        shape: of the population.
        samples, places: (rows,) of each row; samples ascend. Places count positions in C order.
        local: every projection has the same weights at every position, so that patches are
            taken row by row; else rows come as whole samples and a patch is a sample.
    """

    shape: Shape
    samples: IndexArray
    places: IndexArray
    local: bool

    @classmethod
    def draw(
        cls, shape: Shape, incoming: Sequence[Projection], samples: int, count: int, generator: np.random.Generator
    ) -> Rows:
        """At most ``count`` rows of a population, from all samples where it can be.

        Args:
            shape: of the population.
            incoming: its projections.
            samples: how many there are.
            count: of rows.
            generator: draws.
        """
        places = size(shape) // shape[0]
        convs = [as_conv(p.connectivity) for p in incoming]
        local = len(shape) == 3 and all(conv is not None for conv in convs)
        if not local:
            kept = min(samples, max(count // places, 1))
            return cls(shape, np.repeat(np.arange(kept), places), np.tile(np.arange(places), kept), False)
        total = samples * places
        chosen = np.arange(total) if total <= count else np.sort(generator.choice(total, count, replace=False))
        return cls(shape, chosen // places, chosen % places, True)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def whole(self) -> int:
        """How many samples the rows span if they are whole samples."""
        return int(self.samples[-1]) + 1

    def of(self, values: Array) -> Array:
        """(N, n) channels last to (rows, C)."""
        places = size(self.shape) // self.shape[0]
        return np.asarray(values.reshape(-1, self.shape[0])[self.samples * places + self.places])

    def parameter(self, values: Array) -> Array:
        """A parameter of the population's neurons by row: (1, C), or (rows, C) where it depends on the place."""
        full = np.broadcast_to(per_channel(values, self.shape), self.shape).reshape(self.shape[0], -1).T
        same = bool((full == full[:1]).all())
        return np.ascontiguousarray(full[:1] if same else full[self.places])

    def patches(self, connectivity: Connectivity, sent: Sequence[Array]) -> Array:
        """The messages that the rows read: (rows, T, K), or (samples, T, n) where rows are whole samples.

        T is 1 where every step has the same messages (those of a source).

        Args:
            connectivity: a projection's.
            sent: (T, n) messages of each sample, channels last.
        """
        steps = 1 if sent[0].strides[0] == 0 else len(sent[0])
        conv = as_conv(connectivity) if self.local else None
        if conv is None:
            return np.stack([messages[:steps] for messages in sent[: self.whole]])
        width = conv.out_shape[2]
        ys, xs = self.places // width, self.places % width
        inputs = conv.in_shape[0] * conv.weight.shape[2] * conv.weight.shape[3]
        out = np.zeros((len(self), steps, inputs), dtype=sent[0].dtype)
        edges = np.searchsorted(self.samples, np.arange(len(sent) + 1))
        window = _window(conv)

        def one(index: int) -> None:
            part = slice(edges[index], edges[index + 1])
            lines = np.ascontiguousarray(sent[index][:steps])
            _patches(lines, ys[part], xs[part], window, out[part])

        parallel(one, len(sent))
        return out

    def sums(self, projection: Projection, patches: Array) -> Array:
        """What the rows receive in each step through an integer projection: (rows, T or 1, C) float32."""
        connectivity, channels = projection.connectivity, self.shape[0]
        out = np.empty((len(self), patches.shape[1], channels), dtype=np.float32)
        matrix = matrix_of(connectivity) if self.local or len(self.shape) == 1 else None
        if matrix is None or projection.bias is not None:
            self._general(projection, patches, out)
            return out
        largest = float(np.abs(patches).max(initial=0))
        weights = np.ascontiguousarray(matrix.astype(exact_type(connectivity, largest)))

        def one(index: int) -> None:
            chunk = slice(index * CHUNK, (index + 1) * CHUNK)
            part = patches[chunk]
            total = part.reshape(-1, part.shape[2]).astype(weights.dtype) @ weights
            out[chunk] = _shifted(total, projection.shift).reshape(len(part), -1, channels)

        parallel(one, -(-len(patches) // CHUNK))
        return out

    def _general(self, projection: Projection, patches: Array, out: Array) -> None:
        """Sums by the kernels of `nmc.kernels.propagate`, for operators that are no plain product."""
        channels = self.shape[0]
        if self.local:
            laid = LaidProjection.lay(_at_one_place(projection))

            def one(index: int) -> None:
                part = patches[index * CHUNK : (index + 1) * CHUNK]
                total = laid.sums(part.reshape(-1, part.shape[2]))
                out[index * CHUNK : (index + 1) * CHUNK] = total.reshape(len(part), -1, channels)

            parallel(one, -(-len(patches) // CHUNK))
            return
        laid = LaidProjection.lay(projection)
        places = size(self.shape) // channels

        def sample(index: int) -> None:
            total = laid.sums(patches[index]).reshape(-1, places, channels)
            out[index * places : (index + 1) * places] = total.transpose(1, 0, 2)

        parallel(sample, len(patches))


def _at_one_place(projection: Projection) -> Projection:
    """The projection at a single position, reading patches."""
    connectivity = projection.connectivity
    conv = as_conv(connectivity)
    if conv is None:
        raise TypeError("the weights differ from place to place")
    at_one: Connectivity
    if isinstance(connectivity, Skip):
        at_one = Skip(connectivity.weight, (len(connectivity.weight), 1, 1))
    else:
        at_one = Conv2d(conv.weight, (conv.in_shape[0], *conv.weight.shape[2:]), groups=conv.groups)
    return Projection(
        projection.name,
        projection.source,
        projection.target,
        at_one,
        projection.origin,
        projection.delay,
        projection.shift,
        projection.bias,
    )


def _shifted(total: Array, shift: Array) -> Array:
    """Floor of the sums, (M, C), divided by powers of two."""
    return np.floor(total * np.exp2(-shift.astype(total.dtype))) if np.any(shift) else total
