"""Work over samples in threads; results never depend on their number."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def available_threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel(task: Callable[[int], None], count: int, threads: int | None = None) -> None:
    """Run ``task(0) ... task(count - 1)`` in threads; the first exception is raised."""
    workers = min(threads or available_threads(), max(count, 1))
    if workers <= 1:
        for index in range(count):
            task(index)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(task, range(count)):
            pass
