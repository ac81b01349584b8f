"""``nmc eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmc.compiler.cli.artifacts import load_samples
from nmc.compiler.cli.paths import readable
from nmc.compiler.cli.progress import ProgressBar
from nmc.compiler.cli.rendering import count, seconds, shown
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

if TYPE_CHECKING:
    from nmc.runtime.evaluation import Evaluation


def command(
    context: typer.Context,
    artifact: Annotated[Path, typer.Argument(help="What `nmc compile` wrote.", show_default=False)],
    data: Annotated[str, typer.Option("--data", "-d", help=".npz with x and y, image folder, ...; D:N = first N.")],
    samples: Annotated[int | None, typer.Option("--samples", help="Take the first N.")] = None,
    gate: Annotated[
        float | None, typer.Option(help="Fail (exit 5) if more is lost: points of top-1, % of error.")
    ] = None,
    on: Annotated[str | None, typer.Option("--on", help="Judge a device too, e.g. lava (see `nmc doctor`).")] = None,
    workers: Annotated[int, typer.Option(help="Processes that share the samples.")] = 1,
    memory: Annotated[str | None, typer.Option(help="What the samples in flight may take: 500M, 2G.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of random data.")] = 0,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Accuracy by stage against ONNX Runtime."""
    session: Session = context.obj
    sink = DiagnosticSink()
    readable(sink, artifact, "artifact")
    if gate is not None and not gate >= 0:
        sink.error("bad-option", f"--gate takes a number of at least 0; got {gate}")
    if workers < 1:
        sink.error("bad-option", f"--workers takes a number of at least 1; got {workers}")
    budget = None if memory is None else _bytes(sink, memory)
    sink.raise_errors(ExitCode.USAGE)

    from nmc.runtime.artifact import Artifact
    from nmc.runtime.evaluation import evaluate
    from nmc.runtime.gate import check_gate

    loaded = Artifact.load(artifact)
    from nmc.compiler.plugins import find_device

    device = None if on in (None, "sim") else find_device(loaded, str(on))
    given = load_samples(session, loaded, data, seed=seed, limit=samples)
    with ProgressBar(session, len(given.x)) as progress:
        evaluation = evaluate(
            loaded,
            given,
            progress=progress,
            device=device,
            isolated=session.isolated,
            workers=workers,
            memory=budget,
        )
    session.result(evaluation.to_dict())
    if not quiet:
        session.show(*shown(evaluation))
        session.write(_closing(evaluation))
    lost = () if gate is None else check_gate(evaluation, gate)
    if lost:
        raise NmcError(lost, ExitCode.GATE)


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _bytes(sink: DiagnosticSink, text: str) -> int | None:
    """A number of bytes as --memory takes it."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if unit in _UNITS and number.isdecimal() and int(number) > 0:
        return int(number) * _UNITS[unit]
    sink.error("bad-option", f"--memory takes a number of bytes with K, M or G behind it; got '{text}'")
    return None


def _closing(evaluation: Evaluation) -> str:
    text = ""
    counters, samples = evaluation.counters, evaluation.samples
    if counters is not None:
        text += f"per inference: {count(counters.spikes / samples)} spikes, "
        text += f"{count(counters.synops / samples)} synaptic operations\n"
    rate = f" ({count(samples / evaluation.seconds)} samples/s)" if evaluation.seconds > 0 else ""
    return f"{text}{samples:,} samples through the mapped program in {seconds(evaluation.seconds)}{rate}\n"
