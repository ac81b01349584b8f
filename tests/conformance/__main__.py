"""``python -m tests.conformance``: judge every case and print the score; ``--write`` freezes the outcomes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conformance.corpora import all_cases
from tests.conformance.expected import FILE, differences, expected_text, read_expected
from tests.conformance.judge import judge
from tests.conformance.score import table


def main() -> int:
    """0 if every case came out as expected, or the outcomes were written."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--write", action="store_true", help="freeze what does not match in refusals.toml")
    write = parser.parse_args().write
    cases = {case.name: case for case in all_cases()}
    with TemporaryDirectory() as folder:
        outcomes = {name: judge(case, Path(folder)) for name, case in cases.items()}
    sys.stdout.writelines(f"{line}\n" for line in table(cases, outcomes))
    if write:
        FILE.write_text(expected_text(outcomes), encoding="utf-8")
        return 0
    found = list(differences(outcomes, read_expected()))
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
