"""One invocation of the command line: where its result, its diagnostics and its exit code go.

stdout takes the result (tables, or one JSON document), stderr takes diagnostics and progress.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from nmc.compiler.cli.rendering import diagnostic_text, explain_hint
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SCHEMA = 1
"""Version of the ``--json`` documents."""

PIPE_WIDTH = 160
"""Columns of tables that do not go to a terminal: nothing is cut that a script may read."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]


@dataclass
class Session:
    """The state of one invocation.

    Attributes:
        command: the verb; empty where none was given.
        json: whether the result is one JSON document.
        debug: whether internal errors show their traceback.
        quiet: whether progress and summaries are left out.
        isolated: whether models are read in a child process with limits.
        diagnostics: everything reported so far.
        part: the command's own keys of the JSON document.
        code: exit code.
    """

    command: str
    json: bool = False
    debug: bool = False
    quiet: bool = False
    isolated: bool = True
    diagnostics: list[Diagnostic] = field(default_factory=list)
    part: dict[str, object] = field(default_factory=dict)
    code: ExitCode = ExitCode.OK

    @cached_property
    def out(self) -> Console:
        """The console of the result."""
        return self._console(sys.stdout.isatty(), stderr=False)

    @cached_property
    def err(self) -> Console:
        """The console of diagnostics and progress."""
        return self._console(sys.stderr.isatty(), stderr=True)

    def _console(self, terminal: bool, *, stderr: bool) -> Console:
        from rich.console import Console

        width = None if terminal else PIPE_WIDTH
        return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)

    def show(self, *renderables: RenderableType) -> None:
        """Print a part of the result for the eye; nothing with ``--json``."""
        if not self.json:
            for renderable in renderables:
                self.out.print(renderable)

    def write(self, text: str) -> None:
        """Print a text of the result as it is; nothing with ``--json``."""
        if not self.json:
            sys.stdout.write(text)

    def report(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Record diagnostics; without ``--json`` they are printed on stderr."""
        for diagnostic in diagnostics:
            self.diagnostics.append(diagnostic)
            if not self.json:
                self.err.print(diagnostic_text(diagnostic), soft_wrap=True)

    def fail(self, error: NmcError) -> None:
        """Record a failure: its diagnostics and its exit code."""
        self.report(error.diagnostics)
        self.code = error.exit_code
        hint = explain_hint(error.diagnostics)
        if hint and not self.json:
            self.err.print(hint, soft_wrap=True)

    def result(self, part: Mapping[str, object]) -> None:
        """Set the command's own keys of the JSON document."""
        self.part.update(part)

    def close(self) -> int:
        """Print the JSON document, if one was asked for, and give the exit code."""
        if self.json:
            document = {
                "schema": SCHEMA,
                "command": self.command,
                "ok": self.code == ExitCode.OK,
                "diagnostics": [d.to_dict() for d in self.diagnostics],
                **self.part,
            }
            sys.stdout.write(json.dumps(plain(document), indent=2, allow_nan=False) + "\n")
        return int(self.code)


def plain(value: object) -> object:
    """A value as JSON knows it: no NumPy scalars, paths, tuples, NaN or infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
