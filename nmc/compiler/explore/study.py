"""The search: Optuna proposes, processes compile, a journal keeps every trial.

Trials are made in rounds of `ROUND`, told in the order in which they were asked, and every round
begins with a sampler seeded by what is known: the result depends on the seed and on nothing else,
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
        space: of choices.
        first: tried first: what the user asked for, then what is known to be good.
        objectives: of `nmc.compiler.explore.result.OBJECTIVES`.
        max_loss: points; more is not wanted.
        trials: in all.
        seed: of the proposals.
        workers: processes.
        journal: file that keeps the trials; None keeps nothing.
        key: what the trials depend on besides the space: another key, another study of the journal.
    """

    space: Space
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
    study = _study(library, plan)
    for choice in plan.first if not study.trials else ():
        study.enqueue_trial(_whole(plan.space, choice))
    known = _known(study, plan.space)
    with _workers(plan.workers) as run:
        # A proposal that was made before costs nothing and does not count, but it must end some day.
        while len(known) < plan.trials and (asked_before := _finished(study)) < PROPOSALS * plan.trials:
            study.sampler = _sampler(library, plan, asked_before)
            asked = _ask(study, plan, min(ROUND, plan.trials - len(known)))
            new = list(dict.fromkeys(choice for _, choice in asked if choice not in known))
            known |= dict(zip(new, run(task, new), strict=True))
            for trial, choice in asked:
                _tell(library, study, trial, known[choice], plan)
            progress("explore", len(known) / plan.trials)
    return tuple(known.values())


def _study(library: Any, plan: Search) -> optuna.Study:
    storage = None
    if plan.journal is not None:
        backend = library.storages.journal.JournalFileBackend(str(plan.journal))
        storage = library.storages.JournalStorage(backend)
    text = json.dumps([plan.key, plan.space.choices, plan.objectives, plan.max_loss, plan.seed], sort_keys=True)
    study: optuna.Study = library.create_study(
        study_name=hashlib.sha256(text.encode()).hexdigest()[:16],
        directions=["minimize"] * len(plan.objectives),
        storage=storage,
        load_if_exists=True,
    )
    return study


def _sampler(library: Any, plan: Search, done: int) -> Any:
    seed = int.from_bytes(hashlib.sha256(f"{plan.seed}:{done}".encode()).digest()[:4], "little")
    return library.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=STARTUP)


def _ask(study: optuna.Study, plan: Search, count: int) -> list[tuple[optuna.Trial, Choice]]:
    asked = []
    for _ in range(count):
        trial = study.ask()
        chosen: dict[str, str] = {"coding": trial.suggest_categorical("coding", plan.space.choices["coding"])}
        for name in plan.space.active(chosen):
            chosen[name] = trial.suggest_categorical(name, plan.space.choices[name])
        asked.append((trial, Choice.of(plan.space, chosen)))
    return asked


def _whole(space: Space, choice: Choice) -> dict[str, Any]:
    return {name: value for name, value in choice.values if value in space.choices[name]}


def _tell(library: Any, study: optuna.Study, trial: optuna.Trial, done: Trial, plan: Search) -> None:
    measure = done.measure
    if measure is None:
        trial.set_user_attr("reason", done.reason)
        study.tell(trial, state=library.trial.TrialState.FAIL)
        return
    trial.set_user_attr("measure", asdict(measure))
    trial.set_constraint("loss", measure.loss - plan.max_loss)
    study.tell(trial, list(scores(measure, plan.objectives)))


def _finished(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.trials)


def _known(study: optuna.Study, space: Space) -> dict[Choice, Trial]:
    """What the finished trials found, by choice."""
    found: dict[Choice, Trial] = {}
    for trial in study.trials:
        if trial.state.is_finished() and "coding" in trial.params:
            choice = Choice.of(space, trial.params)
            given = trial.user_attrs.get("measure")
            result = None if given is None else Measure(**given)
            found.setdefault(choice, Trial(choice, result, trial.user_attrs.get("reason", "")))
    return found


Runner = Callable[[Task, Sequence[Choice]], list[Trial]]


@contextmanager
def _workers(count: int) -> Iterator[Runner]:
    """What runs choices, in this process or in several."""
    if count == 1:
        yield lambda task, choices: [run_trial(task, choice) for choice in choices]
        return
    # A forked child would inherit threads of the numeric libraries that cannot run in it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        yield lambda task, choices: list(pool.map(run_trial, [task] * len(choices), choices))
