"""``nmc report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmc.compiler.cli.artifacts import load_samples, save_text
from nmc.compiler.cli.paths import readable, writable
from nmc.compiler.cli.progress import ProgressBar
from nmc.compiler.cli.rendering import printable
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode


def command(
    context: typer.Context,
    artifact: Annotated[Path, typer.Argument(help="What `nmc compile` wrote.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file.")] = Path("report.html"),
    data: Annotated[str | None, typer.Option("--data", "-d", help="Adds accuracy by stage on these samples.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="Take the first N.")] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """One offline HTML file with tables and pictures."""
    session: Session = context.obj
    sink = DiagnosticSink()
    readable(sink, artifact, "artifact")
    writable(sink, out, "output", (artifact,))
    sink.raise_errors(ExitCode.USAGE)

    from nmc.runtime.artifact import Artifact
    from nmc.runtime.evaluation import evaluate
    from nmc.runtime.report import render_report

    loaded = Artifact.load(artifact)
    evaluation = None
    if data is not None:
        with ProgressBar(session) as progress:
            evaluation = evaluate(
                loaded, load_samples(session, loaded, data, limit=samples), progress=progress, isolated=session.isolated
            )
    save_text(out, render_report(loaded, evaluation))
    accuracy = {}
    if evaluation is not None:
        document = evaluation.to_dict()
        accuracy = {"accuracy": document["stages"], "accuracy_outputs": document["outputs"]}
    session.result({"report": out, **accuracy})
    session.write(f"wrote {printable(out)}\n")
