"""``nmc run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmc.compiler.cli.artifacts import load_samples, save_arrays, trace_kinds
from nmc.compiler.cli.paths import readable, writable
from nmc.compiler.cli.progress import ProgressBar
from nmc.compiler.cli.rendering import printable, seconds, table
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

if TYPE_CHECKING:
    from nmc.ir.connectivity import Array
    from nmc.runtime.artifact import Artifact
    from nmc.runtime.session import RunResult

TRACE_VALUES = 1 << 28
"""Values of a trace (2 GiB) that one run may keep."""


def command(
    context: typer.Context,
    artifact: Annotated[Path, typer.Argument(help="What `nmc compile` wrote.", show_default=False)],
    data: Annotated[str, typer.Option("--data", "-d", help=".npz, .npy, image folder, random; D:N = first N.")],
    on: Annotated[str, typer.Option("--on", help="sim, or a device of the target (see `nmc doctor`).")] = "sim",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Outputs and traces, .npz.")] = None,
    trace: Annotated[str | None, typer.Option(help="spikes,potentials: kept in --out.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of random data.")] = 0,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run samples through a compiled network."""
    session: Session = context.obj
    sink = DiagnosticSink()
    readable(sink, artifact, "artifact")
    if out is not None:
        writable(sink, out, "output", (artifact, Path(data)))
    kinds = trace_kinds(sink, trace)
    if kinds and out is None:
        sink.error("bad-option", "--trace needs a file to keep the traces in", help="add --out traces.npz")
    sink.raise_errors(ExitCode.USAGE)

    from nmc.runtime import session as runtime
    from nmc.runtime.artifact import Artifact
    from nmc.runtime.simulator import Simulator

    loaded = Artifact.load(artifact)
    from nmc.compiler.plugins import find_device

    device = find_device(loaded, on)
    samples = load_samples(session, loaded, data, seed=seed)
    _check_trace(loaded, len(samples), kinds)
    with ProgressBar(session) as progress:
        watched = Simulator(progress) if isinstance(device, Simulator) else device
        result = runtime.run(loaded, samples.x, watched, trace=kinds, labels=samples)
    if out is not None:
        trace_of = result.execution.trace
        traces = {f"spikes/{name}": value for name, value in trace_of.messages.items()}
        traces |= {f"potentials/{name}": value for name, value in trace_of.potentials.items()}
        save_arrays(out, {**_outputs(result), **traces})
    session.result({**result.to_dict(), "outputs": out})
    if not quiet:
        _show(session, result, out)


def _outputs(result: RunResult) -> dict[str, Array]:
    """``outputs``, or ``outputs/<name>`` for each of several."""
    if len(result.values) == 1:
        return {"outputs": result.outputs}
    return {f"outputs/{name}": values for name, values in result.by_output.items()}


def _check_trace(artifact: Artifact, samples: int, kinds: frozenset[str]) -> None:
    values = samples * artifact.network.timesteps * sum(p.neurons for p in artifact.network.populations) * len(kinds)
    if values > TRACE_VALUES:
        raise NmcError.single(
            "trace-too-large",
            f"the traces would hold {values:,} values, at most {TRACE_VALUES:,}",
            ExitCode.USAGE,
            help=f"trace fewer samples: --data D:{max(1, samples * TRACE_VALUES // values)}",
        )


def _show(session: Session, result: RunResult, out: Path | None) -> None:
    from nmc.runtime.session import SHOWN
    from nmc.runtime.simulator import COUNTED

    samples = len(result.outputs)
    outputs = result.output_tables()
    session.show(*(table(part.columns, part.rows, title=part.title) for part in outputs))
    if samples > SHOWN:
        session.write(f"... and {samples - SHOWN:,} more samples\n")
    for verdict in result.verdicts():
        session.write(f"{printable(verdict)}\n")
    counted = result.tables()[len(outputs) :]
    session.show(*(table((part.title, "#count"), part.rows) for part in counted))
    session.write(f"{samples:,} samples on {result.device} in {seconds(result.seconds)}")
    if result.mean_steps is not None:
        session.write(f", stopped after {result.mean_steps:.1f} input steps on average")
        if result.execution.counters is None and result.device == "sim":
            session.write(f"; events are counted for up to {COUNTED} samples (--data D:{COUNTED})")
    session.write(f", outputs in {printable(out)}\n" if out is not None else "; --out FILE keeps the outputs\n")
