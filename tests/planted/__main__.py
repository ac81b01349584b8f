"""The score of the planted bugs: ``python -m tests.planted [part of a name or stage ...]``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.planted.catalogue import BUGS, MISSED
from tests.planted.score import Bench, line


def main() -> int:
    """Print one line for each bug and the score; 1 if it is not what the catalogue says."""
    wanted = sys.argv[1:]
    chosen = [bug for bug in BUGS if not wanted or any(text in f"{bug.stage} {bug.name}" for text in wanted)]
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for bug in chosen:
            verdicts.append(bench.judge(bug))
            sys.stdout.write(line(verdicts[-1]) + "\n")
            sys.stdout.flush()
    caught = sum(bool(v.check) for v in verdicts)
    always = sum(v.mode == "every compile" for v in verdicts)
    sys.stdout.write(
        f"{caught} of {len(verdicts)} planted bugs stop the compile ({caught / max(len(verdicts), 1):.1%}); "
        f"{always} stop every compile, the others --verify full\n"
    )
    surprising = [v for v in verdicts if bool(v.check) is (v.bug.name in MISSED) or not v.effect]
    return 1 if surprising else 0


if __name__ == "__main__":
    sys.exit(main())
