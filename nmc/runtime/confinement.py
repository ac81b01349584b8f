"""Child processes that may take so much memory and time, and no more: for what runs a file nobody trusts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from dataclasses import dataclass

MEMORY_EXIT = 17
"""Exit status where memory ran out."""

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables that keep libraries from starting a thread, with its address space, per processor."""

_PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """The environment of a confined process: this one's, with one thread per library."""
    return os.environ | dict.fromkeys(THREADS, "1")


def end_with_parent(parent: int) -> None:
    """Let the kernel end this process when its parent ends; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it ended before the kernel was told


def confine(memory: int, seconds: int | None = None) -> None:
    """Limit address space and processor time; leave no core dump.

    Args:
        memory: bytes.
        seconds: SIGXCPU comes then, SIGKILL two seconds later; None: no limit.
    """
    if sys.platform == "win32":
        return  # it has no such limits; the parent's clock is left
    import resource

    wanted = [(resource.RLIMIT_AS, memory, memory), (resource.RLIMIT_CORE, 0, 0)]
    if seconds is not None:
        wanted.append((resource.RLIMIT_CPU, seconds, seconds + 2))
    for kind, soft, hard in wanted:
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        # macOS refuses limits of address space.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard))


def allow_seconds(seconds: int) -> None:
    """From now on this process may take so much more processor time; SIGXCPU comes then."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


@dataclass(frozen=True)
class Ending:
    """Why a confined process ended.

    Attributes:
        budget: what it took more of than it may; empty where it ended otherwise.
        how: in words.
    """

    budget: str
    how: str


def ending(status: int | None, memory: int, processor: int, clock: float) -> Ending:
    """What an exit status means.

    Args:
        status: None where the parent's clock ran out.
        memory: bytes that the process might take.
        processor: seconds.
        clock: seconds by the clock.
    """
    gibibytes = f"{memory / 2**30:.1f} GiB of memory"
    if status is None:
        return Ending(f"{clock:.0f} seconds by the clock", "was stopped")
    if status == MEMORY_EXIT:
        return Ending(gibibytes, "ran out of memory")
    if sys.platform != "win32" and status == -signal.SIGXCPU:
        return Ending(f"{processor} seconds of processor time", "was stopped")
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return Ending("", f"ended by {name}; it may have run out of {gibibytes}")
    return Ending("", f"ended with status {status}")
