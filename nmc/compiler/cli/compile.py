"""``nmc compile``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmc.compiler.cli.availability import choose
from nmc.compiler.cli.config import load_config
from nmc.compiler.cli.paths import readable, writable
from nmc.compiler.cli.progress import ProgressBar
from nmc.compiler.cli.session import DebugOption, JsonOption, QuietOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.passes.pins import Pins

if TYPE_CHECKING:
    from nmc.compiler.driver import CompileRequest

CODINGS = ("rate", "signed", "burst", "graded", "sigma-delta", "auto")
MAX_LOSS = 1.0
"""Points that `--coding auto` may lose, unless the user says."""
MAX_CHANGED = 0.1
"""Per cent of the answers that `--stop margin` may change, unless the user says."""
STAGES = ("simplify", "convert", "align", "quantize", "partition", "place", "route", "check")
CHOICES = {
    "coding": CODINGS,
    "reset": ("subtract", "zero"),
    "optimise": ("energy", "traffic", "latency", "cores"),
    "effort": ("fast", "normal", "high"),
    "verify": ("structure", "full"),
    "maxpool": ("exact", "average"),
    "wait": ("0", "1", "auto"),
    "stop": ("never", "margin"),
    "stop_after": STAGES,
}
"""Words that an option takes, by parameter."""
RANGES = {
    "timesteps": (1, 4096),
    "levels": (2, 127),
    "weight_bits": (2, 16),
    "chips": (1, 1 << 20),
    "seed": (0, (1 << 63) - 1),
}
"""What the numbers mean at all; a target may allow less and says so."""

Option = typer.Option
Model = Annotated[Path, typer.Argument(help="ONNX file.", show_default=False)]
Target = Annotated[str, Option("--target", "-t", help="Chip (see `nmc targets`) or target file.")]
Out = Annotated[Path | None, Option("--out", "-o", help="Artifact; default: the model's stem + .nmc, here.")]
Calib = Annotated[str | None, Option(help="Calibration data: .npz, .npy, image folder, random; D:N = first N.")]
RequireCalib = Annotated[bool, Option("--require-calib", help="No calibration data is an error.")]
Preprocess = Annotated[str | None, Option(help="scale=1/255,mean=a|b|c,std=a|b|c,layout=NHWC; stored.")]
Timesteps = Annotated[int, Option("--timesteps", "-T", help="Input steps of a rate code.")]
Coding = Annotated[
    str, Option(help="rate, signed, burst, graded, sigma-delta, or auto: the least energy within --max-loss.")
]
MaxLoss = Annotated[
    float | None, Option("--max-loss", help=f"Points that --coding auto may lose (estimate); default {MAX_LOSS:g}.")
]
Levels = Annotated[int | None, Option(help="Most spikes of a neuron in one step of burst coding; default 4.")]
ResetBy = Annotated[str | None, Option(help="subtract or zero; default: the target's own.")]
HostInput = Annotated[bool, Option("--host-input", help="Compute the first layer on the host.")]
WeightBits = Annotated[int | None, Option(help="Bits of a weight; default: the target's.")]
Maxpool = Annotated[str, Option(help="exact, or average: the mean over the same windows, without neurons.")]
Wait = Annotated[
    str, Option(help="Steps that layers wait before they may fire: 0, 1, or auto: 1 where it pays most (rate codes).")
]
Stop = Annotated[
    str, Option(help="never, or margin: each sample stops once its answer is clear (classes; rate, signed, burst).")
]
MaxChanged = Annotated[
    float | None,
    Option("--max-changed", help=f"% of the answers that --stop margin may change; default {MAX_CHANGED:g}."),
]
Strict = Annotated[bool, Option("--strict", help="No approximated operators: they are errors.")]
Partitioner = Annotated[str, Option(help="auto, overlap, tiles, greedy, kernighan-lin or metis.")]
Placer = Annotated[str, Option(help="auto, row-major, hill-climb, anneal or pso.")]
Optimise = Annotated[str, Option(help="What the mapping is chosen for: energy, traffic, latency or cores.")]
Effort = Annotated[
    str,
    Option(help="normal; fast: no fitting of rate codes to spikes; high: Mt-KaHyPar, too."),
]
Chips = Annotated[int | None, Option(help="Chips that may be used.")]
Pin = Annotated[
    list[str] | None,
    Option(
        "--pin",
        metavar="LAYER=PLACE",
        help="Keep a layer at chip:N, core:N or tile:X,Y, a range (core:8-15, tile:0,0-3,1), or several joined by +; "
        "repeatable.",
    ),
]
Seed = Annotated[int, Option(help="Seed of every random choice.")]
Settings = Annotated[list[str] | None, Option("--set", help="pass.option=value (see `nmc passes`); repeatable.")]
Config = Annotated[
    Path | None, Option("--config", callback=load_config, is_eager=True, help="TOML file of options; flags win.")
]
StopAfter = Annotated[str | None, Option(help=f"One of: {', '.join(STAGES)}. Nothing is written.")]
SaveTemps = Annotated[Path | None, Option(help="Folder for the program's text after each pass.")]
Verify = Annotated[str, Option(help="structure, or full: every layer against ONNX Runtime.")]
Verbose = Annotated[bool, Option("--verbose", "-v", help="Every pass of the pipeline, notes too.")]


def command(
    context: typer.Context,
    model: Model,
    target: Target,
    out: Out = None,
    calib: Calib = None,
    require_calib: RequireCalib = False,
    preprocess: Preprocess = None,
    timesteps: Timesteps = 32,
    coding: Coding = "rate",
    levels: Levels = None,
    max_loss: MaxLoss = None,
    reset: ResetBy = None,
    host_input: HostInput = False,
    weight_bits: WeightBits = None,
    maxpool: Maxpool = "exact",
    wait: Wait = "0",
    stop: Stop = "never",
    max_changed: MaxChanged = None,
    strict: Strict = False,
    partitioner: Partitioner = "auto",
    placer: Placer = "auto",
    optimise: Optimise = "energy",
    effort: Effort = "normal",
    chips: Chips = None,
    pin: Pin = None,
    seed: Seed = 0,
    settings: Settings = None,
    config: Config = None,
    stop_after: StopAfter = None,
    save_temps: SaveTemps = None,
    verify: Verify = "structure",
    verbose: Verbose = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compile an ONNX network for a chip."""
    sink = DiagnosticSink()
    path = out if out is not None else Path(model.stem + ".nmc")
    _check_paths(sink, model, None if stop_after else path, save_temps)
    _check_values(sink, context.params)
    pairs, pins = _pairs(sink, settings or []), _pins(sink, pin or [])
    sink.raise_errors(ExitCode.USAGE)

    from nmc.backends.api import Options
    from nmc.compiler.driver import CompileRequest
    from nmc.ir.neurons import Reset

    same = {field.name for field in fields(Options)} - {"reset", "settings", "pins", "max_changed"}
    chosen = {name: context.params[name] for name in same}
    chosen["max_changed"] = MAX_CHANGED if max_changed is None else max_changed
    options = Options(**chosen, reset=None if reset is None else Reset(reset), settings=pairs, pins=pins)
    request = CompileRequest(target, options, calib, preprocess, require_calib, seed, verify, stop_after, save_temps)
    if coding == "auto":
        request = _chosen(context.obj, model, request, MAX_LOSS if max_loss is None else max_loss)
    perform(context.obj, model, request, path, verbose=verbose)


def _chosen(session: Session, model: Path, request: CompileRequest, max_loss: float) -> CompileRequest:
    """The request with the coding that ``--coding auto`` takes; says why."""
    from nmc.compiler.explore.choose import choose_coding

    with ProgressBar(session) as progress:
        choice = choose_coding(model, replace(request, isolated=session.isolated), max_loss, progress)
    if not session.quiet:
        session.report([choice.diagnostic])
    return choice.request


def perform(
    session: Session, model: Path, request: CompileRequest, path: Path, *, verbose: bool = False, advise: bool = True
) -> None:
    """Compile, write the artifact, and say what came out.

    Args:
        session: of this invocation.
        model: ONNX file.
        request: what to make of it.
        path: of the artifact.
        verbose: name every pass.
        advise: say what to run next.
    """
    from nmc.compiler.cli.summary import compile_summary
    from nmc.compiler.driver import compile_file

    request = replace(request, isolated=session.isolated)
    with ProgressBar(session) as progress:
        compiled = compile_file(model, request, progress)
    session.report(d for d in compiled.diagnostics if d.severity != "note" or verbose or session.json)
    if compiled.artifact is None:
        session.result({"artifact": None, "stages": [{"name": n, "seconds": s} for n, s in compiled.seconds]})
        from nmc.ir.printer import format_program

        session.show(format_program(compiled.program))
        return
    compiled.artifact.save(path)
    session.result({**compiled.to_dict(), "artifact": path})
    if not session.quiet:
        session.show(*compile_summary(compiled, model, request.target, path, verbose=verbose, advise=advise))


def _check_paths(sink: DiagnosticSink, model: Path, out: Path | None, temps: Path | None) -> None:
    readable(sink, model, "model")
    if out is not None:
        writable(sink, out, "output", (model,))
    if temps is not None and temps.exists() and not temps.is_dir():
        sink.error("path-not-writable", f"--save-temps {temps} is not a folder", help="give the name of a folder")


def _check_values(sink: DiagnosticSink, given: Mapping[str, Any]) -> None:
    for name, known in CHOICES.items():
        if given[name] is not None:
            choose(sink, f"--{name.replace('_', '-')}", given[name], known)
    for name, (low, high) in RANGES.items():
        if given[name] is not None and not low <= given[name] <= high:
            option = f"--{name.replace('_', '-')}"
            sink.error("bad-option", f"{option} takes a number from {low} to {high}; got {given[name]}")
    if given["levels"] is not None and given["coding"] not in ("burst", "auto"):
        sink.error("bad-option", f"--levels is for --coding burst; the coding is {given['coding']}")
    if given["max_loss"] is not None and given["coding"] != "auto":
        sink.error("bad-option", f"--max-loss is for --coding auto; the coding is {given['coding']}")
    changed = given["max_changed"]
    if changed is not None and given["stop"] == "never":
        sink.error("bad-option", "--max-changed is for --stop margin; nothing stops early")
    elif changed is not None and not 0 <= changed <= 100:
        sink.error("bad-option", f"--max-changed takes a number from 0 to 100; got {changed}")
    if given["max_loss"] is not None and given["coding"] == "auto" and not given["max_loss"] >= 0:
        sink.error("bad-option", f"--max-loss takes a number of at least 0; got {given['max_loss']}")


def _pairs(sink: DiagnosticSink, settings: list[str]) -> dict[str, str]:
    """``pass.option=value`` texts as a table."""
    pairs: dict[str, str] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            sink.error("bad-option", f"--set takes pass.option=value; got '{text}'", help="`nmc passes` lists options")
        elif pairs.setdefault(key, value) != value:
            sink.error("bad-option", f"--set {key} is given twice: {pairs[key]} and {value}")
    return pairs


def _pins(sink: DiagnosticSink, texts: list[str]) -> dict[str, str]:
    """``LAYER=PLACE`` texts as a table; a layer's name may hold an equals sign, a place does not."""
    pins: dict[str, str] = {}
    for text in texts:
        layer, equals, place = text.rpartition("=")
        if not equals or not layer:
            sink.error("bad-option", f"--pin takes LAYER=PLACE; got '{text}'", help="like --pin conv1=chip:0")
        elif pins.setdefault(layer, place) != place:
            both = f"{pins[layer]} and {place}"
            sink.error("bad-option", f"--pin {layer} is given twice: {both}", help=f"join them: {pins[layer]}+{place}")
    try:
        Pins.of(pins)
    except NmcError as error:
        sink.items.extend(error.diagnostics)
    return pins
