"""Weights of a layer fitted again to what its sources really send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, Pool, size
from nmc.ir.network import Projection
from nmc.kernels.calibrate_rows import matrix_of, step_sums, with_matrix
from nmc.kernels.calibrate_solve import Jitter, exact_product, gram_of, ordered_product, ridge
from nmc.passes.quantize.fixed_point import is_skip

STRENGTH = 1e-4
"""Of the ridge, relative to the mean square of an input."""

STRENGTH_FEW_ROWS = 1e-2
"""Where there are fewer than `ROWS_PER_INPUT` rows for each unknown, and for the read-out."""

ROWS_PER_INPUT = 10

READOUT_ROWS_PER_INPUT = 3
"""The read-out is fitted on whole samples, which are few: it is left alone with fewer."""

INPUTS_MAX = 2304
"""Unknowns of one channel that are solved for (256 channels of a 3 x 3 kernel): two seconds each time."""

INPUTS_WIDE = 1024
"""A layer with more is solved for fewer times."""

JITTER_ROWS = 4096
"""Rows on which jitter is measured."""

SPARSE = 0.5
"""A kernel with more zeros than that keeps its pattern: it is not fitted."""


def fittable(projection: Projection) -> bool:
    """Whether the projection's weights are a plain matrix that may change freely."""
    connectivity = projection.connectivity
    if is_skip(connectivity) or isinstance(connectivity, Pool):
        return False
    if not isinstance(connectivity, Dense) and not (isinstance(connectivity, Conv2d) and connectivity.groups == 1):
        return False
    return bool(np.mean(connectivity.weight == 0) <= SPARSE)


@dataclass(frozen=True, eq=False)
class Design:
    """The inputs of a layer on the sampled rows, summed over the window.

    Attributes:
        projections: those that are fitted, in order.
        counts: (rows, K) integer-valued: the messages of their patches, side by side.
        unit: (K,) real value of one message: decode scale / T.
        scale: (K,) decode scale of the channel that each input belongs to.
        gram: of the inputs, from `gram_of`: many fits share it.
        jitter: of the inputs; None: it is not looked at.
        smoothness: weight of jitter beside the error of the fit.
    """

    projections: tuple[Projection, ...]
    counts: Array
    unit: Array
    scale: Array
    gram: Array
    jitter: Jitter | None = None
    smoothness: float = 0.0

    @property
    def wide(self) -> bool:
        """Whether solving takes so long that it is done fewer times."""
        return bool(self.counts.shape[1] > INPUTS_WIDE)

    def pull(self, weights: Array) -> tuple[Array, Array] | None:
        """What draws weights, (K, C) per real value, towards smooth running sums: for `ridge`."""
        if self.jitter is None:
            return None
        gradient = ordered_product(self.jitter.gram, weights) + self.jitter.cross
        return self.smoothness * self.jitter.gram, -self.smoothness * gradient

    def real_weights(self) -> Array:
        """(K, C) per real value of an input."""
        return np.asarray(self.weights() / self.scale[:, None])

    def moved(self, change: Array) -> tuple[Projection, ...]:
        """The projections with weights changed by (K, C) per real value of an input."""
        return self.with_weights(self.weights() + change * self.scale[:, None])

    def weights(self) -> Array:
        """(K, C) as folded: they multiply messages."""
        return np.concatenate([_matrix(p.connectivity) for p in self.projections])

    def with_weights(self, weights: Array) -> tuple[Projection, ...]:
        """The projections with other folded weights."""
        done, first = [], 0
        for projection in self.projections:
            last = first + len(_matrix(projection.connectivity))
            connectivity = with_matrix(projection.connectivity, weights[first:last])
            done.append(replace(projection, connectivity=connectivity))
            first = last
        return tuple(done)


def _matrix(connectivity: Connectivity) -> Array:
    matrix = matrix_of(connectivity)
    if matrix is None:
        raise TypeError("the weights are no plain matrix")
    return matrix


def design(
    projections: Sequence[Projection], patches: Mapping[str, Array], scales: Mapping[str, Array], timesteps: int
) -> Design:
    """The design of a layer's fittable projections.

    Args:
        projections: fittable ones.
        patches: of every projection: (rows, T, K).
        scales: decode scale of every population.
        timesteps: T.
    """
    counts, scale = [], []
    for projection in projections:
        # The patches of a source have one step that stands for all.
        steps = patches[projection.name].shape[1]
        repeated = timesteps // steps
        counts.append(step_sums(patches[projection.name], 0, steps).astype(np.float64) * repeated)
        own = scales[projection.source]
        channels = projection.connectivity.in_shape[0]
        scale.append(np.tile(np.broadcast_to(own, (channels,)), counts[-1].shape[1] // channels))
    whole = np.concatenate(scale)
    together, unit = np.concatenate(counts, axis=1), whole / timesteps
    return Design(tuple(projections), together, unit, whole, gram_of(together, unit))


def refit(layer: Design, wanted: Array, bias: Array) -> tuple[tuple[Projection, ...], Array]:
    """Change the weights so that the rows receive what is wanted.

    Args:
        layer: its inputs.
        wanted: (rows, C) real pre-activations less what projections that are not fitted deliver.
        bias: (1, C) or (rows, C) real, as it is.

    Returns:
        The projections, and what to add to the bias, (C,).
    """
    rows, inputs = layer.counts.shape
    residual = wanted - bias - exact_product(layer.counts, layer.real_weights() * layer.unit[:, None])
    strength = STRENGTH if rows >= ROWS_PER_INPUT * inputs else STRENGTH_FEW_ROWS
    change, offset = ridge(layer.counts, layer.unit, residual, strength, layer.pull(layer.real_weights()), layer.gram)
    return layer.moved(change), offset


def refit_readout(layer: Design, wanted: Array, bias: Array) -> tuple[tuple[Projection, ...], Array] | None:
    """Fit a read-out to the float network's outputs; None where there are too few samples.

    Where a channel spans several places that are too many to fit each, all weights that read
    a channel change by the same amount.
    """
    rows, inputs = layer.counts.shape
    residual = wanted - bias - exact_product(layer.counts, layer.real_weights() * layer.unit[:, None])
    if inputs * READOUT_ROWS_PER_INPUT <= rows:
        change, offset = ridge(layer.counts, layer.unit, residual, STRENGTH_FEW_ROWS, gram=layer.gram)
        return layer.moved(change), offset
    if len(layer.projections) > 1:
        return None
    shape = layer.projections[0].connectivity.in_shape
    places, channels = size(shape) // shape[0], shape[0]
    if channels * READOUT_ROWS_PER_INPUT > rows or places * channels != inputs:
        return None
    pooled = layer.counts.reshape(rows, places, channels).sum(axis=1)
    change, offset = ridge(pooled, layer.unit[:channels] / places, residual, STRENGTH_FEW_ROWS)
    return layer.moved(np.tile(change / places, (places, 1))), offset
