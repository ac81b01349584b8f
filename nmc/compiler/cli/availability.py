"""What a later release will bring: refused by name today, never ignored."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from nmc.ir.diagnostic import DiagnosticSink, ExitCode

LATER_COMMANDS = ("compare", "export")

LATER_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "eval": ("--cluster",),
    "explore": ("--cluster",),
    "report": ("--png-dir",),
}

LATER_VALUES: Mapping[str, tuple[str, ...]] = {
    "--optimise": ("temperature", "lifetime", "throughput"),
    "--trace": ("noc",),
    "--objective": ("lifetime",),
}


def refuse_later(arguments: Sequence[str]) -> None:
    """Refuse commands and options that are not available yet, all at once.

    Raises:
        NmcError: there are some (exit 2).
    """
    sink = DiagnosticSink()
    command = next((a for a in arguments if not a.startswith("-")), "")
    if command in LATER_COMMANDS:
        sink.error("not-available-yet", f"the command '{command}' is not available yet")
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in LATER_OPTIONS.get(command, ()):
            sink.error("not-available-yet", f"the option {option} of `nmc {command}` is not available yet")
    sink.raise_errors(ExitCode.USAGE)


def choose(sink: DiagnosticSink, option: str, value: str, known: Sequence[str]) -> None:
    """Check a value against the known ones; those of a later release are named as such."""
    if value in known:
        return
    if value in LATER_VALUES.get(option, ()) or (option == "--optimise" and "=" in value):
        sink.error("not-available-yet", f"{option} {value} is not available yet", help=f"today: {', '.join(known)}")
        return
    close = difflib.get_close_matches(value, list(known), 1)
    near = f"did you mean '{close[0]}'? " if close else ""
    sink.error("bad-option", f"{option} takes {', '.join(known)}; got '{value}'", help=near.strip())
