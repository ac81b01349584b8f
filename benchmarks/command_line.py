"""How quickly the command line answers: the median of runs in fresh processes.

    python benchmarks/command_line.py [--runs 7]

Goals: ``nmc --help`` within 0.3 s, ``nmc check`` within 3 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

MODEL = Path(str(files("nmc.demo"))) / "digits_cnn.onnx"
COMMANDS = (
    (("--help",), 0.3),
    (("check", str(MODEL)), 3.0),
    (("check", str(MODEL), "--target", "loihi"), 3.0),
)


def seconds(arguments: tuple[str, ...]) -> float:
    """Wall time of one command in a new process."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "nmc", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    """Print one row per command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print("| command | median (s) | goal (s) |\n|---|--:|--:|")
    for arguments, goal in COMMANDS:
        seconds(arguments)  # fills the caches
        median = statistics.median(seconds(arguments) for _ in range(runs))
        shown = " ".join(Path(a).name if a.endswith(".onnx") else a for a in arguments)
        print(f"| `nmc {shown}` | {median:.2f} | {goal} |")


if __name__ == "__main__":
    main()
