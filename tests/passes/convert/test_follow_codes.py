"""Coded ReLUs read sums of finer steps, unless powers of two lead to their own."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Array, Dense, Skip
from nmc.ir.layers import Quantize
from nmc.ir.origin import Origin
from nmc.passes.convert.follow_codes import Followed, follow_codes
from nmc.passes.convert.units import Term, Unit, UnitOutput, Units
from nmc.passes.quantize.fixed_point import weight_grid
from nmc.testing.builders import small_target

ORIGIN = Origin("node", "Op", "tensor")
WEIGHT = np.random.default_rng(0).integers(-127, 128, (3, 4)).astype(np.float64)
CODE = Quantize(0.3, 0, 0, 255)


def unit(name: str, *, weight: Array = WEIGHT, bias: float = 0.0, relu: bool = True, source: str = "x") -> Unit:
    return Unit(name, (3,), (Term(source, Dense(weight, (4,), (3,)), ORIGIN),), np.full(3, bias), relu, ORIGIN)


def read_by(name: str, source: str, *, bias: float = 0.0) -> Unit:
    """A ReLU of another unit."""
    return Unit(name, (3,), (Term(source, Skip(np.ones(3), (3,)), ORIGIN),), np.full(3, bias), True, ORIGIN)


def followed(*made: Unit, codes: dict[str, Quantize], step: float = 0.01, bits: int = 24) -> Followed:
    units = Units(made, (), (UnitOutput(made[-1].name, (3,), "", "y"),))
    target = small_target(graded_bits=bits)
    return follow_codes(units, codes, {"x": step}, target, weight_grid(target.weights, None))


def names(found: Followed) -> list[str]:
    return [unit.name for unit in found.units.units]


def test_the_relus_of_a_clip_share_the_fine_sum() -> None:
    above = unit("above", bias=-255 * CODE.scale)
    found = followed(unit("value"), above, unit("out", relu=False), codes={"value": CODE, "above": CODE})
    assert names(found) == ["value:fine", "value", "above", "out"]
    assert found.fine == {"value:fine"}
    assert found.codes["value:fine"].scale == CODE.scale / 256
    fine, value, excess, _ = found.units.units
    assert not fine.relu and fine.terms[0].source == "x"
    assert [term.source for term in (*value.terms, *excess.terms)] == ["value:fine"] * 2
    np.testing.assert_array_equal(value.bias, 0.0)
    np.testing.assert_allclose(excess.bias, -255 * CODE.scale)


def test_other_weights_have_sums_of_their_own() -> None:
    found = followed(unit("one"), unit("two", weight=WEIGHT[::-1].copy()), codes={"one": CODE, "two": CODE})
    assert names(found) == ["one:fine", "one", "two:fine", "two"]


@pytest.mark.parametrize("step", [2.0**-5, 3 * 2.0**-5])
def test_powers_of_two_need_no_fine_sum(step: float) -> None:
    found = followed(unit("value"), codes={"value": replace(CODE, scale=0.5)}, step=step)
    assert bool(found.fine) == (step != 2.0**-5)


def test_a_relay_is_read_through_and_left_out_where_nobody_else_reads_it() -> None:
    relay = unit("relay", relu=False, bias=0.25)
    found = followed(relay, read_by("value", "relay", bias=0.5), codes={"value": CODE})
    assert names(found) == ["value:fine", "value"]
    np.testing.assert_array_equal(found.units.units[0].bias, 0.75)
    both = followed(relay, read_by("value", "relay"), read_by("plain", "relay"), codes={"value": CODE})
    assert names(both) == ["relay", "value:fine", "value", "plain"]


@pytest.mark.parametrize(
    ("code", "bits"), [(CODE, 14), (replace(CODE, high=1 << 17), 24), (replace(CODE, scale=1e-4), 24)]
)
def test_what_the_target_cannot_tell_apart_is_not_followed(code: Quantize, bits: int) -> None:
    """Messages too narrow for fine steps, a code too fine for two weights, weights too large for its step."""
    assert not followed(unit("value"), codes={"value": code}, bits=bits).fine
