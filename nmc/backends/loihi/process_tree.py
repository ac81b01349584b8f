"""Runs a command in a session of its own and leaves nothing of it behind.

Lava starts a process per neuron population and synapse group, with shared memory between
them, and hangs for ever when one fails. SIGTERM to the group comes first: Python's resource
tracker ignores it, outlives the others and frees the shared memory; SIGKILL would leak it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""

_POLL_SECONDS = 0.02
_PROC = Path("/proc")
_SHARED = Path("/dev/shm")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code, negative for a signal; None: it was ended at the time limit.
        errors: what it and its children wrote to standard error.
        session: the process id of its session's leader.
    """

    code: int | None
    errors: str
    session: int


def run_limited(command: Sequence[str], folder: Path, environment: Mapping[str, str], limit_seconds: float) -> Ended:
    """Run a command to its end or to the time limit.

    Whatever happens (an exception and Ctrl-C included), none of its processes is alive
    afterwards. Output goes to files: a pipe stays open as long as any worker lives.

    Args:
        command: program and arguments.
        folder: working folder; takes ``stdout.txt`` and ``stderr.txt``.
        environment: all of its environment.
        limit_seconds: wall-clock limit.

    Raises:
        OSError: the command cannot be started.
    """
    errors = folder / "stderr.txt"
    with (folder / "stdout.txt").open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_session(process)
    return Ended(code, errors.read_text(encoding="utf-8", errors="replace"), process.pid)


def session_members(session: int) -> list[int]:
    """Processes of a session that are alive (zombies are not)."""
    members = []
    for entry in _proc_entries():
        try:
            # The name, field 2, is in parentheses and may hold anything; state is field 3.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields and int(fields[3]) == session and fields[0] not in "ZX":
            members.append(int(entry.name))
    return members


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End every process of the session that ``process`` leads and free its shared memory."""
    if process.poll() is not None and not session_members(process.pid):
        return
    segments = _shared_segments(process.pid)
    for number, grace in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        _signal_group(process.pid, number)
        deadline = time.monotonic() + grace
        while process.poll() is None or session_members(process.pid):
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        else:
            break
    for segment in segments:
        segment.unlink(missing_ok=True)


def _proc_entries() -> Iterator[Path]:
    return (entry for entry in _PROC.iterdir() if entry.name.isdigit()) if _PROC.is_dir() else iter(())


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # The leader is gone and nobody else is in its group.
        return


def _shared_segments(session: int) -> set[Path]:
    """Shared memory that the session maps now, by exact name; never a pattern."""
    segments = set()
    for pid in session_members(session):
        try:
            maps = (_PROC / str(pid) / "maps").read_text(errors="replace")
        except OSError:
            continue
        for line in maps.splitlines():
            path = line.partition("/")[1] + line.partition("/")[2]
            if path.startswith(f"{_SHARED}/") and not path.endswith("(deleted)"):
                segments.add(Path(path))
    return segments
