"""Every case of the corpora matches, or is refused by name as it was frozen; no other outcome."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conformance.corpora import Case, all_cases
from tests.conformance.expected import differences, read_expected
from tests.conformance.judge import Outcome, judge
from tests.conformance.score import WANTED, promised

SPREAD = 13
"""Of so many cases one is judged every day."""

SIZES = {"node": 1884, "pytorch-converted": 82, "pytorch-operator": 35, "simple": 23}


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {case.name: case for case in all_cases()}


def outcomes_of(cases: Iterable[Case], folder: Path) -> dict[str, Outcome]:
    return {case.name: judge(case, folder) for case in cases}


def test_a_spread_of_cases(cases: dict[str, Case], tmp_path: Path) -> None:
    outcomes = outcomes_of(list(cases.values())[::SPREAD], tmp_path)
    assert list(differences(outcomes, read_expected())) == []
    assert len({outcome.kind for outcome in outcomes.values()}) >= 2


def test_expected_cases_exist_and_refusals_say_more_than_that(cases: dict[str, Case]) -> None:
    expected = read_expected()
    assert expected.keys() <= cases.keys()
    assert {kind for kind, _, _ in expected.values()} <= {"refused", "disputed"}
    assert not any(operator == "" for _, slug, operator in expected.values() if slug == "operator-unsupported")


@pytest.mark.slow
def test_every_case(cases: dict[str, Case], tmp_path: Path) -> None:
    for corpus, size in SIZES.items():  # of onnx 1.23; other versions have others
        assert sum(case.corpus == corpus for case in cases.values()) >= size - 50
    outcomes = outcomes_of(cases.values(), tmp_path)
    assert list(differences(outcomes, read_expected())) == []
    counted = [name for name, (_, reason) in promised(cases).items() if not reason]
    assert sum(outcomes[name].kind == "matched" for name in counted) >= WANTED * len(counted)
    assert len(counted) >= 250
