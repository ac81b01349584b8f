"""Limits on commands: nothing is left of what they started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from nmc.backends.loihi import process_tree
from nmc.backends.loihi.process_tree import Ended, run_limited, session_members

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the process table from /proc")

SEGMENT = """
from multiprocessing import shared_memory
kept = shared_memory.SharedMemory(create=True, size=4096)
print(kept.name, flush=True)
"""
FAMILY = """
import os, signal
children = [os.fork() for _ in range(2)]
signal.pause()
"""
STUBBORN = """
import signal, os
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
while True: signal.pause()
"""


def run(code: str, folder: Path, limit: float = 60) -> Ended:
    return run_limited([sys.executable, "-c", code], folder, dict(os.environ), limit)


def test_success(tmp_path: Path) -> None:
    ended = run("import sys; print('out'); print('err', file=sys.stderr)", tmp_path)
    assert (ended.code, ended.errors) == (0, "err\n")
    assert (tmp_path / "stdout.txt").read_text() == "out\n"
    assert session_members(ended.session) == []


def test_exit_code(tmp_path: Path) -> None:
    assert run("raise SystemExit(3)", tmp_path).code == 3


@pytest.mark.parametrize("code", [FAMILY, SEGMENT + FAMILY], ids=["children", "shared-memory"])
def test_limit_ends_the_whole_tree(code: str, tmp_path: Path) -> None:
    begin = time.monotonic()
    ended = run(code, tmp_path, 1.0)
    assert ended.code is None
    assert time.monotonic() - begin < 10
    assert session_members(ended.session) == []
    for name in (tmp_path / "stdout.txt").read_text().split():
        assert not Path("/dev/shm", name).exists()


def test_those_who_ignore_sigterm_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "GRACE_SECONDS", 0.2)
    ended = run(SEGMENT + STUBBORN, tmp_path, 1.0)
    assert ended.code is None
    assert session_members(ended.session) == []
    # The tracker may have been killed too, so this is the second net: by exact name.
    (name,) = (tmp_path / "stdout.txt").read_text().split()
    assert not Path("/dev/shm", name).exists()


def test_children_of_a_finished_leader_are_ended(tmp_path: Path) -> None:
    ended = run("import os, signal\nif os.fork() == 0: signal.pause()", tmp_path)
    assert ended.code == 0
    assert session_members(ended.session) == []


def test_interruption_ends_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    plain = process_tree.subprocess.Popen.wait

    def interrupted(self: object, timeout: float | None = None) -> int:
        started.append(self.pid)  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(process_tree.subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(FAMILY, tmp_path)
    monkeypatch.setattr(process_tree.subprocess.Popen, "wait", plain)
    assert session_members(started[0]) == []


def test_missing_command(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        run_limited(["/nowhere/python"], tmp_path, {}, 1.0)
