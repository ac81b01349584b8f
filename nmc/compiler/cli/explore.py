"""``nmc explore``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmc.compiler.cli.availability import choose
from nmc.compiler.cli.compile import Model, Preprocess, Seed
from nmc.compiler.cli.paths import readable
from nmc.compiler.cli.progress import ProgressBar
from nmc.compiler.cli.rendering import printable, shown
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode

if TYPE_CHECKING:
    from nmc.compiler.explore.result import Exploration

OBJECTIVES = ("accuracy", "energy", "latency")
HELD_OUT = 0.2
"""Share of the calibration samples that choices are measured on."""

Option = typer.Option


def command(
    context: typer.Context,
    model: Model,
    target: Annotated[str, Option("--target", "-t", help="Chip or target file; several: a,b.")],
    calib: Annotated[str, Option(help="Samples: 4 of 5 are calibrated on, the rest measured on.", show_default=False)],
    preprocess: Preprocess = None,
    max_loss: Annotated[float, Option("--max-loss", help="Points that the choice to take may lose (estimate).")] = 1.0,
    timesteps: Annotated[int, Option("--timesteps", "-T", help="The most input steps.")] = 32,
    vary: Annotated[
        list[str] | None,
        Option("--vary", metavar="NAME=A|B", help="Instead of all that the targets offer; repeatable."),
    ] = None,
    objective: Annotated[
        str, Option(help="What to minimise, of accuracy, energy, latency.")
    ] = "accuracy,energy,latency",
    trials: Annotated[int, Option(help="Choices to try, those of an earlier run included.")] = 40,
    workers: Annotated[int | None, Option(help="Processes; default: one for each processor.")] = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder of the results; default: the model's stem + -explore, here.")
    ] = None,
    seed: Seed = 0,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Search coding, timesteps and precision for the best trade of accuracy, energy and latency."""
    session: Session = context.obj
    sink = DiagnosticSink()
    folder = out if out is not None else Path(f"{model.stem}-explore")
    readable(sink, model, "model")
    objectives = tuple(dict.fromkeys(name.strip() for name in objective.split(",")))
    for name in objectives:
        choose(sink, "--objective", name, OBJECTIVES)
    for name, value, low, high in (("trials", trials, 1, 10_000), ("timesteps", timesteps, 1, 4096)):
        if not low <= value <= high:
            sink.error("bad-option", f"--{name} takes a number from {low} to {high}; got {value}")
    if workers is not None and not 1 <= workers <= 256:
        sink.error("bad-option", f"--workers takes a number from 1 to 256; got {workers}")
    if not max_loss >= 0:
        sink.error("bad-option", f"--max-loss takes a number of at least 0; got {max_loss}")
    if folder.exists() and not folder.is_dir():
        sink.error("path-not-writable", f"{folder} is not a folder", help="give the name of a folder with -o")
    sink.raise_errors(ExitCode.USAGE)

    from nmc.backends.api import Options
    from nmc.compiler.driver import CompileRequest
    from nmc.compiler.explore.explore import Plan, explore

    request = CompileRequest(
        target, Options(timesteps=timesteps), calib, preprocess, seed=seed, isolated=session.isolated, held_out=HELD_OUT
    )
    plan = Plan(tuple(vary or ()), objectives, max_loss, trials, workers or os.cpu_count() or 1, folder)
    with ProgressBar(session) as progress:
        found = explore(model, request, plan, progress)
    session.result({**found.to_dict(), "folder": folder})
    if not quiet:
        _show(session, found, model, folder)


def _show(session: Session, found: Exploration, model: Path, folder: Path) -> None:
    session.show(*shown(found))
    chosen = found.chosen
    if chosen is None:
        session.write(
            f"none loses at most {found.max_loss:g} points: allow more steps (-T) or more loss (--max-loss)\n"
        )
        return
    where = printable(folder)
    session.write(
        f"taken: {chosen.choice}\nwrote {where}/nmc.toml, {where}/trials.json, {where}/pareto.svg; next:\n"
        f"  nmc compile {printable(model)} --config {where}/nmc.toml\n"
    )
