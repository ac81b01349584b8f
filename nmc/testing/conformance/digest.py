"""The hash of an emitted program, made in a process of its own: ``python -m`` this module."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from nmc.backends.api import Backend, Payload
from nmc.ir.diagnostic import NmcError
from nmc.testing.conformance.bench import Bench, cases


def payload_digest(payload: Payload) -> str:
    """SHA-256 over paths and contents, hex."""
    digest = hashlib.sha256()
    for name in sorted(payload):
        digest.update(f"{name}\0{len(payload[name])}\0".encode())
        digest.update(payload[name])
    return digest.hexdigest()


def digest_elsewhere(backend: type[Backend], case: str, timesteps: int, hash_seed: int) -> str:
    """The digest of a case compiled in another process, folder and order of hashes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "digest"
        path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": path}
        arguments = [backend.__module__, backend.__qualname__, case, str(timesteps), str(out)]
        done = subprocess.run(
            [sys.executable, "-m", "nmc.testing.conformance.digest", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return out.read_text(encoding="utf-8") if out.exists() else done.stderr


def main(module: str, name: str, case: str, timesteps: str, out: str) -> None:
    """Compile one case of one backend and write its digest to a file."""
    backend = getattr(importlib.import_module(module), name)
    bench = Bench(backend, int(timesteps))
    (chosen,) = (c for c in cases(backend().targets()) if str(c) == case)
    made = bench.attempt(chosen)
    Path(out).write_text(str(made) if isinstance(made, NmcError) else payload_digest(made.payload), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
