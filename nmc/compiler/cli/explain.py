"""``nmc explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from nmc.compiler.cli.session import DebugOption, JsonOption, Session


def command(
    context: typer.Context,
    slug: Annotated[str | None, typer.Argument(help="Name in brackets of a diagnostic; without: all of them.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The catalogue as docs/errors.md.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What an error means and how to fix it."""
    from nmc.compiler import explain
    from nmc.compiler.cli.rendering import table

    session: Session = context.obj
    entries = [explain.explain(slug)] if slug is not None else list(explain.catalogue().values())
    session.result({"explanations": [entry.to_dict() for entry in entries]})
    if markdown:
        session.write(explain.markdown())
    elif slug is None:
        session.show(table(["slug", "#exit", "what it means"], [(e.slug, e.exit or "-", e.means) for e in entries]))
    else:
        entry = entries[0]
        ends = f"exit code {entry.exit}" if entry.exit else "a warning or a note"
        session.write(f"{entry.slug} ({ends})\n\n{entry.means}\n\nWhat to do: {entry.fix}\n")
