"""Forms of the dot product that processors have, and which of them this process may use.

That follows from the features that numba compiles for, not from the machine: code for a
missing feature would end the process without an error.
"""

from __future__ import annotations

from typing import NamedTuple

from numba.core.registry import cpu_target

LANES = 16
"""Target channels of one vector of sums."""

GROUP = 4
"""Source channels whose messages lie side by side: what one instruction takes from each."""

ROWS = 8
"""Message vectors (steps or pixels) that one call of `dot` takes."""


class Vnni512(NamedTuple):
    """AVX-512 VNNI: 64 products in one instruction."""

    name: str = "avx512-vnni"


class Bytes512(NamedTuple):
    """AVX-512BW: products of bytes are added in pairs of 16 bits, then of 32."""

    name: str = "avx512-bw"


class Vnni256(NamedTuple):
    """AVX-VNNI: 32 products in one instruction."""

    name: str = "avx-vnni"


class Bytes256(NamedTuple):
    """AVX2, as AVX-512BW."""

    name: str = "avx2"


class Portable(NamedTuple):
    """Any processor."""

    name: str = "portable"


class Words512(NamedTuple):
    """AVX-512BW: products of words are added in pairs of 32 bits."""

    name: str = "avx512-bw, words"


class Words256(NamedTuple):
    """AVX2, likewise."""

    name: str = "avx2, words"


class PortableWords(NamedTuple):
    """Any processor."""

    name: str = "portable, words"


Words = Words512 | Words256 | PortableWords
"""A form of `dot` whose messages and weights are words: signed, two instead of four side by side."""

NARROW = (Vnni256, Bytes256, Words256)
"""Tiers whose vectors are half as long."""

Tier = Vnni512 | Bytes512 | Vnni256 | Bytes256 | Portable
"""A form of `dot`. Its type, not its value, decides what is compiled."""

_NEEDS: tuple[tuple[Tier, frozenset[str]], ...] = (
    (Vnni512(), frozenset({"avx512vnni", "avx512vl", "avx512bw", "avx512f"})),
    (Bytes512(), frozenset({"avx512bw", "avx512f"})),
    (Vnni256(), frozenset({"avxvnni", "avx2"})),
    (Bytes256(), frozenset({"avx2"})),
    (Portable(), frozenset()),
)

PAIR_LIMIT = 32767
"""The AVX2 and AVX-512BW tiers add two products in 16 bits: more than this would saturate."""


def available_tiers() -> tuple[Tier, ...]:
    """Tiers that the features numba compiles for allow, the fastest first."""
    _, _, listed = cpu_target.target_context.codegen().magic_tuple()
    features = {name[1:] for name in listed.split(",") if name.startswith("+")}
    return tuple(tier for tier, needed in _NEEDS if needed <= features)


def words_of(tier: Tier) -> Words:
    """The form with words on the same processor."""
    match tier:
        case Vnni512() | Bytes512():
            return Words512()
        case Vnni256() | Bytes256():
            return Words256()
        case Portable():
            return PortableWords()


def adds_pairs(tier: Tier) -> bool:
    """Whether a tier adds two products in 16 bits."""
    return isinstance(tier, Bytes512 | Bytes256)
