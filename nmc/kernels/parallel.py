"""Work over samples in threads; results never depend on their number."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def parallel(task: Callable[[int], None], count: int, threads: int | None = None) -> None:
    """Run ``task(0) ... task(count - 1)`` in threads; the first exception is raised."""
    workers = min(threads or os.cpu_count() or 1, max(count, 1))
    if workers <= 1:
        for index in range(count):
            task(index)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(task, range(count)):
            pass
