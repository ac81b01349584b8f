"""Other tools beside ours: one small module for each, run in an interpreter that has them (the extra ``peers``).

Nothing in here imports nmc: ``python -m peers.NAME FILE.npz`` reads what `ask` wrote and prints one JSON document
on its last line. What is not installed is "not run"; no number of theirs is stored anywhere.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

REQUIRED = {
    "torch": "torch",
    "spikingjelly": "spikingjelly.activation_based",
    "sinabs": "sinabs",
    "simulate_spikingjelly": "spikingjelly.activation_based",
    "simulate_sinabs": "sinabs",
    "brian2": "brian2",
    "nest": "nest",
    "simulate_sanafe": "sanafe",
}
"""The package that each module needs, besides NumPy."""


def missing(name: str, python: str) -> str | None:
    """Why a peer cannot run, or None."""
    done = subprocess.run([python, "-P", "-c", f"import {REQUIRED[name]}"], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return "not installed" if "ModuleNotFoundError" in last else last[:160]


def ask(name: str, python: str, seconds: float = 7200, **given: Any) -> dict[str, Any]:
    """What a peer prints for arrays and numbers; ``{"not run": reason}`` where it cannot run or fails.

    Args:
        name: of a module in this folder.
        python: an interpreter.
        seconds: after which it is stopped.
        given: arrays, numbers and texts.
    """
    reason = missing(name, python)
    if reason is not None:
        return {"not run": reason}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.npz"
        np.savez(path, **given)
        command = [python, "-m", f"peers.{name}", str(path)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return {"not run": f"stopped after {seconds:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"not run": (done.stderr.strip().splitlines() or ["failed without a word"])[-1][:300]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found
