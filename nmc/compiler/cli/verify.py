"""``nmc verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmc.compiler.cli.artifacts import load_samples
from nmc.compiler.cli.paths import readable
from nmc.compiler.cli.rendering import table
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

if TYPE_CHECKING:
    from nmc.runtime.verification import Verification


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
    from nmc.compiler.plugins import find_device

    device = None if on in (None, "sim") else find_device(loaded, str(on))
    given = load_samples(session, loaded, data or f"random:{samples}", seed=seed, limit=samples)
    result = verify(loaded, given.x, device=device, isolated=session.isolated)
    session.result(result.to_dict())
    if not quiet:
        _show(session, result)
    errors = [d for d in result.diagnostics if d.severity == "error"]
    session.report(d for d in result.diagnostics if d.severity == "warning" or (d.severity == "note" and session.json))
    if errors:
        raise NmcError(errors, ExitCode.GATE)


def _show(session: Session, result: Verification) -> None:
    from nmc.runtime.attribution import REMEDIES, worst

    session.show(*(table(made.columns, made.rows, title=made.title) for made in result.layer_tables()))
    most = worst(result.attribution)
    if most is not None:
        session.write(
            f"'{most.name}' adds most to the error, {100 * most.own:.1f} % of its variance, mainly {most.main_part}: "
            f"{REMEDIES[most.main_part]}\n"
        )
    exact = result.bit_exact
    if exact is not None:
        verdict = "bit for bit equal" if exact.spikes_equal and exact.potentials_equal else "DIFFERENT"
        spikes = "equal" if exact.spikes_equal else "different"
        potentials = "equal" if exact.potentials_equal else "different"
        session.write(
            f"simulator and {exact.device}: {verdict} over {exact.steps:,} steps (spikes {spikes}, "
            f"potentials {potentials})\n"
        )
