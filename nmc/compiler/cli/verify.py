"""``nmc verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nmc.compiler.cli.artifacts import find_device, load_samples
from nmc.compiler.cli.paths import readable
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode


def command(
    context: typer.Context,
    artifact: Annotated[Path, typer.Argument(help="What `nmc compile` wrote.", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", "-d", help="Default: seeded inputs in range.")] = None,
    on: Annotated[str | None, typer.Option("--on", help="Compare bit by bit with this device.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="Take the first N.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of random data.")] = 0,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Layer by layer against ONNX Runtime."""
    session: Session = context.obj
    sink = DiagnosticSink()
    readable(sink, artifact, "artifact")
    sink.raise_errors(ExitCode.USAGE)

    from nmc.runtime.artifact import Artifact
    from nmc.runtime.verification import verify

    loaded = Artifact.load(artifact)
    device = None if on in (None, "sim") else find_device(loaded, str(on))
    given = load_samples(session, loaded, data or f"random:{samples}", seed=seed, limit=samples)
    result = verify(loaded, given.x, device=device)
    session.result(result.to_dict())
