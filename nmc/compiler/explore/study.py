"""The search: Optuna proposes, processes compile, a journal keeps every trial.

Trials are made in rounds of `ROUND`, told in the order in which they were asked, and every round
begins with a sampler seeded by its place. A search that goes on makes all its rounds again and takes
from the journal what was compiled before. So the result depends on the seed and on nothing else,
neither on the number of processes nor on where a search was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.compiler.explore.result import scores
from nmc.compiler.explore.space import Choice, Space
from nmc.compiler.explore.trial import Measure, Task, Trial, run_trial

if TYPE_CHECKING:
    import optuna

ROUND = 4
"""Trials that are proposed at once."""

PROPOSALS = 4
"""Proposals per trial, at most: small spaces are used up."""

STARTUP = 8
"""Trials before proposals follow a model."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Search:
    """What to search.

    Attributes:
        spaces: of choices: one, or one for each of several targets.
        first: tried first: what the user asked for, then what is known to be good.
        objectives: of `nmc.compiler.explore.result.OBJECTIVES`.
        max_loss: points; more is not wanted.
        trials: in all.
        seed: of the proposals.
        workers: processes.
        journal: file that keeps the trials; None keeps nothing.
        key: what the trials depend on besides the spaces: of a journal, only trials of this key are taken.
    """

    spaces: tuple[Space, ...]
    first: tuple[Choice, ...]
    objectives: tuple[str, ...]
    max_loss: float
    trials: int
    seed: int
    workers: int
    journal: Path | None
    key: str


def search(task: Task, plan: Search, progress: Progress = lambda text, fraction: None) -> tuple[Trial, ...]:
    """Run a search, or go on with one that its journal holds."""
    # Imported here: it takes a second, and only a search needs it.
    import optuna as library

    library.logging.set_verbosity(library.logging.WARNING)
    with warnings.catch_warnings():
        # Samplers that Optuna calls experimental still follow their documented interface.
        warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
        return _search(library, task, plan, progress)


def _search(library: Any, task: Task, plan: Search, progress: Progress) -> tuple[Trial, ...]:
    """All rounds from the first on: what the journal holds is told again and not compiled again."""
    study = library.create_study(directions=["minimize"] * len(plan.objectives))
    for choice in plan.first:
        study.enqueue_trial(_whole(plan, choice))
    kept, done, proposed = _kept(plan), dict[Choice, Trial](), 0
    with _workers(plan.workers) as run:
        # A proposal that was made before costs nothing and does not count, but it must end some day.
        while len(done) < plan.trials and proposed < PROPOSALS * plan.trials:
            study.sampler = _sampler(library, plan, proposed)
            asked = _ask(study, plan, min(ROUND, plan.trials - len(done)))
            proposed += len(asked)
            wanted = [choice for _, choice in asked if choice not in done]
            new = list(dict.fromkeys(choice for choice in wanted if choice not in kept))
            for made in run(task, new):
                kept[made.choice] = made
                _keep(plan, made)
            done |= {choice: kept[choice] for choice in wanted}
            for trial, choice in asked:
                _tell(library, study, trial, done[choice], plan)
            progress("explore", len(done) / plan.trials)
    return tuple(done.values())


def _study_of(plan: Search) -> str:
    """Names the trials of a journal that a search may take: those of equal spaces and equal measures."""
    spaces = [(space.target, space.choices) for space in plan.spaces]
    text = json.dumps([plan.key, spaces, plan.objectives, plan.max_loss, plan.seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _kept(plan: Search) -> dict[Choice, Trial]:
    """What the journal holds: one trial a line; a line that an interruption cut is not read."""
    found: dict[Choice, Trial] = {}
    if plan.journal is None or not plan.journal.exists():
        return found
    for line in plan.journal.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            if entry["study"] != _study_of(plan):
                continue
            choice = Choice(tuple((str(name), str(value)) for name, value in entry["choice"]))
            measure = None if entry["measure"] is None else Measure(**entry["measure"])
            found[choice] = Trial(choice, measure, str(entry["reason"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _keep(plan: Search, trial: Trial) -> None:
    if plan.journal is None:
        return
    measure = None if trial.measure is None else asdict(trial.measure)
    entry = {"study": _study_of(plan), "choice": trial.choice.values, "measure": measure, "reason": trial.reason}
    with plan.journal.open("a", encoding="utf-8") as file:
        # In front, too: an interruption may have cut the last line.
        file.write("\n" + json.dumps(entry) + "\n")


def _sampler(library: Any, plan: Search, done: int) -> Any:
    seed = int.from_bytes(hashlib.sha256(f"{plan.seed}:{done}".encode()).digest()[:4], "little")
    return library.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=STARTUP)


def _ask(study: optuna.Study, plan: Search, count: int) -> list[tuple[optuna.Trial, Choice]]:
    asked = []
    for _ in range(count):
        trial = study.ask()
        space = plan.spaces[0]
        if len(plan.spaces) > 1:
            target = trial.suggest_categorical("target", [space.target for space in plan.spaces])
            space = _of(plan, target)
        chosen: dict[str, str] = {}
        chosen["coding"] = trial.suggest_categorical(_parameter(space, "coding"), space.choices["coding"])
        for name in space.active(chosen):
            if name != "target":
                chosen[name] = trial.suggest_categorical(_parameter(space, name), space.choices[name])
        asked.append((trial, Choice.of(space, chosen)))
    return asked


def _parameter(space: Space, name: str) -> str:
    """What Optuna calls a parameter: values differ from target to target, and one name has one set of values."""
    return f"{space.target}: {name}" if space.target else name


def _of(plan: Search, target: str) -> Space:
    return next(space for space in plan.spaces if space.target == target)


def _whole(plan: Search, choice: Choice) -> dict[str, Any]:
    space = _of(plan, choice.target)
    given = {_parameter(space, name): value for name, value in choice.values if value in space.choices.get(name, ())}
    return given | ({"target": choice.target} if choice.target else {})


def _tell(library: Any, study: optuna.Study, trial: optuna.Trial, done: Trial, plan: Search) -> None:
    measure = done.measure
    if measure is None:
        study.tell(trial, state=library.trial.TrialState.FAIL)
        return
    trial.set_constraint("loss", measure.loss - plan.max_loss)
    study.tell(trial, list(scores(measure, plan.objectives)))


Runner = Callable[[Task, Sequence[Choice]], Iterator[Trial]]


@contextmanager
def _workers(count: int) -> Iterator[Runner]:
    """What runs choices, in this process or in several."""
    if count == 1:
        yield lambda task, choices: (run_trial(task, choice) for choice in choices)
        return
    # A forked child would inherit threads of the numeric libraries that cannot run in it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        yield lambda task, choices: pool.map(run_trial, [task] * len(choices), choices)
