"""Successive rounding: legal, exact where it says so, and better than rounding to the nearest."""

import numpy as np
import pytest

from nmc.kernels.rounding import covariance, round_rows

RNG = np.random.default_rng(5)


def correlated(rows: int, columns: int, *, mixed: int) -> np.ndarray:
    """Integer inputs that share ``mixed`` causes: (rows, columns)."""
    causes = RNG.standard_normal((rows, mixed)) @ RNG.standard_normal((mixed, columns))
    return np.maximum(np.rint(40 * (causes + 0.3 * RNG.standard_normal((rows, columns)))), 0).astype(np.int64)


def test_covariance_does_not_depend_on_the_order_of_the_samples() -> None:
    x = correlated(500, 30, mixed=4)
    first, second = covariance(x[None]), covariance(x[::-1][None])
    assert first.tobytes() == second.tobytes()


def test_covariance_is_that_of_the_inputs_less_what_few_samples_cannot_tell() -> None:
    x = correlated(4000, 12, mixed=3)
    shrunk = covariance(x[None])[0]
    exact = np.cov(x.T, bias=True)
    np.testing.assert_allclose(np.diagonal(shrunk), np.diagonal(exact), rtol=1e-9)
    away = ~np.eye(12, dtype=bool)
    np.testing.assert_allclose(shrunk[away], exact[away] * 4000 / 4012, rtol=1e-9, atol=1e-9)


def test_covariance_of_wide_messages_stays_exact() -> None:
    x = RNG.integers(-(2**30), 2**30, size=(1, 64, 5))
    assert covariance(x).tobytes() == covariance(x[:, ::-1]).tobytes()


def test_covariance_of_inputs_that_never_vary_is_positive() -> None:
    assert (np.linalg.eigvalsh(covariance(np.full((1, 20, 6), 7))[0]) > 0).all()


@pytest.mark.parametrize(("step", "top"), [(2, 254), (1, 7)])
def test_rows_are_legal_and_beat_rounding_to_the_nearest(step: int, top: int) -> None:
    x = correlated(3000, 48, mixed=6)
    weights = RNG.uniform(-top, top, size=(20, 48))
    stored = round_rows(weights, covariance(x[None])[0], step, top)
    assert stored.dtype == np.int64
    assert (stored % step == 0).all() and np.abs(stored).max() <= top
    nearest = np.clip(np.rint(weights / step) * step, -top, top)
    fresh = x - x.mean(axis=0)
    ours, theirs = (((fresh @ (kind - weights).T) ** 2).mean() for kind in (stored, nearest))
    assert ours < 0.5 * theirs


def test_inputs_without_anything_in_common_are_rounded_to_the_nearest() -> None:
    weights = RNG.uniform(-20, 20, size=(5, 9))
    np.testing.assert_array_equal(round_rows(weights, np.diag(np.arange(1.0, 10.0)), 2, 254), 2 * np.rint(weights / 2))


def test_threads_share_the_rows() -> None:
    """Many rows are cut into parts: each row is what it is alone."""
    spread = covariance(correlated(300, 200, mixed=5)[None])[0]
    weights = RNG.uniform(-254, 254, size=(256, 200))
    together = round_rows(weights, spread, 2, 254)
    alone = np.concatenate([round_rows(row[None], spread, 2, 254) for row in weights[::50]])
    np.testing.assert_array_equal(together[::50], alone)
