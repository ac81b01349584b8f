"""The limits of a core: one predicate per limit. Its docstring is the check, the error and the manual.

The counts are defined in docs/formats.md section 3.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from nmc.hardware.target import CoreLimits


@dataclass(frozen=True)
class CoreUse:
    """What a core holds, in the units of the limits."""

    neurons: int = 0
    in_axons: int = 0
    out_axons: int = 0
    synapse_bits: int = 0
    threshold_profiles: int = 0

    def count(self, limit: str) -> int:
        """The count that a limit is about, by the limit's name."""
        value: int = getattr(self, limit)
        return value

    def exceeded(self, limits: CoreLimits) -> tuple[Limit, ...]:
        """The limits that do not hold."""
        return tuple(limit for limit in LIMITS if not limit.holds(self, limits))


def _within(count: int, limit: int | None) -> bool:
    return limit is None or count <= limit


def neurons_fit(use: CoreUse, limits: CoreLimits) -> bool:
    """A core holds at most core.neurons neurons."""
    return _within(use.neurons, limits.neurons)


def in_axons_fit(use: CoreUse, limits: CoreLimits) -> bool:
    """A core hears at most core.in_axons distinct source neurons, constant axons included."""
    return _within(use.in_axons, limits.in_axons)


def out_axons_fit(use: CoreUse, limits: CoreLimits) -> bool:
    """The neurons of a core have at most core.out_axons destination cores, summed over neurons."""
    return _within(use.out_axons, limits.out_axons)


def synapse_bits_fit(use: CoreUse, limits: CoreLimits) -> bool:
    """The synapses of a core take at most core.synapse_bits bits, 64 per axon entry included."""
    return _within(use.synapse_bits, limits.synapse_bits)


def threshold_profiles_fit(use: CoreUse, limits: CoreLimits) -> bool:
    """A core has at most core.threshold_profiles distinct (threshold, reset, decay)."""
    return _within(use.threshold_profiles, limits.threshold_profiles)


@dataclass(frozen=True)
class Limit:
    """A limit of a core.

    Attributes:
        slug: the name of its diagnostic.
        name: the key of section [core] of a target file, and the field of `CoreUse`.
        holds: the predicate.
        help: what to do when one neuron alone exceeds it.
    """

    slug: str
    name: str
    holds: Callable[[CoreUse, CoreLimits], bool]
    help: str

    @property
    def sentence(self) -> str:
        """The limit in words: the predicate's docstring."""
        return (inspect.getdoc(self.holds) or "").splitlines()[0]

    def of(self, limits: CoreLimits) -> int | None:
        """The number of the target."""
        value: int | None = getattr(limits, self.name)
        return value


LIMITS = (
    Limit("core-neurons", "neurons", neurons_fit, "take a target with larger cores"),
    Limit(
        "core-in-axons",
        "in_axons",
        in_axons_fit,
        "lower the layer's fan-in: fewer input channels, a smaller kernel, groups, or a dense layer in two steps",
    ),
    Limit(
        "core-out-axons",
        "out_axons",
        out_axons_fit,
        "let fewer cores read the layer: a narrower next layer, or fewer branches from it",
    ),
    Limit(
        "core-synapse-bits",
        "synapse_bits",
        synapse_bits_fit,
        "lower the layer's fan-in, or prune weights to zero",
    ),
    Limit(
        "core-threshold-profiles",
        "threshold_profiles",
        threshold_profiles_fit,
        "let channels share thresholds: --set quantize-rate.thresholds=4",
    ),
)
"""All limits, in the order in which they are reported."""


def binding_limit(use: CoreUse, limits: CoreLimits) -> tuple[str, float]:
    """The limit that a core is nearest to: its name, and the fraction of it that is used."""
    fractions = [
        (use.count(limit.name) / number, limit.name) for limit in LIMITS if (number := limit.of(limits)) is not None
    ]
    fraction, name = max(fractions)
    return name, fraction
