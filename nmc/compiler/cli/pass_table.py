"""The passes of a backend, found by building its pipelines: what can run is what is listed."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from nmc.backends.api import Backend, Options
from nmc.compiler.plugins import pipeline_of
from nmc.hardware.target import Target
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.passes.base import Pass
from nmc.passes.partition import PARTITIONERS
from nmc.passes.place import PLACERS


@dataclass(frozen=True)
class PassRow:
    """A pass and the first choice of options that brings it in.

    Attributes:
        used: the options of ``nmc compile`` that bring it in; ``always`` without any.
        options: (name, default, type) of its own options.
        summary: first line of its docstring; ``about`` is all of it.
    """

    name: str
    stage: str
    consumes: str
    produces: str
    used: str
    options: tuple[tuple[str, str, str], ...]
    summary: str
    about: str

    @property
    def options_text(self) -> str:
        """Options with their defaults in one line."""
        return " ".join(f"{name}={default}" for name, default, _ in self.options)

    def to_dict(self) -> dict[str, object]:
        """The ``--json`` form."""
        return {
            "name": self.name,
            "stage": self.stage,
            "consumes": self.consumes,
            "produces": self.produces,
            "used": self.used,
            "options": [{"name": n, "default": d, "type": t} for n, d, t in self.options],
            "summary": self.summary,
        }


def _variants() -> Iterator[tuple[str, Options]]:
    """Options that change which passes run, the defaults first."""
    yield "the defaults", Options()
    yield "--coding signed", Options(coding="signed")
    yield "--coding burst", Options(coding="burst")
    yield "--coding graded", Options(coding="graded")
    yield "--coding sigma-delta", Options(coding="sigma-delta")
    yield "--host-input", Options(host_input=True)
    yield "--strict", Options(strict=True)
    yield "--maxpool average", Options(maxpool="average")
    yield from ((f"--partitioner {name}", Options(partitioner=name)) for name in PARTITIONERS)
    yield from ((f"--placer {name}", Options(placer=name)) for name in PLACERS)


def pass_rows(backend: Backend, target: Target) -> tuple[PassRow, ...]:
    """Every pass of a target's pipelines, in pipeline order of first use."""
    found: dict[str, PassRow] = {}
    for used, options in _variants():
        try:
            steps = pipeline_of(backend, target, options).steps
        except NmcError as error:
            if error.exit_code is ExitCode.MISSING:
                raise  # broken, whatever the options are
            continue  # this family has no such choice
        for step in steps:
            found.setdefault(step.name, _row(step, used))
    order = list(dict.fromkeys(row.stage for row in found.values()))
    return tuple(sorted(found.values(), key=lambda row: order.index(row.stage)))


def _row(step: Pass, used: str) -> PassRow:
    about = inspect.cleandoc(type(step).__doc__ or "")
    own = tuple(
        (f.name.replace("_", "-"), str(getattr(step, f.name)).lower(), str(f.type))
        for f in dataclasses.fields(cast("type", step))
    )
    return PassRow(
        step.name, step.stage, step.consumes.__name__, step.produces.__name__, used, own, about.split("\n")[0], about
    )
