"""What is checked of a backend and its targets, before any network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields

from nmc.backends.api import API_VERSION, Options
from nmc.compiler.plugins import PROTOCOL
from nmc.hardware.target import Target
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import HOST, Routed
from nmc.passes.check.pins import pin_diagnostics
from nmc.passes.pins import Pins
from nmc.testing.conformance.bench import Bench, Case, cases, neuron_cases, offers_graded, one_core, shrunk
from nmc.testing.conformance.checks import require
from nmc.testing.conformance.digest import digest_elsewhere, payload_digest


def interface(bench: Bench) -> None:
    """The class offers what `nmc.backends.api.Backend` asks for, in this version of the interface."""
    backend = bench.make()
    lacking = [name for name in PROTOCOL if not hasattr(backend, name)]
    require(not lacking, f"the backend lacks {', '.join(lacking)}")
    require(backend.api_version == API_VERSION, f"api_version is {backend.api_version}, this nmc has {API_VERSION}")
    targets = backend.targets()
    require(bool(targets), "the backend has no targets")
    for name, target in targets.items():
        require(target.name == name, f"target '{target.name}' is listed as '{name}'")
        require(target.family == backend.name, f"target '{name}' is of family '{target.family}', not '{backend.name}'")
    default = getattr(backend, "default_target", None)
    require(default is None or default in targets, f"default_target '{default}' is no target")
    for name, device in backend.devices().items():
        require(device.name == name, f"device '{device.name}' is listed as '{name}'")
        require(name != "sim", "'sim' is the simulator's name")
        missing = device.missing()
        require(missing is None or bool(missing.strip()), f"device '{name}' is missing without a reason")


def sources(bench: Bench, name: str) -> None:
    """The target comes from a target file, and every number that it changes has a source."""
    target = bench.target(name)
    require(len(target.hash) == 64, f"{name} was not loaded from a target file (nmc.hardware.target_file.load_target)")
    unsourced = [key for key in _numbers(target) if not target.sources.get(key, "").strip()]
    require(not unsourced, f"without a source: {', '.join(unsourced)}")
    nameless = [profile.name for profile in target.energy if not profile.source.strip()]
    require(not nameless, f"energy profiles without a source: {', '.join(nameless)}")


def _numbers(target: Target) -> list[str]:
    """The keys of the file whose numbers are not the defaults of the dataclass."""
    found = [] if target.host_op_pj is None else ["host.op_pj"]
    for section in ("grid", "core", "neurons", "messages", "weights"):
        values = getattr(target, section)
        for field in fields(values):
            value = getattr(values, field.name)
            number = isinstance(value, int) and not isinstance(value, bool)
            numbers = isinstance(value, tuple) and bool(value) and all(isinstance(item, int) for item in value)
            default = field.default
            if field.name == "chips_max" and value == target.grid.chips:
                continue  # left out of a file, it is the number of chips
            if (number or numbers) and (default is MISSING or value != default):
                found.append(f"{section}.{field.name}")
    return found


def pipeline(bench: Bench, name: str) -> None:
    """The pipeline leads from a graph as read to a routed mapping, and says the same text each time."""
    backend, target = bench.make(), bench.target(name)
    codings = ["rate"] * ("lif" in target.neurons.models) + ["graded"] * offers_graded(target)
    require(bool(codings), f"{name} offers neither rate nor graded coding")
    for coding in codings:
        built = backend.pipeline(target, Options(coding=coding))
        require(bool(built.steps), "the pipeline is empty")
        require(issubclass(LayerGraph, built.steps[0].consumes), f"{built.steps[0].name} does not take a LayerGraph")
        require(issubclass(built.steps[-1].produces, Routed), f"{built.steps[-1].name} does not make a Routed")
        again = backend.pipeline(target, Options(coding=coding))
        require(again.text == built.text, "built twice, the pipeline says another text")


def refusals(bench: Bench, name: str) -> None:
    """Options that the target does not have are refused: exit 2, with a reason."""
    backend, target = bench.make(), bench.target(name)
    _refused(lambda: backend.pipeline(target, Options(coding="no-such-coding")), "an unknown coding", ExitCode.USAGE)
    unknown = Options(settings={"no-such-pass.option": "1"})
    _refused(lambda: backend.pipeline(target, unknown), "a setting of an unknown pass", ExitCode.USAGE)
    if not offers_graded(target):
        case = Case(name, "dense", "graded")
        _refused(lambda: bench.compile(case), "graded coding", ExitCode.USAGE)


def pins(bench: Bench, name: str) -> None:
    """A layer that the user pins lies where it is pinned, or the pin is refused with a reason."""
    grid = bench.target(name).grid
    cores = grid.tiles_x * grid.tiles_y * grid.cores_per_tile
    for case in cases({name: bench.target(name)}):
        made = bench.attempt(case)
        if isinstance(made, NmcError):
            continue
        hosted = {piece.population for c in made.routed.clusters if c.id == HOST for piece in c.slices}
        layer = next(p.name for p in made.network.populations if p.name not in hosted)
        # The first layer, which no placer of ours puts there by itself, on the last cores.
        wanted = {layer: f"core:{cores // 2}-{cores - 1}"}
        try:
            routed = bench.compile(case, pins=wanted).routed
        except NmcError as error:
            proper = error.exit_code in (ExitCode.USAGE, ExitCode.DOES_NOT_FIT)
            require(proper, f"a pin ends with exit {int(error.exit_code)}: {error}")
            return
        found = pin_diagnostics(routed, Pins.of(wanted), grid)
        require(not found, "; ".join(finding.message for finding in found))
        return


def does_not_fit(bench: Bench, name: str) -> None:
    """A network that does not fit ends with exit 4; a layer that no core can hold is named."""
    case = next(case for case in cases({name: bench.target(name)}) if case.network == "residual")
    target = bench.target(name)
    error = _refused(
        lambda: bench.compile(case, shrunk(target, in_axons=4)),
        "a neuron that hears more than a core can",
        ExitCode.DOES_NOT_FIT,
    )
    require(any(d.origin is not None for d in error.diagnostics), f"no layer is named: {error}")
    tiny = one_core(shrunk(target, neurons=max(1, min(16, target.core.neurons))))
    _refused(lambda: bench.compile(case, tiny), "a network for many cores on one", ExitCode.DOES_NOT_FIT)


def _refused(act: Callable[[], object], what: str, code: ExitCode) -> NmcError:
    try:
        act()
    except NmcError as error:
        require(error.exit_code is code, f"{what} ends with exit {int(error.exit_code)}, not {int(code)}: {error}")
        require(all(d.slug and d.message for d in error.diagnostics), f"{what} is refused without a reason")
        return error
    raise AssertionError(f"{what} was accepted")


def something_runs(bench: Bench, name: str) -> None:
    """At least half of the networks compile; the others are refused with a reason."""
    target = bench.target(name)
    chosen = list(cases({name: target}))
    refused = {str(case): made for case in chosen if isinstance(made := bench.attempt(case), NmcError)}
    text = "; ".join(f"{case}: {error}" for case, error in refused.items())
    cores = [made.routed.cores_used for case in chosen if not isinstance(made := bench.attempt(case), NmcError)]
    require(target.grid.cores_per_chip < 4 or max(cores, default=0) > 1, "every network lies on a single core")
    require(2 * len(refused) <= len(chosen), f"{len(refused)} of {len(chosen)} networks are refused: {text}")
    for case, error in refused.items():
        proper = error.exit_code in (ExitCode.USAGE, ExitCode.MODEL, ExitCode.DOES_NOT_FIT)
        require(proper, f"{case} ends with exit {int(error.exit_code)}: {error}")


def named_neurons_run(bench: Bench, name: str) -> None:
    """Every neuron that the target names, and loops where it has spikes, can be mapped and emitted."""
    for case in neuron_cases({name: bench.target(name)}):
        made = bench.attempt(case)
        require(not isinstance(made, NmcError), f"{case} is refused: {made}")


def same_program_elsewhere(bench: Bench, name: str) -> None:
    """Another process, folder and hash seed give the same program."""
    made = next(
        ((case, a) for case in cases({name: bench.target(name)}) if not isinstance(a := bench.attempt(case), NmcError)),
        None,
    )
    if made is None:
        raise AssertionError("no network compiles")
    case, artifact = made
    kind = type(bench.make())
    found = digest_elsewhere(kind, str(case), bench.timesteps, 4242)
    require(found == payload_digest(artifact.payload), f"the program of {case} differs elsewhere: {found[-2000:]}")


FAMILY = (interface,)
TARGET = (sources, pipeline, refusals, pins, does_not_fit, something_runs, named_neurons_run, same_program_elsewhere)
