"""What a file quantizes is rounded where the file rounds it, behind a population of finer steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Connectivity, Skip
from nmc.ir.layers import Quantize
from nmc.ir.reference import per_channel
from nmc.kernels.propagate import largest_products
from nmc.passes.convert.units import Term, Unit, Units
from nmc.passes.quantize.fit_graded import MARGIN, SHIFT_MIN
from nmc.passes.quantize.fixed_point import WeightGrid
from nmc.passes.quantize.whole_weights import EQUAL, whole_unit

LEVELS = 1 << 16
"""Codes of more levels are not followed: two stored weights per synapse do not tell their steps apart."""

WEIGHT_LEVELS = 64
"""Of a stored weight, at least: two of fewer are no finer than the steps of a code."""

FINE_MOST, FINE_LEAST = 8, 4
"""Bits behind the point of a fine message: of more the weights know nothing, fewer would round twice."""

TWICE = 2
"""Times the range of the code that a sum may reach on calibration inputs before it is clipped."""


@dataclass(frozen=True, eq=False)
class Followed:
    """Units that follow the codes of the file.

    Attributes:
        units: in topological order, with the fine ones.
        codes: by unit; those of fine units have the fine steps.
        fine: names of the fine units, each synapse of which is stored as two weights.
    """

    units: Units
    codes: Mapping[str, Quantize]
    fine: frozenset[str]


def follow_codes(
    units: Units, codes: Mapping[str, Quantize], inputs: Mapping[str, float], target: Target, grid: WeightGrid
) -> Followed:
    """Let coded ReLUs round sums of finer steps.

    A file computes ``clip(rint(M * sum))`` with any real M; a shift behind a sum knows powers of two
    only, and M in weights of 8 bits is too coarse by far. So a linear unit makes the sum in steps
    that are 2^-8 of the file's, M in two weights for each synapse; what was the ReLU shifts its
    message by 8, which is the rounding. The ReLUs of one clip share the linear unit.

    Where powers of two lead from the integers that a unit reads to its own, it rounds them itself.

    Args:
        units: of the network.
        codes: by unit or input, those of the file.
        inputs: the real value of one unit of the message of each input.
        target: whose messages limit the fine steps.
        grid: of the stored weights.
    """
    units = _read_through(units, codes)
    steps = dict(inputs)
    made: list[Unit] = []
    fine: list[tuple[Unit, Unit]] = []  # the first reader as it was, and what it reads now
    found = dict(codes)
    taken = {unit.name for unit in units.units} | set(inputs)
    for unit in units.units:
        sources = [steps.get(term.source) for term in unit.terms]
        known = [step for step in sources if step is not None]
        code = codes.get(unit.name)
        if code is not None:
            steps[unit.name] = code.scale
        elif len(known) == len(sources):
            steps[unit.name] = max(known)
        bits = None
        if code is not None and unit.relu and len(known) == len(sources) and not _is_exact(unit, code, steps, grid):
            bits = _fine_bits(unit, code, steps, target, grid)
        if code is None or bits is None:
            made.append(unit)
            continue
        scale = code.scale * 2.0**-bits
        first, before = next(
            (pair for pair in fine if found[pair[1].name].scale == scale and _same_sum(pair[0], unit)), (unit, None)
        )
        if before is None:
            # The file has no tensor of the sum as it is here: before the ReLU, with all that was composed into it.
            nameless = replace(unit.origin, output="")
            before = replace(unit, name=_fresh(f"{unit.name}:fine", taken), relu=False, origin=nameless)
            found[before.name] = replace(code, scale=scale)
            fine.append((unit, before))
            made.append(before)
        term = Term(before.name, Skip(np.ones(unit.shape[0]), unit.shape), unit.origin)
        made.append(replace(unit, terms=(term,), bias=_difference(unit, first)))
    return Followed(replace(units, units=tuple(made)), found, frozenset(unit.name for _, unit in fine))


def _read_through(units: Units, codes: Mapping[str, Quantize]) -> Units:
    """Coded ReLUs read what the relays before them read; relays that nobody reads then are gone."""
    relays = {unit.name: unit for unit in units.units if not unit.relu and unit.name not in codes}
    made = [_without_relay(unit, relays) if unit.name in codes and unit.relu else unit for unit in units.units]
    read = {term.source for unit in made for term in unit.terms} | {output.unit for output in units.outputs}
    return replace(units, units=tuple(unit for unit in made if unit.name in read or unit.name not in relays))


def _without_relay(unit: Unit, relays: Mapping[str, Unit]) -> Unit:
    (first, *more) = unit.terms
    relay = relays.get(first.source)
    if relay is None or more or not isinstance(first.connectivity, Skip) or np.any(first.connectivity.weight != 1):
        return unit
    if unit.bias.ndim == relay.bias.ndim:
        return replace(unit, terms=relay.terms, bias=unit.bias + relay.bias)
    bias = per_channel(unit.bias, unit.shape) + per_channel(relay.bias, unit.shape)
    return replace(unit, terms=relay.terms, bias=np.broadcast_to(bias, unit.shape))


def _is_exact(unit: Unit, code: Quantize, steps: Mapping[str, float], grid: WeightGrid) -> bool:
    """Whether the sums of the file's integers are whole powers of two of the code's step, for all channels."""
    for term in unit.terms:
        own = whole_unit(term.connectivity, np.asarray(steps[term.source]), grid)
        if own is None:
            return False
        exponent = np.log2(own / code.scale)
        if np.any(np.abs(exponent - np.rint(exponent[0])) > EQUAL):
            return False
    return True


def _fine_bits(unit: Unit, code: Quantize, steps: Mapping[str, float], target: Target, grid: WeightGrid) -> int | None:
    """How many bits finer than the file's steps the sum can be; None where that is not enough."""
    if code.high - code.low > LEVELS or grid.top // grid.step < WEIGHT_LEVELS:
        return None
    room = 2.0 ** (target.messages.graded_bits - 1) / (MARGIN * TWICE * (code.high - code.low))
    lowest = SHIFT_MIN if target.weights.exponent_max is None else max(SHIFT_MIN, -target.weights.exponent_max)
    for term in unit.terms:
        largest = float(largest_products(term.connectivity, steps[term.source]).max()) / code.scale
        room = min(room, grid.top * 2.0**-lowest / max(largest, 1e-300))
    bits = int(min(np.floor(np.log2(room)), FINE_MOST))
    return bits if bits >= FINE_LEAST else None


def _same_sum(one: Unit, other: Unit) -> bool:
    """Whether two units differ in their bias alone."""
    return (
        one.shape == other.shape
        and len(one.terms) == len(other.terms)
        and all(
            a.source == b.source and _same_operator(a.connectivity, b.connectivity)
            for a, b in zip(one.terms, other.terms, strict=True)
        )
    )


def _same_operator(one: Connectivity, other: Connectivity) -> bool:
    return type(one) is type(other) and all(
        np.array_equal(value, getattr(other, name)) for name, value in vars(one).items()
    )


def _difference(unit: Unit, first: Unit) -> np.ndarray:
    """The bias of a unit without that of another: () or (channels,) or the full shape."""
    if unit is first:
        return np.zeros(unit.shape[0])
    if unit.bias.ndim == first.bias.ndim:
        return np.asarray(unit.bias - first.bias)
    difference = per_channel(unit.bias, unit.shape) - per_channel(first.bias, unit.shape)
    return np.array(np.broadcast_to(difference, unit.shape))


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name
