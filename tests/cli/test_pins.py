"""``--pin``: on the command line, in a configuration file and in Python; kept in the artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import nmc as api
from nmc.compiler import driver
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import Routed
from nmc.runtime.artifact import Artifact
from tests.cli.invoke import Invoke

QUICK = ("--target", "loihi1", "-T", "4", "--partitioner", "tiles", "--placer", "row-major", "-q")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tiles_of(routed: Routed, layer: str) -> set[tuple[int, int]]:
    holders = [c.id for c in routed.clusters if any(piece.population == layer for piece in c.slices)]
    return {(routed.places[number].x, routed.places[number].y) for number in holders}


def test_command_line_file_and_python_agree(nmc: Invoke, model: Path) -> None:
    assert nmc("compile", model, *QUICK, "--pin", "relu2=tile:9,3", "--pin", "fc=core:12", "--chips", "2").code == 0
    pinned = Artifact.load("digits_cnn.nmc")
    assert pinned.manifest["options"]["pins"] == {"relu2": "tile:9,3", "fc": "core:12"}
    assert tiles_of(pinned.routed, "relu2") == {(9, 3)}
    assert tiles_of(pinned.routed, "fc") == {(3, 0)}
    Path("nmc.toml").write_text('chips = 2\n[pin]\nrelu2 = "tile:9,3"\nfc = "core:12"\n')
    assert nmc("compile", model, *QUICK, "--config", "nmc.toml", "-o", "two.nmc").code == 0
    assert Path("two.nmc").read_bytes() == Path("digits_cnn.nmc").read_bytes()
    same = api.compile(
        model,
        "loihi1",
        timesteps=4,
        partitioner="tiles",
        placer="row-major",
        chips=2,
        pins={"relu2": "tile:9,3", "fc": "core:12"},
    ).artifact
    assert same is not None and same.routed.places == pinned.routed.places


def test_what_is_wrong_with_the_options_comes_at_once(nmc: Invoke, model: Path) -> None:
    wrong = ("--pin", "x", "--pin", "=chip:0", "--pin", "a=chp:0", "--pin", "b=chip:0", "--pin", "b=chip:1")
    done = nmc("compile", model, *QUICK, *wrong, "--json")
    assert done.code == ExitCode.USAGE
    assert done.slugs == ["bad-option", "bad-option", "bad-option", "pin-syntax"]
    assert "join them: chip:0+chip:1" in done.document["diagnostics"][2]["help"]


def test_a_place_that_is_too_small(nmc: Invoke, model: Path) -> None:
    done = nmc("compile", model, *QUICK, "--pin", "relu2=core:3", "--json")
    assert done.code == ExitCode.DOES_NOT_FIT
    assert done.slugs == ["pin-too-small", "layers-placed"]
    first = done.document["diagnostics"][0]
    assert "pin 'relu2=core:3': 1 core may be used, 2 are needed" in first["message"]
    assert first["origin"]["op"] == "Relu"


def test_a_backend_that_ignores_pins_is_found_out(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    class Deaf:
        def __init__(self, backend: object) -> None:
            self._backend = backend

        def __getattr__(self, name: str) -> object:
            return getattr(self._backend, name)

        def pipeline(self, target, options):
            return self._backend.pipeline(target, replace(options, pins={}))

    found = driver.find_target("loihi1")
    monkeypatch.setattr(driver, "find_target", lambda name: (Deaf(found[0]), found[1]))
    with pytest.raises(NmcError) as caught:
        api.compile(model, "loihi1", timesteps=4, partitioner="tiles", placer="row-major", pins={"fc": "core:100"})
    assert caught.value.exit_code is ExitCode.GATE
    assert [d.slug for d in caught.value.diagnostics] == ["mapping-pin"]
