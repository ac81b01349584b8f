"""``nmc``: parses, runs one command, and turns every failure into diagnostics and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from nmc import __version__
from nmc.compiler.cli import (
    check,
    compile,
    demo,
    doctor,
    evaluate,
    explain,
    explore,
    inspect,
    report,
    run_device,
    tables,
    verify,
)
from nmc.compiler.cli.availability import refuse_later
from nmc.compiler.cli.crash import write_reproducer
from nmc.compiler.cli.session import Session
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError

USAGE_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError" and issubclass(kind, Exception)
)
"""click's class of wrong command lines, wherever this typer keeps it."""

EPILOG = "Exit codes: 0 ok, 2 usage, 3 model, 4 does not fit, 5 gate, 6 missing, 70 internal, 130 interrupted."


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nmc {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compiles trained neural networks to neuromorphic chips."""


def build() -> typer.Typer:
    """The commands, in the order of the help."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback(epilog=EPILOG)(_root)
    app.command("compile")(compile.command)
    app.command("check")(check.command)
    app.command("inspect")(inspect.command)
    app.command("run")(run_device.command)
    app.command("eval")(evaluate.command)
    app.command("verify")(verify.command)
    app.command("report")(report.command)
    app.command("explore")(explore.command)
    app.command("targets")(tables.targets)
    app.command("passes")(tables.passes)
    app.command("ops")(tables.ops)
    app.command("explain")(explain.command)
    app.command("doctor")(doctor.command)
    app.command("demo")(demo.command)
    return app


def run(arguments: Sequence[str], *, isolated: bool = True) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name.
        isolated: read models in a child process with limits.

    Returns:
        the exit code; every failure has been reported.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # names of files may hold what the terminal's encoding cannot show
            reconfigure(errors="backslashreplace")
    command = next((a for a in arguments if not a.startswith("-")), "")
    asks_help = not command or not {"-h", "--help"}.isdisjoint(arguments)
    session = Session(
        command=command,
        json="--json" in arguments and not asks_help,
        debug="--debug" in arguments,
        quiet="--quiet" in arguments or "-q" in arguments,
        isolated=isolated,
    )
    try:
        try:
            _execute(session, arguments)
        except KeyboardInterrupt:
            session.fail(NmcError.single("interrupted", "interrupted", ExitCode.INTERRUPTED))
        except Exception as error:
            if isinstance(error, BrokenPipeError):
                raise
            _internal(session, arguments, error)
        code = session.close()
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `nmc ... | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(session.code)


def _execute(session: Session, arguments: Sequence[str]) -> None:
    try:
        refuse_later(arguments)
        app = build()
        status = app(list(arguments) or ["--help"], prog_name="nmc", standalone_mode=False, obj=session)
        if status == ExitCode.INTERRUPTED:  # some typers turn Ctrl-C into an exit code
            raise KeyboardInterrupt
        if isinstance(status, int) and not isinstance(status, bool) and status:
            session.code = ExitCode(status)
    except NmcError as error:
        session.fail(error)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except USAGE_ERRORS as error:
        shown = getattr(error, "format_message", error.__str__)()
        named = getattr(getattr(error, "ctx", None), "parent", None) is not None
        hint = f"nmc {session.command} --help" if named else "nmc --help"
        session.fail(NmcError.single("usage", shown.rstrip("."), ExitCode.USAGE, help=f"see `{hint}`"))
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = error.strerror or type(error).__name__
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        session.fail(
            NmcError.single(
                "path-not-usable",
                f"{place}{reason}",
                ExitCode.USAGE,
                help="check that the path exists and that you may read or write there",
            )
        )


def _internal(session: Session, arguments: Sequence[str], error: Exception) -> None:
    """Report a defect of nmc itself."""
    if session.debug:
        traceback.print_exception(error)
    path = write_reproducer(arguments, error)
    session.code = ExitCode.INTERNAL
    session.report(
        [
            Diagnostic(
                "internal-error",
                f"nmc failed inside: {type(error).__name__}: {error}",
                help=f"this is a defect of nmc; send {path} (command, traceback, versions, model) with your report",
            )
        ]
    )
    session.result({"reproducer": str(path)})


def main() -> None:
    """The console script."""
    # Matrix products run in threads of ours: threads of the library's own in each would only wait for cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run(sys.argv[1:]))
