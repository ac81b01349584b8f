"""A campaign: ``python -m tests.fuzz --seed S --models N --mutants N --relations N --finds DIR``.

Models, mutants and relations are numbered from the seed on: a find is made again with ``--seed NUMBER
--models 1``. Exit code 1 where anything failed; what failed is made smaller and stored.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.generator import RandomModel, random_model
from tests.fuzz.judge import Verdict, judge
from tests.fuzz.mutants import mutant
from tests.fuzz.reduction import reduced
from tests.fuzz.relations import RELATIONS
from tests.fuzz.sandbox import Sandbox
from tests.fuzz.trials import try_relation

WHOLE = 8
"""One model of so many is mapped too, with graded messages and with spikes."""

MUTANTS = 10
"""Mutants of one model."""

PROGRESS = 200


@dataclass
class Campaign:
    """What was tried and what became of it.

    Attributes:
        finds: folder for what failed.
        outcomes, reasons: counts.
        worst: largest measured error by check, of the models that held.
    """

    finds: Path
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    redrawn: int = 0

    def count(self, what: str, verdict: Verdict) -> None:
        """Count one verdict."""
        self.outcomes[f"{what} {verdict.outcome}"] += 1
        if verdict.reason:
            self.reasons[f"{what} {verdict.kind}"] += 1
        if verdict.outcome == "held":
            for check, error in verdict.measured.items():
                self.worst[check] = max(self.worst.get(check, 0.0), error)

    def keep(self, name: str, data: bytes, note: str) -> None:
        """Store what failed, with what was found."""
        self.finds.mkdir(parents=True, exist_ok=True)
        (self.finds / f"{name}.onnx").write_bytes(data)
        (self.finds / f"{name}.txt").write_text(note + "\n", encoding="utf-8")
        say(f"  {name}: {note}")

    @property
    def failures(self) -> int:
        return sum(count for name, count in self.outcomes.items() if name.endswith("failed"))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def models(campaign: Campaign, first: int, count: int, folder: Path) -> None:
    """Judge random models; what fails is reduced."""
    for seed in range(first, first + count):
        model = random_model(seed)
        whole = seed % WHOLE == 0
        verdict = judge(model, folder, whole=whole)
        campaign.count("models", verdict)
        campaign.redrawn += model.redrawn
        if verdict.outcome == "failed":
            _keep_reduced(campaign, model, verdict, folder, whole=whole)
        if (seed - first + 1) % PROGRESS == 0:
            say(f"  {seed - first + 1} models, {campaign.failures} failures, {time.process_time():.0f} s")


def _keep_reduced(campaign: Campaign, model: RandomModel, verdict: Verdict, folder: Path, *, whole: bool) -> None:
    def fails(candidate: RandomModel) -> bool:
        return judge(candidate, folder, whole=whole).kind == verdict.kind

    small = reduced(model, fails)
    before, after = len(model.model.graph.node), len(small.model.graph.node)
    note = f"seed {model.seed}: {verdict.reason} ({before} nodes, reduced to {after})"
    campaign.keep(f"model{model.seed}", small.model.SerializeToString(), note)


def mutants(campaign: Campaign, first: int, count: int, folder: Path) -> None:
    """Try mutants of random models."""
    with Sandbox(folder) as sandbox:
        for number in range(count):
            seed = first + number // MUTANTS
            if number % MUTANTS == 0:
                model = random_model(seed).model
            data = mutant(model, first + number)
            verdict = sandbox.try_mutant(data)
            campaign.count("mutants", verdict)
            if verdict.outcome == "failed":
                campaign.keep(f"mutant{first + number}", data, f"seed {seed}: {verdict.reason}")
            if (number + 1) % (5 * PROGRESS) == 0:
                say(f"  {number + 1} mutants, {campaign.failures} failures")


def relations(campaign: Campaign, first: int, count: int, folder: Path) -> None:
    """Try every relation on random models."""
    for seed in range(first, first + count):
        model = random_model(seed)
        for name in RELATIONS:
            verdict = try_relation(model, name, folder)
            campaign.count("relations", verdict)
            if verdict.outcome == "failed":
                campaign.keep(f"relation{seed}", model.model.SerializeToString(), f"seed {seed}: {verdict.reason}")


def main() -> int:
    """Run a campaign and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random models, mutants and relations.")
    parser.add_argument("--seed", type=int, default=0, help="number of the first model")
    parser.add_argument("--models", type=int, default=2000)
    parser.add_argument("--mutants", type=int, default=5000)
    parser.add_argument("--relations", type=int, default=100)
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"), help="folder for what fails")
    given = parser.parse_args()
    warnings.simplefilter("error")
    begin = time.perf_counter()
    campaign = Campaign(given.finds)
    say(f"seed {given.seed}: {given.models} models, {given.mutants} mutants, {given.relations} models by relations")
    with tempfile.TemporaryDirectory() as folder:
        models(campaign, given.seed, given.models, Path(folder))
        mutants(campaign, given.seed, given.mutants, Path(folder))
        relations(campaign, given.seed, given.relations, Path(folder))
    for name, count in sorted(campaign.outcomes.items()):
        say(f"{name:24}{count:8}")
    for name, count in campaign.reasons.most_common():
        say(f"{count:8}  {name}")
    refused, tried = campaign.outcomes["models refused"], max(given.models, 1)
    say(f"refused {100 * refused / tried:.1f} % of the models; {campaign.redrawn} badly conditioned drafts drawn again")
    say("largest errors: " + ", ".join(f"{check} {error:.2g}" for check, error in sorted(campaign.worst.items())))
    say(
        f"{campaign.failures} failures in {time.perf_counter() - begin:.0f} s, {time.process_time():.0f} s of processor"
    )
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
