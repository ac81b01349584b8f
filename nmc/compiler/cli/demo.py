"""``nmc demo``."""

from __future__ import annotations

import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from nmc.compiler.cli.artifacts import load_samples, save_text
from nmc.compiler.cli.compile import perform
from nmc.compiler.cli.paths import writable
from nmc.compiler.cli.progress import ProgressBar
from nmc.compiler.cli.rendering import printable, shown
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode

MODEL, CALIBRATION, TEST = "digits_cnn.onnx", "digits_calib.npz", "digits.npz"


def command(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="The report.")] = Path("report.html"),
    target: Annotated[str, typer.Option("--target", "-t", help="Chip (see `nmc targets`).")] = "loihi",
    timesteps: Annotated[int, typer.Option("--timesteps", "-T", help="Input steps.", min=1)] = 32,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """A bundled network, compiled, run, reported."""
    session: Session = context.obj
    sink = DiagnosticSink()
    writable(sink, out, "report")
    sink.raise_errors(ExitCode.USAGE)

    from nmc.backends.api import Options
    from nmc.compiler.driver import CompileRequest
    from nmc.runtime.artifact import Artifact
    from nmc.runtime.evaluation import evaluate
    from nmc.runtime.report import render_report

    with as_file(files("nmc.demo")) as folder, tempfile.TemporaryDirectory(prefix="nmc-demo-") as temporary:
        path = Path(temporary) / "digits_cnn.nmc"
        calib = str(folder / CALIBRATION)
        request = CompileRequest(target, Options(timesteps=timesteps), calib=calib)
        perform(session, folder / MODEL, request, path, advise=False)
        artifact = Artifact.load(path)
        samples = load_samples(session, artifact, str(folder / TEST))
    with ProgressBar(session) as progress:
        evaluation = evaluate(artifact, samples, progress=progress)
    save_text(out, render_report(artifact, evaluation))
    session.part.pop("artifact", None)
    session.result({"evaluation": evaluation.to_dict(), "report": out})
    if not quiet:
        session.write("test digits, none of them seen in training or calibration:\n")
        session.show(*shown(evaluation)[:1])
        session.write(
            f"wrote {printable(out)}: open it in a browser. Next, with a network of your own:\n"
            f"  nmc compile model.onnx --target {printable(target)} --calib calib.npz\n"
        )
