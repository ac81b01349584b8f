"""What is known of each output of a network: rows by stage, and a curve over input steps."""

from __future__ import annotations

from dataclasses import dataclass

from nmc.runtime.tables import TextTable, share


@dataclass(frozen=True)
class StageResult:
    """One row of the accuracy table of an output.

    Attributes:
        stage: of `STAGES`.
        top1: fraction of samples whose answer (`nmc.ir.reference.answers`) is the label; None without
            class numbers as labels.
        agreement: fraction of samples whose answer is ONNX Runtime's; None where the output has no classes.
        nrmse: rms error of the values, relative to the rms of what they are held against: ONNX
            Runtime's, or the labels where those are values.
    """

    stage: str
    top1: float | None
    agreement: float | None
    nrmse: float

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        return {"stage": self.stage, "top1": self.top1, "agreement": self.agreement, "nrmse": self.nrmse}


@dataclass(frozen=True)
class CurvePoint:
    """What the mapped program gives if it is read after fewer input steps.

    Attributes:
        top1, agreement: as in `StageResult`.
        nrmse: likewise; None where the output has classes.
    """

    timesteps: int
    top1: float | None
    agreement: float | None
    nrmse: float | None = None

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        return {
            "timesteps": self.timesteps,
            "top1": self.top1,
            "agreement": self.agreement,
            "nrmse": self.nrmse,
        }


@dataclass(frozen=True)
class StoppingResult:
    """What the mapped program gives where each sample stops as soon as its answer is clear.

    Attributes:
        top1, agreement: as in `StageResult`.
        changed: fraction of samples whose answer is another one than after all steps.
        mean_steps: input steps; ``timesteps``: the most, T.
        pipeline_steps: steps in front of the output's first, which every sample takes besides.
    """

    top1: float | None
    agreement: float | None
    changed: float
    mean_steps: float
    timesteps: int
    pipeline_steps: int

    @property
    def mean_steps_total(self) -> float:
        """From the first input to the answer."""
        return self.mean_steps + self.pipeline_steps

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        return {
            "top1": self.top1,
            "agreement": self.agreement,
            "changed": self.changed,
            "mean_steps": self.mean_steps,
            "timesteps": self.timesteps,
            "mean_steps_total": self.mean_steps_total,
            "timesteps_total": self.timesteps + self.pipeline_steps,
        }

    def table(self) -> TextTable:
        """One row, beside what all steps give."""
        total = self.timesteps + self.pipeline_steps
        row = (
            f"{self.mean_steps:.1f} of {self.timesteps} ({self.mean_steps / self.timesteps - 1:+.0%})",
            f"{self.mean_steps_total:.1f} of {total} ({self.mean_steps_total / total - 1:+.0%})",
            share(self.top1),
            share(self.agreement),
            share(self.changed),
        )
        columns = ("#mean input steps", "#mean steps in all", "#top-1", "#agrees with onnx", "#answers changed")
        return TextTable("if every sample stops once its answer is clear", columns, (row,))


@dataclass(frozen=True)
class OutputResult:
    """One output.

    Attributes:
        name: of the output.
        by_class: its answers are class numbers; else its values count.
        against: ``labels`` or ``onnx``: what ``nrmse`` is taken against.
        stages: in the order of `STAGES`, those asked for.
        curve: by input steps 1 ... T; empty unless ``mapped`` was asked for.
    """

    name: str
    by_class: bool
    against: str
    stages: tuple[StageResult, ...]
    curve: tuple[CurvePoint, ...] = ()

    def stage(self, name: str) -> StageResult | None:
        """The row of a stage."""
        return next((s for s in self.stages if s.stage == name), None)

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract."""
        return {
            "output": self.name,
            "classes": self.by_class,
            "against": self.against,
            "stages": [stage.to_dict() for stage in self.stages],
            "curve": [point.to_dict() for point in self.curve],
        }

    def accuracy_table(self, samples: int, of: str = "") -> TextTable:
        """By stage; ``of`` names the output."""
        if self.by_class:
            rows = tuple((s.stage, share(s.top1), share(s.agreement), f"{s.nrmse:.4f}") for s in self.stages)
            columns = ("stage", "#top-1", "#agrees with onnx", "#nrmse")
            return TextTable(f"accuracy{of}, {samples:,} samples", columns, rows)
        errors = tuple((s.stage, f"{s.nrmse:.4g}") for s in self.stages)
        return TextTable(f"error{of}, {samples:,} samples", ("stage", f"#nrmse {self.held}"), errors)

    def curve_table(self, of: str = "") -> TextTable:
        """The mapped program if it is read after fewer steps: powers of two, and all."""
        last = self.curve[-1].timesteps
        points = [p for p in self.curve if p.timesteps & (p.timesteps - 1) == 0 or p.timesteps == last]
        if self.by_class:
            rows = tuple((str(p.timesteps), share(p.top1), share(p.agreement)) for p in points)
            return TextTable(f"if read out earlier{of}", ("#timesteps", "#top-1", "#agrees with onnx"), rows)
        errors = tuple((str(p.timesteps), "-" if p.nrmse is None else f"{p.nrmse:.4g}") for p in points)
        return TextTable(f"if read out earlier{of}", ("#timesteps", f"#nrmse {self.held}"), errors)

    @property
    def held(self) -> str:
        """What the values are held against, in words."""
        return "against the labels" if self.against == "labels" else "against onnx"

    @property
    def what(self) -> str:
        """What its rows and its curve show first."""
        if not self.by_class:
            return f"Normalised error {self.held}"
        return "Top-1 accuracy" if self._labelled else "Agreement with ONNX Runtime"

    def level(self, row: StageResult | CurvePoint) -> float | None:
        """What is shown first of a row."""
        if not self.by_class:
            return row.nrmse
        return row.top1 if self._labelled else row.agreement

    def curve_svg(self, of: str = "") -> str:
        """The curve as a picture; empty where it has no two points."""
        from nmc.runtime.report.svg import curve

        levels = [(float(point.timesteps), self.level(point)) for point in self.curve]
        known = [(x, y) for x, y in levels if y is not None]
        if len(known) < 2:
            return ""
        # Held against ONNX Runtime, it is perfect itself: no level worth a line.
        onnx = self.stage("onnx") if self._labelled or self.against == "labels" else None
        level = None if onnx is None else self.level(onnx)
        reference = None if level is None else ("ONNX", level)
        return curve(known, f"{self.what}{of} over timesteps", "input steps", reference, errors=not self.by_class)

    @property
    def _labelled(self) -> bool:
        return all(stage.top1 is not None for stage in self.stages)
