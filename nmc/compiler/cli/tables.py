"""``nmc targets``, ``nmc passes``, ``nmc ops``: what this installation can do, from the code that decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmc.compiler.cli.rendering import table
from nmc.compiler.cli.session import DebugOption, JsonOption, Session
from nmc.ir.diagnostic import ExitCode, NmcError

if TYPE_CHECKING:
    from nmc.hardware.target import Target


def targets(
    context: typer.Context,
    action: Annotated[
        str | None, typer.Argument(help="show TARGET, or validate FILE.", metavar="[show|validate]")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="A target or a target file.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Chips, their limits and who says so."""
    session: Session = context.obj
    if action is None:
        _list_targets(session)
        return
    if action not in ("show", "validate") or name is None:
        raise NmcError.single(
            "usage",
            f"`nmc targets` takes nothing, `show TARGET` or `validate FILE`; got '{action}'",
            ExitCode.USAGE,
            help="see `nmc targets --help`",
        )
    from nmc.compiler.plugins import find_target, target_text

    if action == "show":
        _, target = find_target(name)
    else:
        from nmc.hardware.target_file import load_target

        target = load_target(Path(name), target_text)
    show_target(session, target)


def _list_targets(session: Session) -> None:
    from nmc.compiler.plugins import listing

    rows = listing()
    session.result(
        {
            "targets": [
                {
                    "name": row.target.name if row.target else None,
                    "family": row.family,
                    "origin": row.origin,
                    "cores": row.target.grid.cores_per_chip if row.target else None,
                    "neurons_per_core": row.target.core.neurons if row.target else None,
                    "description": row.target.description if row.target else None,
                    "broken": row.broken or None,
                }
                for row in rows
            ]
        }
    )
    cells = [
        (row.target.name, row.family, row.origin, f"{row.target.grid.cores_per_chip:,}", row.target.description)
        if row.target
        else ("(broken)", row.family, row.origin, "-", row.broken)
        for row in rows
    ]
    session.show(table(["target", "family", "from", "#cores", "what it is"], cells))


def target_rows(target: Target) -> list[dict[str, object]]:
    """Every number of a target with who says so: section, key, value, source."""
    from dataclasses import fields

    rows: list[dict[str, object]] = []
    for section in ("grid", "core", "neurons", "messages", "weights"):
        part = getattr(target, section)
        for field in fields(part):
            key = f"{section}.{field.name}"
            value = getattr(part, field.name)
            rows.append({"key": key, "value": _value(value), "source": target.sources.get(key, "")})
    rows.append({"key": "host.op_pj", "value": target.host_op_pj, "source": target.sources.get("host.op_pj", "")})
    for profile in target.energy:
        for field in fields(profile):
            if field.name not in ("name", "source"):
                key = f"energy.{profile.name}.{field.name}"
                rows.append({"key": key, "value": _value(getattr(profile, field.name)), "source": profile.source})
    return rows


def _shown(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "not limited or not published" if value is None else value


def _value(value: object) -> object:
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return str(value) if isinstance(value, str) else value


def show_target(session: Session, target: Target) -> None:
    """Print a target: every limit and cost with its source."""
    rows = target_rows(target)
    session.result(
        {
            "target": {
                "name": target.name,
                "family": target.family,
                "description": target.description,
                "hash": target.hash,
                "limits": rows,
            }
        }
    )
    session.write(f"{target.name} (family {target.family}): {target.description}\nhash {target.hash}\n")
    shown = [(r["key"], _shown(r["value"]), r["source"]) for r in rows]
    session.show(table(["key", "value", "source"], shown))


def passes(
    context: typer.Context,
    action: Annotated[str | None, typer.Argument(help="show PASS.", metavar="[show]")] = None,
    name: Annotated[str | None, typer.Argument(help="A pass.")] = None,
    target: Annotated[str, typer.Option("--target", "-t", help="Whose pipelines.")] = "loihi",
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Passes, their options and stages."""
    import difflib

    from nmc.compiler.cli.pass_table import pass_rows
    from nmc.compiler.plugins import find_target

    session: Session = context.obj
    if action is not None and (action != "show" or name is None):
        raise NmcError.single(
            "usage", f"`nmc passes` takes nothing or `show PASS`; got '{action}'", ExitCode.USAGE, help="nmc passes"
        )
    rows = pass_rows(*find_target(target))
    if name is not None:
        near = difflib.get_close_matches(name, [row.name for row in rows], 1)
        rows = tuple(row for row in rows if row.name == name)
        if not rows:
            hint = f"did you mean '{near[0]}'?" if near else "`nmc passes` lists them"
            raise NmcError.single("pass-unknown", f"no pass is called '{name}'", ExitCode.USAGE, help=hint)
    session.result({"passes": [row.to_dict() for row in rows]})
    if name is None:
        cells = [(row.stage, row.name, row.used, row.options_text, row.summary) for row in rows]
        session.show(table(["stage", "pass", "in pipelines with", "options", "what it does"], cells))
        return
    row = rows[0]
    session.write(f"{row.name}: stage {row.stage}, {row.consumes} -> {row.produces}, with {row.used}\n\n{row.about}\n")
    if row.options:
        session.show(table(["option", "default", "type"], row.options))


def ops(
    context: typer.Context,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table as docs/operators.md.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Which ONNX operators are supported."""
    from nmc.compiler.frontends.onnx import operator_page, operator_table

    session: Session = context.obj
    rows = operator_table()
    session.result({"operators": [{"op": r.op, "status": r.status, "note": r.note} for r in rows]})
    if markdown:
        session.write(operator_page())
        return
    session.show(table(["operator", "status", "note"], [(r.op, r.status, r.note) for r in rows]))
