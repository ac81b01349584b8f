"""Diagnostics are values: every stage collects them and fails once, with all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from nmc.ir.origin import Origin


class ExitCode(IntEnum):
    """Exit codes of the command line; `NmcError.exit_code` picks one."""

    OK = 0
    USAGE = 2
    MODEL = 3
    DOES_NOT_FIT = 4
    GATE = 5
    MISSING = 6
    INTERNAL = 70
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding, with the number and the limit in its message.

    Attributes:
        slug: stable name, e.g. ``core-fan-in``; ``nmc explain`` knows each.
        message: one terse sentence: what, the number, the limit.
        severity: ``error``, ``warning`` or ``note``.
        origin: the ONNX node that it is about, if any.
        help: what to do, one sentence; empty if there is nothing to say.
    """

    slug: str
    message: str
    severity: str = "error"
    origin: Origin | None = None
    help: str = ""

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        origin = None
        if self.origin is not None:
            origin = {"node": self.origin.node, "op": self.origin.op, "output": self.origin.output}
        return {
            "slug": self.slug,
            "severity": self.severity,
            "message": self.message,
            "origin": origin,
            "help": self.help,
        }


class NmcError(Exception):
    """A stage failed for reasons that the user can act on.

    Attributes:
        diagnostics: everything that was found, errors first in order of discovery.
        exit_code: what the command line ends with.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic], exit_code: ExitCode) -> None:
        self.diagnostics = tuple(diagnostics)
        self.exit_code = exit_code
        super().__init__("; ".join(d.message for d in self.diagnostics))

    @classmethod
    def single(
        cls,
        slug: str,
        message: str,
        exit_code: ExitCode,
        *,
        origin: Origin | None = None,
        help: str = "",
    ) -> NmcError:
        """An error with one diagnostic."""
        return cls([Diagnostic(slug, message, "error", origin, help)], exit_code)


@dataclass
class DiagnosticSink:
    """Collects diagnostics of a stage; `raise_errors` fails once with all of them."""

    items: list[Diagnostic] = field(default_factory=list)

    def error(self, slug: str, message: str, *, origin: Origin | None = None, help: str = "") -> None:
        """Record an error; the stage goes on to find the others."""
        self.items.append(Diagnostic(slug, message, "error", origin, help))

    def warning(self, slug: str, message: str, *, origin: Origin | None = None, help: str = "") -> None:
        """Record a warning."""
        self.items.append(Diagnostic(slug, message, "warning", origin, help))

    def note(self, slug: str, message: str, *, origin: Origin | None = None, help: str = "") -> None:
        """Record a note."""
        self.items.append(Diagnostic(slug, message, "note", origin, help))

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The errors so far."""
        return tuple(d for d in self.items if d.severity == "error")

    def raise_errors(self, exit_code: ExitCode) -> None:
        """Raise `NmcError` with all errors, if there are any."""
        if self.errors:
            raise NmcError(self.errors, exit_code)
