"""``--config nmc.toml``: options from a file, with the names that they have on the command line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

TABLES = ("settings", "pin")
"""Repeatable options of the form ``key=value``, which are tables in a file."""


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a file the defaults of a command; what the command line says wins.

    Keys are long option names without dashes (``timesteps = 16``) and the names of arguments;
    ``[set]`` holds ``stage.option = value`` and ``[pin]`` holds ``layer = "place"``. Paths are
    relative to the current folder.

    Raises:
        NmcError: the file cannot be read, is no TOML, or has unknown keys: all at once (exit 2).
    """
    if path is None:
        return None
    sink = DiagnosticSink()
    names = {key: parameter.name for parameter in context.command.params for key in _keys(parameter)}
    defaults: dict[str, Any] = {}
    for key, value in _read(path).items():
        name = names.get(key)
        if name is None:
            close = difflib.get_close_matches(key, list(names), 1)
            hint = f"did you mean '{close[0]}'?" if close else f"keys: {', '.join(sorted(names))}"
            sink.error("config-unknown-key", f"{path}: no option is called '{key}'", help=hint)
        elif name in TABLES and isinstance(value, dict):
            defaults[name] = [f"{option}={text}" for option, text in _flat(value)]
        elif isinstance(value, dict | list):
            sink.error("config-value", f"{path}: '{key}' takes one value, not a {type(value).__name__}")
        else:
            defaults[name] = value
    sink.raise_errors(ExitCode.USAGE)
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _keys(parameter: Any) -> Iterator[str]:
    """The keys by which a file may name a parameter."""
    if parameter.name in ("config", "json", "help"):
        return
    longs = [option.removeprefix("--") for option in parameter.opts if option.startswith("--")]
    yield from longs or [parameter.name]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = f"is not TOML: {error}"
    raise NmcError.single("config-unreadable", f"configuration file {path} {reason}", ExitCode.USAGE)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value).lower() if isinstance(value, bool) else value
