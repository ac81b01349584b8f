"""What is expected of every case that does not match: ``refusals.toml``, checked both ways."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from tests.conformance.judge import Outcome

FILE = Path(__file__).with_name("refusals.toml")

_HEAD = """\
# Cases that do not match, by what is expected of them. Every case that is not named here must match.
# `slug` is of the first problem, `operator` what it names, `example` its words for the first case.
# Written by `python -m tests.conformance --write`; read it before you commit it.
"""


def read_expected() -> dict[str, tuple[str, str, str]]:
    """By case: kind, slug and operator."""
    groups = tomllib.loads(FILE.read_text(encoding="utf-8"))["group"]
    return {name: (g["kind"], g["slug"], g["operator"]) for g in groups for name in g["cases"]}


def differences(outcomes: Mapping[str, Outcome], expected: Mapping[str, tuple[str, str, str]]) -> Iterator[str]:
    """What came out otherwise than expected, a sentence for each case."""
    for name, found in outcomes.items():
        wanted = expected.get(name, ("matched", "", ""))
        if _key(found) != wanted:
            yield f"{name}: expected {' '.join(wanted)}, found {' '.join(_key(found))} ({found.message[:300]})"


def _key(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.kind, outcome.slug, outcome.operator


def expected_text(outcomes: Mapping[str, Outcome]) -> str:
    """The file that expects these outcomes."""
    return _HEAD + "".join(_groups(outcomes))


def _groups(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    rest = sorted(((_key(o), name) for name, o in outcomes.items() if o.kind != "matched"))
    for (kind, slug, operator), members in groupby(rest, key=lambda pair: pair[0]):
        names = [name for _, name in members]
        example = outcomes[names[0]].message.replace("\\", "").replace('"', "'")[:160]
        said = {"kind": kind, "slug": slug, "operator": operator, "example": example}
        yield "\n[[group]]\n" + "".join(f'{key} = "{text}"\n' for key, text in said.items()) + "cases = [\n"
        yield from _wrapped(names)
        yield "]\n"


def _wrapped(names: Iterable[str]) -> Iterator[str]:
    """Names as TOML strings, in lines of up to 120 characters."""
    line = "   "
    for name in names:
        if len(line) + len(name) + 4 > 120:
            yield f"{line}\n"
            line = "   "
        line += f' "{name}",'
    yield f"{line}\n"
