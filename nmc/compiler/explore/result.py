"""What a search found: every trial, the Pareto set among them, and the one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nmc.compiler.explore.trial import Measure, Trial
from nmc.runtime.report.svg import document, energy_text, short, text_of
from nmc.runtime.tables import Shown, TextTable, share

OBJECTIVES: Mapping[str, str] = {"accuracy": "loss", "energy": "energy_nj", "latency": "latency"}
"""What may be minimised, and the attribute of a `Measure` that says it."""


def scores(measure: Measure, objectives: Sequence[str]) -> tuple[float, ...]:
    """What is minimised."""
    return tuple(float(getattr(measure, OBJECTIVES[name])) for name in objectives)


@dataclass(frozen=True)
class Exploration(Shown):
    """The result of a search.

    Attributes:
        target: it was for; several with commas between them.
        trials: in the order in which they were made; the first is what the user asked for.
        objectives: of `OBJECTIVES`.
        max_loss: that the one to take may have.
        held_out: share of the calibration samples that trials were measured on.
    """

    target: str
    trials: tuple[Trial, ...]
    objectives: tuple[str, ...]
    max_loss: float
    held_out: float

    @property
    def measured(self) -> tuple[tuple[Trial, Measure], ...]:
        """The trials that compiled."""
        return tuple((trial, trial.measure) for trial in self.trials if trial.measure is not None)

    @property
    def pareto(self) -> tuple[Trial, ...]:
        """Those that no other beats in one objective without losing in another, by the last objective."""
        points = [(trial, scores(measure, self.objectives)) for trial, measure in self.measured]
        kept = [(trial, own) for trial, own in points if not any(_beats(other, own) for _, other in points)]
        first_of = {own: trial for trial, own in reversed(kept)}
        return tuple(trial for _, trial in sorted(first_of.items(), key=lambda pair: (pair[0][-1], pair[0])))

    @property
    def chosen(self) -> Trial | None:
        """The least energy (or whatever comes after accuracy) among those that lose no more than `max_loss`."""
        ranked = [name for name in self.objectives if name != "accuracy"] or ["accuracy"]
        fit = [(scores(m, (*ranked, "accuracy")), trial) for trial, m in self.measured if m.loss <= self.max_loss]
        return min(fit, key=lambda pair: pair[0])[1] if fit else None

    def tables(self) -> tuple[TextTable, ...]:
        """The Pareto set; what could not be compiled."""
        asked, chosen = self.trials[0], self.chosen
        rows = []
        for trial in self.pareto if asked in self.pareto else (asked, *self.pareto):
            if trial.measure is not None:
                marks = [word for word, which in (("as asked", asked), ("taken", chosen)) if trial is which]
                rows.append((str(trial.choice), *_cells(trial.measure), ", ".join(marks)))
        columns = ("options", "#loss (estimate)", "#agreement", "#energy", "#latency", "#cores", "")
        title = f"Pareto set on {self.target}: {len(self.trials)} trials, measured on held-out samples"
        failed = tuple((str(t.choice), t.reason) for t in self.trials if t.measure is None)
        tables = [TextTable(title, columns, tuple(rows))]
        if failed:
            tables.append(TextTable("not compiled", ("options", "reason"), failed))
        return tuple(tables)

    def to_dict(self) -> dict[str, object]:
        """The form of ``explore --json``."""
        pareto, chosen = self.pareto, self.chosen
        return {
            "target": self.target,
            "objectives": list(self.objectives),
            "max_loss": self.max_loss,
            "held_out": self.held_out,
            "trials": [_trial_dict(trial) | {"pareto": trial in pareto} for trial in self.trials],
            "chosen": None if chosen is None else _trial_dict(chosen),
        }

    def svg(self) -> str:
        """Loss against energy, the Pareto set joined, the taken one marked."""
        return _picture(self)


def _beats(other: Sequence[float], own: Sequence[float]) -> bool:
    return tuple(other) != tuple(own) and all(a <= b for a, b in zip(other, own, strict=True))


def _cells(measure: Measure) -> tuple[str, ...]:
    latency = f"{measure.steps} steps"
    if measure.latency_us is not None:
        latency = f"{short(measure.latency_us)} µs"
    energy = energy_text(measure.energy_nj)
    return f"{measure.loss:.2f}", share(measure.agreement), energy, latency, str(measure.cores)


def _trial_dict(trial: Trial) -> dict[str, object]:
    found: dict[str, object] = {"options": dict(trial.choice.values)}
    measure = trial.measure
    if measure is None:
        return found | {"reason": trial.reason}
    return found | {
        "loss": measure.loss,
        "agreement": measure.agreement,
        "energy_nj": measure.energy_nj,
        "latency_us": measure.latency_us,
        "steps": measure.steps,
        "cores": measure.cores,
    }


WIDTH, HEIGHT, EDGE = 560, 320, 48


def _picture(found: Exploration) -> str:
    points = [(trial, measure.energy_nj, max(measure.loss, 0.0)) for trial, measure in found.measured]
    right = max((energy for _, energy, _ in points), default=1.0) or 1.0
    top = max((loss for *_, loss in points), default=1.0) or 1.0

    def at(energy: float, loss: float) -> tuple[float, float]:
        x = EDGE + (WIDTH - 2 * EDGE) * energy / right
        return x, HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * loss / top

    front = sorted((m.energy_nj, max(m.loss, 0.0)) for t, m in found.measured if t in found.pareto)
    line = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in front)
    dots = []
    for trial, energy, loss in points:
        x, y = at(energy, loss)
        radius, kind = (6, "accent") if trial is found.chosen else (3.5, "accent" if trial in found.pareto else "empty")
        label = text_of(f"{trial.choice}: {loss:.2f} points, {energy_text(energy)}")
        dots.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{label}</title></circle>')
    left, low = EDGE, HEIGHT - EDGE
    body = (
        f'<path class="line" d="M{left},{EDGE / 2} V{low} H{WIDTH - EDGE / 2}"/>'
        f'<polyline class="curve" points="{line}"/>{"".join(dots)}'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">energy per inference (estimate), '
        f"up to {text_of(energy_text(right))}</text>"
        f'<text x="8" y="{EDGE / 2 - 8}">points lost (estimate), up to {top:.2f}</text>'
    )
    return document(WIDTH, HEIGHT, body, f"Energy and accuracy of {len(points)} trials on {found.target}")
