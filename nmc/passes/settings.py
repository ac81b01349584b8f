"""``--set pass.option=value``: options of passes by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from enum import Enum
from typing import cast

from nmc.ir.diagnostic import DiagnosticSink, ExitCode
from nmc.passes.base import Pass


def _value(text: str, default: object) -> object:
    if isinstance(default, bool):
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
    if isinstance(default, Enum):
        return type(default)(text)
    if isinstance(default, int):
        return int(text)
    if isinstance(default, float):
        return float(text)
    if default is None:
        return None if text.lower() == "none" else int(text)
    if isinstance(default, str):
        return text
    raise ValueError(f"no text form of a {type(default).__name__}")


def apply_settings(steps: tuple[Pass, ...], settings: Mapping[str, str]) -> tuple[Pass, ...]:
    """The passes with options replaced; a setting applies to every pass of its name.

    Args:
        steps: of a pipeline.
        settings: ``{"pass.option": text}``.

    Raises:
        NmcError: unknown passes or options, or values of the wrong type, all at once.
    """
    sink = DiagnosticSink()
    names = {step.name for step in steps}
    for key, text in settings.items():
        pass_name, _, option = key.partition(".")
        if pass_name not in names:
            near = difflib.get_close_matches(pass_name, names, 1)
            hint = f"did you mean {near[0]}?" if near else "nmc passes lists them"
            sink.error("option-unknown", f"no pass '{pass_name}' in this pipeline (--set {key}={text})", help=hint)
            continue
        changed = []
        for step in steps:
            changed.append(_with_option(step, option, key, text, sink) if step.name == pass_name else step)
        steps = tuple(changed)
    sink.raise_errors(ExitCode.USAGE)
    return steps


def _with_option(step: Pass, option: str, key: str, text: str, sink: DiagnosticSink) -> Pass:
    instance = cast("type", step)
    options = {f.name: f for f in dataclasses.fields(instance)}
    field = options.get(option.replace("-", "_"))
    if field is None:
        known = ", ".join(name.replace("_", "-") for name in options) or "none"
        sink.error("option-unknown", f"{step.name} has no option '{option}'", help=f"its options: {known}")
        return step
    try:
        value = _value(text, getattr(step, field.name))
    except (ValueError, KeyError):
        sink.error("option-invalid", f"--set {key}={text}: '{text}' is not a {field.type}")
        return step
    return cast(Pass, dataclasses.replace(instance, **{field.name: value}))  # type: ignore[type-var]
