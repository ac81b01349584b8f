"""``nmc explore``: from a model and calibration data to the options to take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest
from nmc.compiler.explore.result import Exploration
from nmc.compiler.explore.space import Choice, Space, codings_of, listed
from nmc.compiler.explore.study import Search, search
from nmc.compiler.explore.trial import Task
from nmc.compiler.plugins import find_target
from nmc.hardware.target import Target
from nmc.ir.diagnostic import ExitCode, NmcError

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """How to search.

    Attributes:
        vary: choices other than the target's, ``name=a|b`` each.
        objectives: what to minimise, of ``accuracy``, ``energy``, ``latency``.
        max_loss: points that the choice to take may lose.
        trials: choices to try.
        workers: processes.
        folder: gets the journal and the results; None: nothing is written.
    """

    vary: tuple[str, ...]
    objectives: tuple[str, ...]
    max_loss: float
    trials: int
    workers: int
    folder: Path | None


def explore(
    model: Path, request: CompileRequest, plan: Plan, progress: Progress = lambda text, fraction: None
) -> Exploration:
    """Search, and write ``trials.json``, ``pareto.svg`` and ``nmc.toml``.

    Args:
        model: ONNX file.
        request: what to compile; its options are what is asked for, choices change them. Its target may be
            several, ``a,b``; ``target=a|b`` of the plan goes before it.
        plan: how to search. A search whose journal lies in the folder goes on where it was.
        progress: called with (what is being done, fraction done).

    Raises:
        NmcError: wrong choices (2), or none of them can be compiled (3).
    """
    targets = _targets(request.target, plan.vary)
    request = replace(request, target=next(iter(targets)))
    spaces = _spaces(targets, request.options, plan.vary)
    pairs = list(zip(spaces, targets.values(), strict=True))
    asked = [_asked(space, target, request.options) for space, target in pairs]
    promising = [choice for space, target in pairs for choice in _promising(space, target)]
    journal = None
    if plan.folder is not None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        journal = plan.folder / "trials.journal"
    trials = search(
        Task(model, request),
        Search(
            spaces, (*asked, *promising), plan.objectives, plan.max_loss, plan.trials, request.seed,
            plan.workers, journal, _key(model, targets, request),
        ),
        progress,
    )  # fmt: skip
    names = ", ".join(target.name for target in targets.values())
    found = Exploration(names, trials, plan.objectives, plan.max_loss, request.held_out)
    if not found.measured:
        raise NmcError.single(
            "explore-nothing-compiles",
            f"none of {len(trials)} choices can be compiled; the first: {trials[0].reason}",
            ExitCode.MODEL,
            help=f"see `nmc check {model} --target {request.target}`",
        )
    if plan.folder is not None:
        _write(found, plan.folder, model, request)
    return found


def _targets(given: str, vary: Sequence[str]) -> dict[str, Target]:
    """The targets to search, by the name that the user gave them; none twice.

    Raises:
        NmcError: an unknown target, or a list with a hole (exit 2).
    """
    varied = [text.partition("=")[2] for text in vary if text.partition("=")[0] == "target"]
    names = listed((varied or [given])[-1])
    if not all(names):
        raise NmcError.single(
            "bad-option", f"a list of targets is a,b,c; got '{(varied or [given])[-1]}'", ExitCode.USAGE
        )
    found: dict[str, Target] = {}
    for name in names:
        target = find_target(name)[1]
        if target.hash not in [other.hash for other in found.values()]:
            found[name] = target
    return found


def _spaces(targets: Mapping[str, Target], options: Options, vary: Sequence[str]) -> tuple[Space, ...]:
    """What each target's choices may be."""
    whole = {name: Space.of(target, options) for name, target in targets.items()}
    varied = {name: space.varied(vary) for name, space in whole.items()}
    if len(targets) == 1:
        return tuple(varied.values())
    return tuple(space.named(name, whole[name]) for name, space in varied.items())


def _key(model: Path, targets: Mapping[str, Target], request: CompileRequest) -> str:
    """What trials depend on besides their choices."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    hashes = [target.hash for target in targets.values()]
    return json.dumps([digest, *hashes, str(request.calib), request.preprocess, request.held_out])


def _asked(space: Space, target: Target, options: Options) -> Choice:
    """What a compile without a search would do, as far as the space has it."""
    wanted = {
        "coding": options.coding,
        "timesteps": str(options.timesteps),
        "wait": options.wait,
        "reset": str(options.reset or target.neurons.resets[0]),
        "weight-bits": str(options.weight_bits or target.weights.bits),
        "threshold": "searched",
        "levels": str(options.levels or 4),
    }
    return _nearest(space, wanted)


def _nearest(space: Space, wanted: dict[str, str]) -> Choice:
    chosen = {name: wanted[name] if wanted.get(name) in values else values[0] for name, values in space.choices.items()}
    return Choice.of(space, chosen)


def _promising(space: Space, target: Target) -> tuple[Choice, ...]:
    """One per coding, with what serves it best as a rule: few steps where a message says much."""
    steps = {"rate": "16", "signed": "8", "burst": "4", "graded": "1", "sigma-delta": "4"}
    waits = {"rate": "auto"}
    return tuple(
        _nearest(
            space,
            {
                "coding": coding,
                "timesteps": steps[coding],
                "wait": waits.get(coding, "0"),
                "reset": str(target.neurons.resets[0]),
                "weight-bits": str(target.weights.bits),
                "threshold": "searched",
                "levels": "4",
            },
        )
        for coding in codings_of(target)
        if coding in space.choices["coding"]
    )


def _write(found: Exploration, folder: Path, model: Path, request: CompileRequest) -> None:
    (folder / "trials.json").write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
    (folder / "pareto.svg").write_text(found.svg() + "\n", encoding="utf-8")
    chosen = found.chosen
    if chosen is None:
        return
    given = {
        "target": chosen.choice.target or request.target,
        "calib": request.calib,
        "preprocess": request.preprocess,
        "seed": request.seed,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items() if isinstance(value, str | int)]
    note = f"# taken by nmc explore for {model.name}: at most {found.max_loss:g} points lost (estimate)\n"
    (folder / "nmc.toml").write_text(note + "\n".join(lines) + "\n" + chosen.choice.toml(), encoding="utf-8")
