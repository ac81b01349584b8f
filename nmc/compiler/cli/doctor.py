"""``nmc doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from nmc.compiler.cli.rendering import printable, table
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import Diagnostic, ExitCode


def command(
    context: typer.Context,
    install: Annotated[str | None, typer.Option(help="Set a device up, e.g. lava.")] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What is missing here and how to get it."""
    from nmc.compiler.doctor import examine, install_device

    session: Session = context.obj
    if install is not None:
        made = install_device(install, lambda line: None if quiet else session.err.print(printable(line)))
        session.result({"installed": made})
        session.write(f"{made}\n")
        return
    rows = examine()
    session.result({"environment": [row.to_dict() for row in rows]})
    session.show(table(["what", "found", "status", "what to do"], [(r.name, r.found, r.status, r.help) for r in rows]))
    lacking = [row for row in rows if row.status == "missing" and row.required]
    session.report(
        Diagnostic("package-missing", f"{row.name} is needed: {row.found}", help=row.help) for row in lacking
    )
    if lacking:
        session.code = ExitCode.MISSING
