"""``--coding auto``: the coding that takes the least energy and still holds the accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nmc.compiler.driver import CompileRequest
from nmc.compiler.explore.space import SPIKING, TIMESTEPS, Choice, Space, codings_of
from nmc.compiler.explore.trial import Measure, Task, Trial, run_trial
from nmc.compiler.plugins import find_target
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.runtime.report.svg import energy_text

Progress = Callable[[str, float], None]

HELD_OUT = 0.2
"""Share of the calibration samples that codings are measured on."""

ORDER = ("graded", "sigma-delta", "burst", "rate", "signed")
"""Quickest to compile first: what costs more than the best so far is not tried with more steps."""


@dataclass(frozen=True)
class CodingChoice:
    """The coding to take, and what it was chosen from.

    Attributes:
        request: of the compile, with the coding and its timesteps.
        taken: the trial that won.
        trials: all, in the order in which they were made.
        max_loss: points that it may lose.
    """

    request: CompileRequest
    taken: Trial
    trials: tuple[Trial, ...]
    max_loss: float

    @property
    def diagnostic(self) -> Diagnostic:
        """Why: a note."""
        tried = "; ".join(f"{trial.choice}: {_costs(trial)}" for trial in self.trials)
        return Diagnostic(
            "coding-chosen",
            f"took {self.taken.choice}: the least energy of what loses at most {self.max_loss:g} points on "
            f"held-out calibration samples (estimates). Tried: {tried}",
            "note",
        )


def choose_coding(
    model: Path, request: CompileRequest, max_loss: float, progress: Progress = lambda text, fraction: None
) -> CodingChoice:
    """Try the codings that the target has, each with as few steps as hold the accuracy.

    Accuracy and energy both grow with the timesteps: a coding's ladder ends at the first T that
    holds, or once it costs more than what holds already.

    Args:
        model: ONNX file.
        request: of the compile; ``timesteps`` is the most, ``coding`` is not looked at.
        max_loss: points of top-1, or per cent of error of a network without classes.
        progress: called with (what is being done, fraction done).

    Raises:
        NmcError: exit 2 without calibration data, exit 5 if no coding holds, else what a compile raises.
    """
    if request.calib is None:
        raise NmcError.single(
            "calibration-required",
            "--coding auto measures codings on a part of the calibration data, and there is none",
            ExitCode.USAGE,
            help="give samples of the training data: --calib calib.npz",
        )
    _, target = find_target(request.target)
    space = Space.of(target, request.options)
    task = Task(model, replace(request, held_out=HELD_OUT, verify="structure", save_temps=None, stop_after=None))
    trials: list[Trial] = []
    best: Trial | None = None
    possible = [coding for coding in ORDER if request.options.stop == "never" or coding in SPIKING]
    codings = [coding for coding in possible if coding in codings_of(target)]
    for number, coding in enumerate(codings):
        for choice in _ladder(space, coding, request):
            trial = run_trial(task, choice)
            trials.append(trial)
            progress(f"try {choice}", (number + 1) / len(codings))
            found = trial.measure
            if found is None or (best is not None and found.energy_nj >= _energy(best)):
                break
            if found.loss <= max_loss:
                best = trial
                break
    if best is None:
        raise _none_holds(trials, max_loss)
    return CodingChoice(replace(request, options=best.choice.options(request.options)), best, tuple(trials), max_loss)


def _ladder(space: Space, coding: str, request: CompileRequest) -> Iterator[Choice]:
    """One coding with more and more steps."""
    options = request.options
    most = options.timesteps
    steps = [t for t in TIMESTEPS if t < most] + [most]
    given = {name: values[0] for name, values in space.choices.items()}
    given |= {"coding": coding, "levels": str(options.levels or 4), "wait": options.wait}
    if options.weight_bits is not None:
        given["weight-bits"] = str(options.weight_bits)
    if options.reset is not None:
        given["reset"] = str(options.reset)
    for step in steps if coding in SPIKING else steps[-1:]:
        yield Choice.of(space, given | {"timesteps": str(step)})


def _energy(trial: Trial) -> float:
    return float("inf") if trial.measure is None else trial.measure.energy_nj


def _costs(trial: Trial) -> str:
    measure: Measure | None = trial.measure
    if measure is None:
        return trial.reason
    return f"{measure.loss:.2f} points, {energy_text(measure.energy_nj)}"


def _none_holds(trials: list[Trial], max_loss: float) -> NmcError:
    measured = [trial for trial in trials if trial.measure is not None]
    if not measured:
        return NmcError.single(
            "explore-nothing-compiles",
            f"no coding can be compiled; the first: {trials[0].reason if trials else 'the target has none'}",
            ExitCode.MODEL,
        )
    nearest = min(measured, key=lambda trial: trial.measure.loss if trial.measure else float("inf"))
    return NmcError.single(
        "coding-none-holds",
        f"no coding loses at most {max_loss:g} points (estimate); nearest: {nearest.choice}: {_costs(nearest)}",
        ExitCode.GATE,
        help="allow more steps (-T), more loss (--max-loss), or give more calibration samples",
    )
