"""``nmc check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmc.compiler.cli.paths import readable
from nmc.compiler.cli.progress import ProgressBar
from nmc.compiler.cli.rendering import printable, table
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

if TYPE_CHECKING:
    from nmc.compiler.frontends.onnx import ModelCheck

CHECK_TIMESTEPS = 8
"""Cores do not depend on the number of steps; few are quick."""


def command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)],
    target: Annotated[str | None, typer.Option("--target", "-t", help="Does it fit this chip?")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="No approximated operators: they are errors.")] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Can it run? Every problem at once, no data."""
    session: Session = context.obj
    sink = DiagnosticSink()
    readable(sink, model, "model")
    sink.raise_errors(ExitCode.USAGE)
    if target is not None:
        from nmc.compiler.plugins import find_target

        find_target(target)  # a mistyped name is said before the model is read

    checked = _checked(session, model, strict=strict)
    session.result(checked.to_dict())
    if not quiet:
        rows = [(u.op, u.count, u.status, u.note) for u in checked.operators]
        session.show(table(["operator", "#nodes", "status", "note"], rows))
    if not checked.supported:
        session.fail(NmcError(checked.diagnostics, ExitCode.MODEL))
        return
    session.report(d for d in checked.diagnostics if d.severity != "note" or session.json)
    if target is None:
        hint = f"`nmc check {printable(model)} --target loihi` says whether it fits"
        session.write(f"{printable(model.name)} can be compiled; {hint}\n")
    else:
        _fits(session, model, target, quiet=quiet)


def _checked(session: Session, model: Path, *, strict: bool) -> ModelCheck:
    if session.isolated:
        from nmc.compiler.frontends.isolation import check_isolated

        return check_isolated(model, strict=strict)
    from nmc.compiler.frontends.onnx import check_model

    return check_model(model, strict=strict)


def _fits(session: Session, model: Path, target: str, *, quiet: bool) -> None:
    """What each layer needs, then the network cut into cores, with ranges from one seeded input.

    Ranges move thresholds, so that real calibration data may need a core more or less. The
    quickest partitioner answers first; only where it finds no room do the others search.

    Raises:
        NmcError: it does not fit (exit 4), or the target cannot do it (exit 3).
    """
    from nmc.backends.api import Options
    from nmc.compiler.driver import CompileRequest, compile_file
    from nmc.compiler.fitting import needs_of, placed_quickly
    from nmc.compiler.plugins import find_target
    from nmc.ir.network import Network

    backend, chip = find_target(target)
    options = Options(timesteps=CHECK_TIMESTEPS, effort="fast")
    request = CompileRequest(target, options, calib="random:1", stop_after="quantize", isolated=session.isolated)
    with ProgressBar(session) as progress:
        network = compile_file(model, request, progress).program
        if not isinstance(network, Network):
            raise TypeError(f"the quantize stage made a {type(network).__name__}")
        needs = needs_of(network, chip)
        session.result({"target": target, **needs.to_dict()})
    if not quiet:
        text = needs.table()
        session.show(table(text.columns, text.rows, title=text.title))
    with ProgressBar(session) as progress:
        progress("place", 0.0)
        program = placed_quickly(network, backend, chip)
    neurons = sum(cluster.neurons for cluster in program.clusters if cluster.id >= 0)
    session.result({"cores_used": program.cores_used, "neurons": neurons})
    session.write(
        f"{printable(model.name)} fits {printable(target)}: about {program.cores_used:,} cores (at least "
        f"{needs.cores:,}, because of {needs.limit.replace('_', ' ')}), {neurons:,} neurons; "
        f"compile it with `nmc compile {printable(model)} --target {target}`\n"
    )
