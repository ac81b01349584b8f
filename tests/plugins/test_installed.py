"""A chip that a stranger installs gets every command of ours; a broken one spoils only itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugins.installation import EXAMPLE, Site

OK = """
from nmc_wren.backend import WrenBackend as Wren

class Backend(Wren):
    pass
"""

TROUBLES = {
    "backend-broken": "import a_driver_that_is_not_there",
    "backend-version": OK + "    api_version = 99\n",
}


@pytest.fixture(scope="module")
def artifact(example: Site, user: Path) -> Path:
    """The network compiled for the example chip."""
    document = example.document(
        "compile", "model.onnx", "--target", "wren", "--calib", "calib.npz:64", "-T", "16", "-o", "wren.nmc", cwd=user
    )
    assert document["target"] == "wren16"
    assert document["cores_used"] > 4
    return user / "wren.nmc"


def test_the_example_is_small() -> None:
    """Under 200 lines of Python and TOML, all told."""
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml")]
    assert len(files) >= 5
    assert sum(len(path.read_text().splitlines()) for path in files) < 200


def test_it_is_listed(example: Site) -> None:
    rows = {row["name"]: row for row in example.document("targets")["targets"]}
    assert {"wren16", "loihi1", "loihi2"} <= set(rows)
    shown = example.nmc("targets", "show", "wren16")
    assert shown.returncode == 0
    assert "64 KiB" in shown.stdout + shown.stderr


def test_its_passes_are_listed(example: Site) -> None:
    names = [row["name"] for row in example.document("passes", "--target", "wren16")["passes"]]
    assert names.index("convert-rate") < names.index("check-mapping")


def test_the_interpreter_of_the_chip_agrees_bit_by_bit(example: Site, artifact: Path) -> None:
    where = artifact.parent
    exact = example.document("verify", artifact, "--data", "test.npz:2", "--on", "wren", cwd=where)["bit_exact"]
    assert exact["device"] == "wren"
    assert exact["spikes_equal"] and exact["potentials_equal"]


def test_it_runs_on_the_device_of_the_chip(example: Site, artifact: Path) -> None:
    where = artifact.parent
    document = example.document("run", artifact, "--data", "test.npz:2", "--on", "wren", cwd=where)
    assert (document["device"], document["samples"]) == ("wren", 2)


def test_simulation_and_accuracy_come_for_nothing(example: Site, artifact: Path) -> None:
    document = example.document("eval", artifact, "--data", "test.npz:100", cwd=artifact.parent)
    top1 = {row["stage"]: row["top1"] for row in document["stages"]}
    assert top1["mapped"] == top1["quantized"]
    assert top1["mapped"] >= top1["onnx"] - 0.15


def test_so_does_the_report(example: Site, artifact: Path) -> None:
    assert example.nmc("report", artifact, "-o", "wren.html", cwd=artifact.parent).returncode == 0
    page = (artifact.parent / "wren.html").read_text(encoding="utf-8")
    assert "<svg" in page and "wren16" in page and "made_up" in page


def test_what_the_chip_lacks_is_refused(example: Site, user: Path) -> None:
    done = example.nmc("compile", "model.onnx", "--target", "wren", "--coding", "graded", "--json", cwd=user)
    assert done.returncode == 2
    assert "coding-not-on-target" in done.stdout


def test_it_leaves_loihi_alone(example: Site, user: Path, tmp_path: Path) -> None:
    """With and without the plugin, Loihi's artifact has the same bytes."""
    made = []
    for number, site in enumerate((example, Site(tmp_path))):
        out = tmp_path / f"{number}.nmc"
        site.document(
            "compile", "model.onnx", "--target", "loihi", "--calib", "calib.npz:8", "-T", "4", "-o", out, cwd=user
        )
        made.append(out.read_bytes())
    assert made[0] == made[1]


@pytest.fixture(params=TROUBLES)
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Site]:
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    site.pip_install(EXAMPLE)
    site.add("odd-chip", "odd", TROUBLES[request.param])
    return request.param, site


def test_a_broken_plugin_spoils_only_itself(trouble: tuple[str, Site], user: Path) -> None:
    slug, site = trouble
    done = site.nmc("compile", "model.onnx", "--target", "odd:odd1", "--json", cwd=user)
    assert done.returncode == 6
    found = json.loads(done.stdout)["diagnostics"]
    assert [d["slug"] for d in found if d["severity"] == "error"] == [slug]
    assert "odd-chip 1.0" in found[0]["message"]
    rows = site.document("targets")["targets"]
    assert {row["name"] for row in rows} == {"wren16", "loihi1", "loihi2", None}
    assert next(row for row in rows if row["name"] is None)["family"] == "odd"
    assert site.nmc("check", "model.onnx", "--target", "wren16", cwd=user).returncode == 0


def test_two_plugins_of_one_family(tmp_path: Path, user: Path) -> None:
    site = Site(tmp_path)
    site.pip_install(EXAMPLE)
    site.add("other-wren", "wren", OK)
    done = site.nmc("compile", "model.onnx", "--target", "wren16", "--json", cwd=user)
    assert done.returncode == 6
    (found,) = [d for d in json.loads(done.stdout)["diagnostics"] if d["severity"] == "error"]
    assert found["slug"] == "backend-duplicate"
    assert "nmc-wren 0.1.0" in found["message"] and "other-wren 1.0" in found["message"]
    assert site.nmc("check", "model.onnx", "--target", "loihi2", cwd=user).returncode == 0


def test_the_suite_runs_outside_the_checkout(example: Site, tmp_path: Path) -> None:
    """As a plugin's author runs it: its own folder, its own test file."""
    (tmp_path / "wren_test.py").write_text((EXAMPLE / "wren_test.py").read_text())
    done = example.run(
        "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "dense", "wren_test.py", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
