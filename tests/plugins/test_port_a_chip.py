"""docs/port-a-chip.md: its code is the example's, its commands run, its table is the suite's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from nmc.testing.conformance.checks import CHECKS, device
from nmc.testing.conformance.family import FAMILY, TARGET
from tests.plugins.installation import EXAMPLE, ROOT, Site

PAGE = (ROOT / "docs" / "port-a-chip.md").read_text(encoding="utf-8")
FILES = re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line) for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()
]


def test_every_file_of_the_example_is_on_the_page_as_it_is() -> None:
    shown = dict(FILES)
    assert len(shown) == len(FILES)
    for name, text in shown.items():
        assert text == (EXAMPLE / name).read_text(encoding="utf-8"), name
    written = {p.relative_to(EXAMPLE).as_posix() for p in EXAMPLE.rglob("*") if p.suffix in (".py", ".toml")}
    assert written - set(shown) == {"nmc_wren/__init__.py"}


def test_every_check_is_on_the_page() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", PAGE.split("## 5.")[1].split("## 6.")[0], re.MULTILINE)
    wanted = [(check.__name__, (check.__doc__ or "").splitlines()[0]) for check in (*FAMILY, *TARGET, *CHECKS)]
    assert rows == [*wanted, ("device-NAME", (device.__doc__ or "").splitlines()[0])]


@pytest.mark.slow
def test_a_reader_gets_from_nothing_to_a_running_chip(tmp_path: Path, user: Path) -> None:
    """The files of the page, written by hand; then every command of the page, in order."""
    project, site = tmp_path / "wren", Site(tmp_path / "site")
    for name, text in FILES:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (project / "nmc_wren" / "__init__.py").touch()
    assert [command[0] for command in COMMANDS].count("nmc") >= 6
    said: dict[str, str] = {}
    for command in COMMANDS:
        match command:
            case ["python", "-m", "pytest", *options]:
                quick = ["-p", "no:cacheprovider", "-k", "interface or sources or pooled"]
                done = site.run("python", "-m", "pytest", *quick, *options, cwd=project)
            case ["pip", "install", "--no-deps", "--no-build-isolation", "."]:
                site.pip_install(project)
                continue
            case ["nmc", *arguments]:
                done = site.nmc(*arguments, cwd=user)
            case _:
                raise AssertionError(f"the test does not know how to run {command}")
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        said[command[1]] = done.stdout
    assert "bit for bit equal" in said["verify"]
    assert (user / "wren.html").exists()
    top1 = dict(re.findall(r"^(onnx|mapped) +(\d+\.\d+) %", said["eval"], re.MULTILINE))
    assert float(top1["mapped"]) >= float(top1["onnx"]) - 0.5
