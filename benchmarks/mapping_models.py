"""Real networks compiled onto a chip: mapped, or refused with the reason. Prints a Markdown table.

    python benchmarks/mapping_models.py --data DIR [--only WORD,...] [--coding graded] [--json FILE]

DIR holds ``models/*.onnx`` and ``real_onnx/*.onnx``; the light networks of the installed ``onnx``
package (their weights are constants) are compiled too. Each file is one ``nmc compile`` in a process
of its own, on seeded inputs, on one chip; where the answer is that more chips are needed, a second
one with as many as it names. Seconds and memory are those of both processes, loading included. What the
mapping of the last one took (partition, placement, routes, check) is its share of the time by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import onnx

MEMORY_GB = 12
"""A compile that takes more is stopped."""

MAPPING = ("partition", "place", "route", "check")
"""The stages of the mapping."""


@dataclass(frozen=True)
class Row:
    """What became of one file."""

    model: str
    result: str
    chips: int = 1
    cores: int = 0
    neurons: int = 0
    split: int = 0
    mapping: float = 0.0
    cpu: float = 0.0
    wall: float = 0.0
    peak_mb: int = 0


@dataclass(frozen=True)
class Run:
    """One process: its exit code and document, and what it took."""

    code: int
    document: dict
    cpu: float
    wall: float
    peak_mb: int


def compiled(model: Path, target: str, coding: str, chips: int, seconds: int) -> Run:
    """``nmc compile`` of one file, stopped after ``seconds`` of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nmc", "compile", str(model), "--target", target, "--coding", coding]
        command += ["--chips", str(chips), "--json", "-o", str(Path(folder) / "out.nmc")]

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GB << 30, MEMORY_GB << 30))

        begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=limited) as child:
            out = child.stdout.read() if child.stdout else b""
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    # The reader is a child of the child.
    cpu = max(cpu, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    document = json.loads(out) if out.strip() else {}
    return Run(child.returncode, document, cpu, time.perf_counter() - begin, used.ru_maxrss // 1000)


def row(model: Path, target: str, coding: str, seconds: int) -> Row:
    """Compile a file, with as many chips as it asks for."""
    runs = [compiled(model, target, coding, 1, seconds)]
    chips = 1
    errors = [d for d in runs[0].document.get("diagnostics", []) if d["severity"] == "error"]
    more = [re.search(r"--chips (\d+)", d["help"] or "") for d in errors if d["slug"] == "too-many-cores"]
    if more and more[0]:
        chips = int(more[0][1])
        runs.append(compiled(model, target, coding, chips, seconds))
    last = runs[-1]
    cpu, wall = sum(run.cpu for run in runs), sum(run.wall for run in runs)
    peak = max(run.peak_mb for run in runs)
    if last.code != 0:
        found = [d for d in last.document.get("diagnostics", []) if d["severity"] == "error"]
        reason = f"{found[0]['slug']}: {found[0]['message']}" if found else "stopped: too slow or too large"
        more_errors = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return Row(model.stem, f"exit {last.code}, {reason}{more_errors}", chips, cpu=cpu, wall=wall, peak_mb=peak)
    split = sum(d["slug"] == "fan-in-split" for d in last.document["diagnostics"])
    cores, neurons = last.document["cores_used"], last.document["neurons"]
    return Row(
        model.stem, "mapped", chips, cores, neurons, split, last.cpu * mapping_share(last.document), cpu, wall, peak
    )


def mapping_share(document: dict) -> float:
    """The part of a compile's time that its mapping stages took."""
    seconds = {stage["name"]: stage["seconds"] for stage in document["stages"]}
    return sum(seconds.get(name, 0.0) for name in MAPPING) / sum(seconds.values())


def models(data: Path) -> list[Path]:
    """All files."""
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    folders = (data / "models", data / "real_onnx", light)
    return [path for folder in folders for path in sorted(folder.glob("*.onnx"))]


def line(found: Row) -> str:
    """A row of the table."""
    numbers = f"{found.chips} | {found.cores:,} | {found.neurons:,} | {found.split}" if found.cores else "| | |"
    times = (
        f"{found.mapping:.1f} | {found.cpu:.1f} | {found.wall:.1f}"
        if found.cores
        else f"| {found.cpu:.1f} | {found.wall:.1f}"
    )
    return f"| {found.model} | {found.result} | {numbers} | {times} | {found.peak_mb:,} |"


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--target", default="loihi2")
    parser.add_argument("--coding", default="graded")
    parser.add_argument("--only", default="", help="files whose names contain one of these words")
    parser.add_argument("--seconds", type=int, default=120, help="of the processor, for one compile")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    words = arguments.only.split(",")
    print(
        "| file | result | chips | cores | neurons | split | mapping (CPU s) | CPU (s) | wall (s) | peak memory (MB) |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    rows = []
    for model in models(arguments.data):
        if any(word in model.stem for word in words):
            rows.append(row(model, arguments.target, arguments.coding, arguments.seconds))
            print(line(rows[-1]), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([vars(r) for r in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
