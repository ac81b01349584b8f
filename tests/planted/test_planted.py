"""Bugs planted into the real passes: each changes the result, and the checks of a compile stop it."""

from collections.abc import Iterator

import pytest

from tests.planted.catalogue import BUGS, MISSED
from tests.planted.networks import CASES
from tests.planted.planting import Bug
from tests.planted.score import Bench

EVERYDAY = tuple({bug.stage: bug for bug in reversed(BUGS)}.values())
"""The first bug of every stage; all others are tried in the slow part."""

SHARE = 38 / 40
"""Of the planted bugs that the checks stop at least."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield Bench(tmp_path_factory.mktemp("planted"))


PLANTED = [
    pytest.param(
        bug,
        id=f"{bug.stage}: {bug.name}".replace(" ", "-"),
        marks=() if bug in EVERYDAY else (pytest.mark.slow,),
    )
    for bug in BUGS
]


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bug_stops_the_compile(bug: Bug, bench: Bench) -> None:
    verdict = bench.judge(bug)
    assert verdict.effect, "it changes nothing where no check looks, so it is no bug"
    if bug.name in MISSED:
        assert not verdict.check, f"it is stopped now ({verdict.check}): it has to leave the list of those that are not"
    else:
        assert verdict.check, "no check stops the compile"


def test_enough_bugs_are_planted_and_stopped() -> None:
    names = [bug.name for bug in BUGS]
    assert len(names) == len(set(names)) >= 40
    assert set(names) >= MISSED.keys()
    assert len(BUGS) - len(MISSED) >= SHARE * len(BUGS)


@pytest.mark.slow
def test_sound_compiles_pass_all_checks(bench: Bench) -> None:
    for case in CASES.values():
        bench.compile(case, "full")
