"""What each diagnostic means and how to fix it: ``nmc explain SLUG``, docs/errors.md.

The texts are data (`explanations.toml`): slug -> ``exit`` (what a command ends with when it is
an error; 0 for warnings and notes), ``means``, ``fix``.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from nmc.ir.diagnostic import ExitCode, NmcError


@dataclass(frozen=True, slots=True)
class Explanation:
    """One entry of the catalogue.

    Attributes:
        slug: name of the diagnostic.
        exit: exit code where it is an error; 0 if it is only ever a warning or a note.
        means: what happened.
        fix: what to do.
    """

    slug: str
    exit: int
    means: str
    fix: str

    def to_dict(self) -> dict[str, object]:
        """The ``--json`` form."""
        return {"slug": self.slug, "exit": self.exit, "means": self.means, "fix": self.fix}


@cache
def catalogue() -> Mapping[str, Explanation]:
    """Every explanation by slug, sorted."""
    text = files("nmc.compiler").joinpath("explanations.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)
    return {
        slug: Explanation(slug, entry["exit"], entry["means"].strip(), entry["fix"].strip())
        for slug, entry in sorted(entries.items())
    }


def explain(slug: str) -> Explanation:
    """The entry of a slug.

    Raises:
        NmcError: there is none (exit 2), with the nearest slug.
    """
    found = catalogue().get(slug)
    if found is not None:
        return found
    close = difflib.get_close_matches(slug, list(catalogue()), 1)
    raise NmcError.single(
        "slug-unknown",
        f"no diagnostic is called '{slug}'",
        ExitCode.USAGE,
        help=f"did you mean '{close[0]}'?" if close else "`nmc explain` without a name lists them all",
    )


def markdown() -> str:
    """docs/errors.md."""
    lines = [
        "# Errors, warnings and notes",
        "",
        "Made by `nmc explain --markdown`. `exit` is what a command ends with when the diagnostic is an error;",
        "0: only ever a warning or a note.",
        "",
        "| slug | exit | what it means | what to do |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{e.slug}` | {e.exit} | {_cell(e.means)} | {_cell(e.fix)} |" for e in catalogue().values()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
