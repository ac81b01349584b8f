"""The sums of an error model, against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.connectivity import Pool, size
from nmc.runtime.error_model import squared_gain
from tests.kernels.test_propagate import operators


@pytest.mark.parametrize("seed", range(6))
def test_the_squared_gain_is_the_mean_over_the_neurons_of_a_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for operator in operators(seed):
        squares, source = rng.random(operator.weight.shape), rng.random(operator.in_shape[0])
        wanted = np.zeros(operator.out_shape[0])
        rows, columns = (
            np.broadcast_to(index, squares.shape) for index in (operator.row_channel(), operator.column_channel())
        )
        for place in np.ndindex(squares.shape):
            wanted[rows[place]] += squares[place] * source[columns[place]]
        if isinstance(operator, Pool):
            wanted *= size(operator.kernel)
        elif squares.ndim == 2 or hasattr(operator, "indptr"):
            wanted /= size(operator.out_shape[1:])
        np.testing.assert_allclose(squared_gain(operator, squares, source), wanted, rtol=1e-12)
