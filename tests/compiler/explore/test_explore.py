"""The search: spaces, proposals that depend on the seed alone, Pareto sets, and the files it writes."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.explore import choose, study
from nmc.compiler.explore.choose import choose_coding
from nmc.compiler.explore.explore import Plan, explore
from nmc.compiler.explore.result import Exploration, scores
from nmc.compiler.explore.space import PARAMETERS, Choice, Space
from nmc.compiler.explore.study import Search, search
from nmc.compiler.explore.trial import Measure, Task, Trial, expected_loss
from nmc.compiler.plugins import find_target
from nmc.demo import MODEL, calibration
from nmc.ir.diagnostic import ExitCode, NmcError

TARGET = find_target("loihi2")[1]
SPACE = Space.of(TARGET, Options())
OBJECTIVES = ("accuracy", "energy", "latency")


def choice(**given: str) -> Choice:
    wanted = {name.replace("_", "-"): value for name, value in given.items()}
    return Choice.of(SPACE, {name: wanted.get(name, values[0]) for name, values in SPACE.choices.items()})


def made_up(task: Task, chosen: Choice) -> Trial:
    """Costs that follow from the options by formulas: accuracy asks for steps, energy for few."""
    given = dict(chosen.values)
    if given["coding"] == "sigma-delta":
        return Trial(chosen, None, "no-such-neuron: made up")
    steps = int(given.get("timesteps", 1)) * int(given.get("levels", 1))
    coarse = 0.4 * (9 - int(given["weight-bits"])) + (2.0 if given.get("reset") == "zero" else 0.0)
    loss = coarse + (0.0 if given["coding"] == "graded" else 24.0 / steps)
    energy = 400.0 if given["coding"] == "graded" else 10.0 * steps + (3.0 if given.get("wait") == "auto" else 0.0)
    return Trial(chosen, Measure(loss, 1 - loss / 100, energy, None, steps, 1))


def plan(journal: Path | None = None, trials: int = 24, **changes: object) -> Search:
    first = (choice(coding="rate", timesteps="32", threshold="searched"),)
    whole = Search((SPACE,), first, OBJECTIVES, 1.5, trials, 7, 1, journal, "key")
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setattr(study, "run_trial", made_up)
    monkeypatch.setattr(choose, "run_trial", made_up)
    return Task(MODEL, CompileRequest("loihi2", calib="calib.npz"))


def test_a_space_holds_what_the_target_has() -> None:
    assert set(SPACE.choices) == set(PARAMETERS) - {"target"}
    assert SPACE.choices["coding"] == ("rate", "signed", "burst", "graded", "sigma-delta")
    one = Space.of(find_target("loihi1")[1], Options(timesteps=8))
    assert one.choices["coding"] == ("rate",) and one.choices["timesteps"] == ("4", "8")
    assert dict(choice(coding="graded").values).keys() == {"coding", "weight-bits"}
    assert "levels" in dict(choice(coding="burst").values)


def test_wrong_choices_are_all_named() -> None:
    texts = ["timestep=4", "timesteps=0|x", "coding", "coding=fast", "weight-bits=4|"]
    with pytest.raises(NmcError) as caught:
        SPACE.varied(texts)
    messages = [d.message for d in caught.value.diagnostics]
    assert len(messages) == 6 and caught.value.exit_code == ExitCode.USAGE
    assert caught.value.diagnostics[0].help == "did you mean 'timesteps'?"
    assert SPACE.varied(["timesteps=5|6"]).choices["timesteps"] == ("5", "6")
    assert SPACE.varied(["threshold=balancing|ratio"]).choices["threshold"] == ("balancing", "ratio")


def test_a_choice_becomes_options_and_a_configuration() -> None:
    chosen = choice(coding="burst", timesteps="4", levels="7", threshold="percentile", weight_bits="6")
    options = chosen.options(Options(partitioner="tiles"))
    assert (options.coding, options.timesteps, options.levels, options.weight_bits) == ("burst", 4, 7, 6)
    assert options.partitioner == "tiles" and options.settings["convert-rate.threshold"] == "percentile"
    found = tomllib.loads(chosen.toml())
    assert found["timesteps"] == 4 and found["set"]["calibrate-layers.rounds"] == "0"
    assert "set" not in tomllib.loads(choice(coding="graded").toml())


def test_stopping_is_a_choice_only_where_it_is_varied() -> None:
    assert "stop" not in str(choice(coding="rate")) and choice(coding="rate").options(Options()).stop == "never"
    varied = SPACE.varied(["stop=never|margin"])
    given = {name: values[-1] for name, values in varied.choices.items()}
    chosen = Choice.of(varied, given | {"coding": "rate"})
    assert chosen.options(Options()).stop == "margin" and tomllib.loads(chosen.toml())["stop"] == "margin"
    graded = Choice.of(varied, given | {"coding": "graded"})
    assert graded.options(Options(stop="margin")).stop == "never"
    with pytest.raises(NmcError):
        SPACE.varied(["stop=entropy"])


def test_expected_loss_weighs_answers_by_the_float_networks_own_chances() -> None:
    network = compile_file(MODEL, CompileRequest("loihi2", Options(coding="graded"), calib=calibration()[:16])).artifact
    assert network is not None
    wanted = np.zeros((4, 10))
    wanted[:, 3], wanted[:, 5] = 2.0, 1.0
    got = wanted.copy()
    got[0, 5] = 9.0  # one of four answers differs
    chances = np.exp(wanted[0]) / np.exp(wanted[0]).sum()
    assert expected_loss(network.network, wanted, wanted) == 0.0
    assert expected_loss(network.network, got, wanted) == pytest.approx((chances[3] - chances[5]) / 4)
    wanted[:, 5] = wanted[:, 3] - 1e-9  # a tie: either answer may be right
    assert expected_loss(network.network, got, wanted) == pytest.approx(0.0, abs=1e-9)


def test_the_pareto_set_is_what_nothing_beats(fake: Task) -> None:
    found = Exploration("loihi2", search(fake, plan(trials=48)), OBJECTIVES, 1.5, 0.2)
    points = {t.choice: scores(m, OBJECTIVES) for t, m in found.measured}
    front = {t.choice for t in found.pareto}
    for chosen, own in points.items():
        beaten = any(all(a <= b for a, b in zip(o, own, strict=True)) and o != own for o in points.values())
        assert beaten or chosen in front or own in {points[c] for c in front}
        assert not (beaten and chosen in front)
    taken = found.chosen
    assert taken is not None and taken.measure is not None and taken.measure.loss <= 1.5
    assert taken.measure.energy_nj == min(m.energy_nj for _, m in found.measured if m.loss <= 1.5)
    assert taken.measure.energy_nj < 320 and len(found.trials) > 40
    assert any(t.reason for t in found.trials) and "not compiled" in str(found)
    assert found.svg().count("<circle") == len(found.measured)


def test_trials_depend_on_the_seed_and_not_on_interruptions(fake: Task, tmp_path: Path) -> None:
    whole = search(fake, plan())
    assert search(fake, plan(trials=8)) == search(fake, plan(tmp_path / "a", trials=8))
    resumed = search(fake, plan(tmp_path / "a"))
    assert [t.choice for t in resumed] == [t.choice for t in whole] and resumed == whole
    assert [t.choice for t in search(fake, plan(seed=8))] != [t.choice for t in whole]


def test_a_journal_of_another_network_is_not_gone_on_with(fake: Task, tmp_path: Path) -> None:
    first = search(fake, plan(tmp_path / "a", trials=4))
    other = search(fake, plan(tmp_path / "a", trials=4, key="another"))
    assert len(first) == len(other) and first == other


def test_known_choices_are_not_compiled_again(fake: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    search(fake, plan(tmp_path / "a"))
    monkeypatch.setattr(study, "run_trial", lambda task, chosen: pytest.fail(f"{chosen} again"))
    search(fake, plan(tmp_path / "a"))


def test_a_real_search_writes_a_configuration_that_compiles(tmp_path: Path) -> None:
    np.savez(tmp_path / "calib.npz", x=calibration()[:48])
    request = CompileRequest("loihi2", Options(timesteps=8), str(tmp_path / "calib.npz"), held_out=0.25)
    out = tmp_path / "found"
    found = explore(MODEL, request, Plan(("coding=rate|graded",), OBJECTIVES, 20.0, 3, 1, out))
    asked = found.trials[0]
    assert dict(asked.choice.values)["timesteps"] == "8" and asked.measure is not None and asked.measure.energy_nj > 0
    document = json.loads((out / "trials.json").read_text())
    assert len(document["trials"]) == len(found.trials) and document["chosen"] is not None
    assert (out / "pareto.svg").read_text().startswith("<svg")
    config = tomllib.loads((out / "nmc.toml").read_text())
    assert config["target"] == "loihi2" and config["coding"] in ("rate", "graded")


def two_spaces() -> tuple[Space, ...]:
    """Of both chips: Loihi 1 has rate coding only."""
    whole = {name: Space.of(find_target(name)[1], Options()) for name in ("loihi1", "loihi2")}
    return tuple(space.named(name, space) for name, space in whole.items())


def test_a_search_over_two_targets_depends_on_its_seed_alone_and_goes_on(
    fake: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tuple(
        Choice.of(space, {name: values[0] for name, values in space.choices.items()}) for space in two_spaces()
    )
    both = plan(spaces=two_spaces(), first=first)
    whole = search(fake, both)
    assert {t.choice.target for t in whole} == {"loihi1", "loihi2"} and [t.choice for t in whole[:2]] == list(first)
    assert all(dict(t.choice.values)["coding"] == "rate" for t in whole if t.choice.target == "loihi1")
    assert len({dict(t.choice.values)["coding"] for t in whole if t.choice.target == "loihi2"}) > 1
    left = iter(range(10))

    def interrupted(task: Task, chosen: Choice) -> Trial:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return made_up(task, chosen)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(study, "run_trial", interrupted)
        search(fake, replace(both, journal=tmp_path / "a"))
    assert search(fake, replace(both, journal=tmp_path / "a")) == whole
    other = replace(both, spaces=two_spaces()[::-1])
    assert {t.choice for t in search(fake, other)} != {t.choice for t in whole}


def test_every_target_keeps_what_it_has_of_the_choices() -> None:
    one = Space.of(find_target("loihi1")[1], Options())
    varied = one.varied(["coding=graded|rate", "reset=subtract", "target=loihi1|loihi2"])
    assert varied.named("loihi1", one).choices["coding"] == ("rate",)
    # What it has nothing of stays, so that the trials say why they fail.
    assert varied.named("loihi1", one).choices["reset"] == ("subtract",)


@pytest.mark.parametrize("given", [("loihi1,loihi2", ()), ("loihi2", ("target=loihi1|loihi2",))])
def test_a_real_search_over_two_targets_names_them(given: tuple[str, tuple[str, ...]], tmp_path: Path) -> None:
    np.savez(tmp_path / "calib.npz", x=calibration()[:32])
    request = CompileRequest(given[0], Options(timesteps=4), str(tmp_path / "calib.npz"), held_out=0.25)
    varied = ("coding=rate", "threshold=percentile", "timesteps=4", *given[1])
    found = explore(MODEL, request, Plan(varied, OBJECTIVES, 100.0, 3, 1, tmp_path / "found"))
    asked = found.trials[:2]
    assert [t.choice.target for t in asked] == ["loihi1", "loihi2"] and all(t.measure for t in asked)
    assert found.target == "loihi1, loihi2" and "target loihi" in str(found.tables()[0])
    assert found.chosen is not None
    config = tomllib.loads((tmp_path / "found" / "nmc.toml").read_text())
    assert config["target"] == found.chosen.choice.target


def test_targets_that_do_not_exist_or_are_one_are_seen(tmp_path: Path) -> None:
    request = CompileRequest("loihi,loihi2", Options(timesteps=4), calibration()[:16], held_out=0.25)
    narrow = Plan(("coding=graded", "weight-bits=8"), OBJECTIVES, 100.0, 1, 1, None)
    assert explore(MODEL, request, narrow).trials[0].choice.target == ""
    for wrong in ("loihi2,loihi9", "loihi2,,loihi1"):
        with pytest.raises(NmcError) as caught:
            explore(MODEL, replace(request, target=wrong), narrow)
        assert caught.value.exit_code == ExitCode.USAGE


def test_a_search_in_which_nothing_compiles_is_an_error(tmp_path: Path) -> None:
    request = CompileRequest("loihi1", Options(timesteps=8), calibration()[:16], held_out=0.25)
    with pytest.raises(NmcError) as caught:
        explore(MODEL, request, Plan(("coding=graded",), OBJECTIVES, 1.0, 1, 1, None))
    assert caught.value.diagnostics[0].slug == "explore-nothing-compiles"


def test_auto_climbs_only_as_far_as_it_must(fake: Task) -> None:
    found = choose_coding(MODEL, replace(fake.request, options=Options(timesteps=32)), 1.5)
    tried = [str(t.choice) for t in found.trials]
    assert found.taken.measure is not None and found.taken.measure.loss <= 1.5
    held = [t.measure.energy_nj for t in found.trials if t.measure is not None and t.measure.loss <= 1.5]
    assert found.taken.measure.energy_nj == min(held)
    assert sum("coding rate" in text for text in tried) <= 4
    assert found.request.options.coding == dict(found.taken.choice.values)["coding"]
    assert "Tried:" in found.diagnostic.message and found.diagnostic.slug == "coding-chosen"


def test_auto_says_when_no_coding_holds(fake: Task) -> None:
    with pytest.raises(NmcError) as caught:
        choose_coding(MODEL, replace(fake.request, target="loihi1", options=Options(timesteps=4)), 0.5)
    assert caught.value.diagnostics[0].slug == "coding-none-holds" and caught.value.exit_code == ExitCode.GATE
    with pytest.raises(NmcError) as missing:
        choose_coding(MODEL, replace(fake.request, calib=None), 0.5)
    assert missing.value.diagnostics[0].slug == "calibration-required"


def test_auto_really_compiles() -> None:
    request = CompileRequest("loihi2", Options(timesteps=4), calibration()[:48])
    found = choose_coding(MODEL, request, 50.0)
    assert found.taken.measure is not None and 0 <= (found.taken.measure.agreement or 0) <= 1
    assert found.request.options.coding in ("graded", "burst", "rate", "signed", "sigma-delta")
