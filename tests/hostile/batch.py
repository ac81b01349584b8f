"""Checks many files in one process and writes down what each did: ``python -m tests.hostile.batch SOUND WORK``.

SOUND is a model that nothing is wrong with, WORK an empty folder to run in.

The command line reads models in a process like this one; a process per file would take minutes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

from nmc.compiler.cli.main import run
from nmc.runtime.confinement import confine

MEMORY = 2 << 30
SECONDS = 60


def outside(path: str, folder: Path) -> bool:
    """Whether a file opened is neither the model's nor Python's own."""
    own = (str(folder), sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), "/dev/null", "/usr/share/zoneinfo")
    return not os.path.abspath(path).startswith(own)


def main() -> None:
    """One JSON line per file: what was said, by which exit code, in which time, and what was opened."""
    warnings.simplefilter("error")
    opened: list[str] = []
    started: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            # The reader opens external data by a name in a folder, following no link.
            below = os.sep not in arguments[0] and int(str(arguments[2])) & os.O_NOFOLLOW
            opened.extend([] if below else [arguments[0]])
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"):
            started.append(event)

    results = sys.stdout
    # A sound model and a refused path: everything is loaded, and what is opened once has been.
    os.chdir(sys.argv[2])
    for path in sys.argv[1:]:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run(["check", path, "--json"], isolated=False)
    confine(MEMORY, SECONDS)
    sys.addaudithook(watch)
    for line in sys.stdin:
        path = Path(json.loads(line))
        out, err = io.StringIO(), io.StringIO()
        opened.clear()
        started.clear()
        before = time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["check", str(path), "--json"], isolated=False)
        found = {
            "code": code,
            "out": out.getvalue(),
            "err": err.getvalue(),
            "seconds": time.process_time() - before,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "outside": [name for name in opened if outside(name, path.parent)],
            "started": list(started),
        }
        results.write(json.dumps(found) + "\n")
        results.flush()


if __name__ == "__main__":
    main()
