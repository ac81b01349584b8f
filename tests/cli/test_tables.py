"""explain, ops, passes, targets, doctor: tables that come from the code that decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmc.compiler import doctor
from nmc.compiler.explain import catalogue
from nmc.compiler.frontends.onnx import operator_table
from tests.cli.invoke import Invoke

ROOT = Path(__file__).resolve().parents[2]


def test_explain(nmc: Invoke) -> None:
    done = nmc("explain", "lava-missing")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("lava-missing (exit code 6)\n")
    assert "What to do: nmc doctor --install lava" in done.out
    assert len(nmc("explain", "--json").document["explanations"]) == len(catalogue())
    shown = nmc("explain").out
    assert all(slug in shown for slug in catalogue())


def test_explain_near_miss(nmc: Invoke) -> None:
    done = nmc("explain", "lava-mising", "--json")
    assert (done.code, done.slugs) == (2, ["slug-unknown"])
    assert done.document["diagnostics"][0]["help"] == "did you mean 'lava-missing'?"


@pytest.mark.parametrize(("command", "page"), [("explain", "errors.md"), ("ops", "operators.md")])
def test_generated_pages_are_up_to_date(nmc: Invoke, command: str, page: str) -> None:
    """``make docs`` writes them again."""
    assert nmc(command, "--markdown").out == (ROOT / "docs" / page).read_text(encoding="utf-8")


def test_explanations_are_whole_sentences() -> None:
    for entry in catalogue().values():
        assert entry.exit in (0, 2, 3, 4, 5, 6, 70, 130), entry.slug
        for text in (entry.means, entry.fix):
            assert text.rstrip().endswith((".", ")", "`")), entry.slug


def test_ops(nmc: Invoke) -> None:
    rows = nmc("ops", "--json").document["operators"]
    assert [row["op"] for row in rows] == [row.op for row in operator_table()]
    status = {row["op"]: row["status"] for row in rows}
    assert status["Conv"] == "native" and status["LSTM"] == "refused"
    assert "Conv" in nmc("ops").out


def test_passes(nmc: Invoke) -> None:
    rows = {row["name"]: row for row in nmc("passes", "--json").document["passes"]}
    assert {row["stage"] for row in rows.values()} == {
        *("simplify", "convert", "align", "quantize", "partition", "place", "route", "check")
    }
    assert rows["convert-graded"]["used"] == "--coding graded"
    assert all(row["summary"] for row in rows.values())
    shown = nmc("passes", "show", "convert-rate")
    assert shown.code == 0 and "LayerGraph -> Network" in shown.out
    done = nmc("passes", "show", "convert-rat", "--json")
    assert (done.code, done.slugs) == (2, ["pass-unknown"])
    assert nmc("passes", "shwo", "--json").slugs == ["usage"]


def test_targets(nmc: Invoke, tmp_path: Path) -> None:
    rows = nmc("targets", "--json").document["targets"]
    assert {row["name"] for row in rows} >= {"loihi1", "loihi2"}
    shown = nmc("targets", "show", "loihi", "--json").document["target"]
    assert shown["name"] == "loihi2"
    limits = {row["key"]: row for row in shown["limits"]}
    assert limits["core.neurons"]["value"] == 8192 and limits["core.neurons"]["source"]
    assert "core.neurons" in nmc("targets", "show", "loihi1").out
    assert nmc("targets", "shwo", "loihi", "--json").slugs == ["usage"]
    assert nmc("targets", "show", "lohi2", "--json").slugs == ["target-unknown"]


def test_targets_validate(nmc: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[target]\nname = "mine"\nfamily = "loihi"\nextends = "loihi2"\n[core]\nneurons = 64\n')
    path.write_text(path.read_text() + '[sources]\n"core.neurons" = "assumed: a test"\n')
    done = nmc("targets", "validate", path, "--json")
    limits = {row["key"]: row for row in done.document["target"]["limits"]}
    assert (done.code, limits["core.neurons"]["value"]) == (0, 64)
    path.write_text("[grid]\ntiles = 3\n")
    bad = nmc("targets", "validate", path, "--json")
    assert bad.code == 2 and "target-unknown-key" in bad.slugs


def test_doctor(nmc: Invoke) -> None:
    done = nmc("doctor", "--json")
    assert done.code == 0
    rows = {row["name"]: row for row in done.document["environment"]}
    assert {"nmc", "python", "numpy", "onnx", "backend loihi", "device lava"} <= set(rows)
    assert all(row["status"] == "ok" for name, row in rows.items() if not name.startswith("device"))
    assert "backend loihi" in nmc("doctor").out


def test_doctor_names_a_missing_package(nmc: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy>=2.0", "not-a-package>=3", 'ruff; extra == "dev"'])
    done = nmc("doctor", "--json")
    assert (done.code, done.slugs) == (6, ["package-missing"])
    assert done.document["diagnostics"][0]["help"] == "pip install 'not-a-package>=3'"


def test_doctor_installs_through_the_backend(nmc: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(self: object, name: str, log: object) -> str:
        return f"installed {name}"

    monkeypatch.setattr("nmc.backends.loihi.backend.LoihiBackend.install", install)
    assert nmc("doctor", "--install", "lava").out == "installed lava\n"
    done = nmc("doctor", "--install", "lav", "--json")
    assert (done.code, done.slugs) == (2, ["install-unknown"])
    assert done.document["diagnostics"][0]["help"] == "did you mean 'lava'?"
