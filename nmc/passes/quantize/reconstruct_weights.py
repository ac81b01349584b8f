"""Weights of few bits of a spiking layer, rounded so that their errors cancel on the spikes that they meet.

With few bits each weight is far from its real value, and rounding each to the nearest adds errors up that the
inputs have in common. Here the weights of a channel are rounded one after the other, each to make up for those
before it (`nmc.kernels.rounding`), in steps that may clip the largest of them. The result is real weights that
quantize-rate stores as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Population, Projection
from nmc.kernels.calibrate_rows import matrix_of, step_sums, with_matrix
from nmc.kernels.calibrate_solve import ordered_product
from nmc.kernels.rounding import covariance, round_rows
from nmc.passes.quantize.clip_weights import FACTORS
from nmc.passes.quantize.quantize_rate import Quantizer
from nmc.passes.quantize.refit_weights import INPUTS_MAX, fittable


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What the weights of a layer are multiplied with.

    Attributes:
        names: projections whose weights are rounded together, in order.
        spread: (K, K) covariance of the messages that a row hears in a window, side by side.
        mean: (K,) of them.
        quantizer: of the target.
    """

    names: tuple[str, ...]
    spread: Array
    mean: Array
    quantizer: Quantizer

    @classmethod
    def of(
        cls, incoming: Sequence[Projection], patches: Mapping[str, Array], timesteps: int, quantizer: Quantizer
    ) -> Reconstruction | None:
        """For the projections that are plain matrices; None where there are none, or too many weights for a neuron.

        Args:
            incoming: of the layer.
            patches: of every projection: (rows, T or 1, K).
            timesteps: T.
            quantizer: of the target.

        Raises:
            ValueError: rows have weights of their own.
        """
        counts = []
        for projection in incoming:
            if fittable(projection):
                steps = patches[projection.name].shape[1]
                counts.append(step_sums(patches[projection.name], 0, steps).astype(np.int64) * (timesteps // steps))
        if not counts or sum(part.shape[1] for part in counts) > INPUTS_MAX:
            return None
        together = np.concatenate(counts, axis=1)
        names = tuple(p.name for p in incoming if fittable(p))
        if together.shape[1] != sum(len(_matrix(p)) for p in incoming if p.name in names):
            raise ValueError("rows do not hear what the weights are multiplied with")
        return cls(names, covariance(together[None])[0], together.mean(axis=0), quantizer)

    def rounded(
        self, population: Population, incoming: tuple[Projection, ...], timesteps: int
    ) -> tuple[tuple[Projection, ...], Array]:
        """The projections with weights that the target stores, and what to add to the bias, (C,).

        Args:
            population: the target, over reals.
            incoming: its projections, over reals.
            timesteps: T.
        """
        wanted = self._matrix(incoming)
        largest = np.abs(wanted).max(axis=0)
        best, least = wanted, np.full(len(largest), np.inf)
        for factor in FACTORS:
            clipped = self._with(incoming, np.clip(wanted, -factor * largest, factor * largest))
            tried = self._nearest(population, clipped, wanted)
            off = tried - wanted
            error = (ordered_product(off.T, self.spread) * off.T).sum(axis=1)
            best, least = np.where(error < least, tried, best), np.minimum(error, least)
        return self._with(incoming, best), ordered_product(self.mean[None], wanted - best)[0] / timesteps

    def _nearest(self, population: Population, incoming: tuple[Projection, ...], wanted: Array) -> Array:
        """(K, C) stored weights in real values, in the units that the projections take."""
        grid, stored = self.quantizer.grid, self.quantizer.store(population, incoming)
        shifts = {p.name: p.shift for p in stored.projections}
        sizes = {p.name: len(_matrix(p)) for p in incoming if p.name in self.names}
        step = np.concatenate(
            [np.tile(stored.unit * np.exp2(-shifts[name].astype(np.float64)), (sizes[name], 1)) for name in self.names]
        )
        rows = (wanted / step).T
        whole = round_rows(rows, self.spread, grid.step, grid.top)
        # The largest weight is what the unit comes from.
        at = np.arange(len(rows)), np.abs(rows).argmax(axis=1)
        whole[at] = np.clip(np.rint(rows[at] / grid.step) * grid.step, -grid.top, grid.top)
        return np.asarray(whole.T * step)

    def _matrix(self, incoming: Sequence[Projection]) -> Array:
        return np.concatenate([_matrix(p) for p in incoming if p.name in self.names])

    def _with(self, incoming: Sequence[Projection], matrix: Array) -> tuple[Projection, ...]:
        done, first = [], 0
        for projection in incoming:
            if projection.name in self.names:
                last = first + len(_matrix(projection))
                projection = replace(projection, connectivity=with_matrix(projection.connectivity, matrix[first:last]))
                first = last
            done.append(projection)
        return tuple(done)


def _matrix(projection: Projection) -> Array:
    matrix = matrix_of(projection.connectivity)
    if matrix is None:
        raise TypeError("the weights are no plain matrix")
    return matrix
