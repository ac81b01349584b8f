"""The light models of the ``onnx`` package: prints one row per file.

    python benchmarks/light_models.py [--only WORD] [--target loihi2] [--coding graded] [--json FILE]

These are the ImageNet networks that every exporter is tried with, their weights replaced by one
value, so their outputs say nothing; they are measured for time and memory. Each is compiled up to
its integers by a process of its own, as ``nmc compile --stop-after quantize`` does, without
calibration data. Memory is the largest proportional set size of that process and all of its
children together, sampled five times a second; processor time is that of all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

MEMORY_WANTED = 3 << 30
SECONDS_WANTED = 60.0

INTERVAL = 0.2
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        check, read, convert: seconds by the clock: ``nmc check``; reading and proving the file; simplify to quantize.
        processor: seconds of all processes of the compile.
        memory: bytes.
        refusal: slugs, where it was refused.
    """

    model: str
    check: float
    read: float
    convert: float
    processor: float
    memory: int
    neurons: int
    synapses: int
    refusal: str


def compile_one(model: Path, target: str, coding: str) -> dict[str, object]:
    """Compile up to the integers, in this process and the reader's."""
    from nmc.backends.api import Options
    from nmc.compiler.driver import CompileRequest, compile_file
    from nmc.ir.diagnostic import NmcError
    from nmc.ir.network import Network

    begin = time.perf_counter()
    request = CompileRequest(target, Options(coding=coding), stop_after="quantize", isolated=True)
    try:
        made = compile_file(model, request)
    except NmcError as error:
        slugs = ", ".join(dict.fromkeys(d.slug for d in error.diagnostics))
        return {"read": time.perf_counter() - begin, "refusal": slugs}
    network, seconds = made.program, dict(made.seconds)
    if not isinstance(network, Network):
        raise SystemExit(f"{model.name}: no network")
    return {
        "read": seconds["import"],
        "convert": sum(value for name, value in seconds.items() if name != "import"),
        "neurons": sum(p.neurons for p in network.populations),
        "synapses": sum(synapses(p.connectivity) for p in network.projections),
    }


def synapses(connectivity: object) -> int:
    """Synapses of a projection, as the report of a compile counts them."""
    from nmc.passes.simplify.compose import synapse_bound

    return synapse_bound(connectivity)  # type: ignore[arg-type]


def tree(process: int) -> list[int]:
    """A process and its children, theirs included."""
    found = [process]
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            children = Path(f"/proc/{process}/task/{thread}/children").read_text().split()
            found += [one for child in children for one in tree(int(child))]
    except OSError:
        pass  # it has ended
    return found


def memory_of(process: int) -> int:
    """Bytes of memory of one process, what it shares with others counted in parts."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def measure(model: Path, target: str, coding: str) -> Row:
    """Check and compile one model, each in processes of its own."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "nmc", "check", str(model)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    check = time.perf_counter() - begin
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    worker = [sys.executable, __file__, "--worker", str(model), "--target", target, "--coding", coding]
    memory = 0
    with subprocess.Popen(worker, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            memory = max(memory, sum(map(memory_of, tree(process.pid))))
            time.sleep(INTERVAL)
        answer = json.loads(process.stdout.read()) if process.stdout is not None and process.returncode == 0 else None
    if answer is None:
        raise SystemExit(f"{model.name}: the compile ended with status {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    known = {"convert": 0.0, "neurons": 0, "synapses": 0, "refusal": ""} | answer
    return Row(model.stem.removeprefix("light_"), check, processor=processor, memory=memory, **known)


def line(row: Row) -> str:
    """One row of the Markdown table."""
    if row.refusal:
        sizes, met = f"refused: {row.refusal} | | ", "yes"
    else:
        sizes = f"{row.neurons:,} | {row.synapses:,} | "
        met = "yes" if row.memory < MEMORY_WANTED and row.processor < SECONDS_WANTED else "NO"
    times = f"{row.check:.1f} | {row.read:.1f} | {row.convert:.1f} | {row.processor:.1f} | {row.memory / 2**30:.2f}"
    return f"| {row.model} | {times} | {sizes}{met} |"


HEADER = (
    "| model | check (s) | read (s) | convert (s) | processor (s) | memory (GiB) | neurons | synapses | met |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|---|"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="loihi2")
    parser.add_argument("--coding", default="graded")
    parser.add_argument("--only", default="", help="only files with this word in their name")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        print(json.dumps(compile_one(arguments.worker, arguments.target, arguments.coding)))
        return
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    print(f"{arguments.target}, {arguments.coding} coding; Python {platform.python_version()}\n\n{HEADER}", flush=True)
    rows = []
    for model in sorted(folder.glob("*.onnx")):
        if arguments.only in model.stem:
            rows.append(measure(model, arguments.target, arguments.coding))
            print(line(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
