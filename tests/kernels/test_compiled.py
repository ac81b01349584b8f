"""Compiled kernels are found again, and never after a source that they are made of has changed."""

import subprocess
import sys
from pathlib import Path

from nmc.kernels import compiled, fused_steps

CALLER = "from nmc.kernels.inner import weight\n\n\ndef twice(x):\n    return 2 * weight(x)\n"


def test_a_kernel_is_made_of_its_file_and_all_it_imports(tmp_path: Path) -> None:
    (tmp_path / "outer.py").write_text(CALLER)
    (tmp_path / "inner.py").write_text("from nmc.kernels.deep import x\nfrom nmc.kernels.outer import twice\n")
    (tmp_path / "deep.py").write_text("x = 1\n")
    (tmp_path / "other.py").write_text("y = 1\n")
    names = [path.name for path in compiled.kernel_sources(tmp_path / "outer.py")]
    assert names == ["deep.py", "inner.py", "outer.py"]
    before = compiled.cache_folder(tmp_path / "outer.py")
    (tmp_path / "other.py").write_text("y = 2\n")
    assert compiled.cache_folder(tmp_path / "outer.py") == before
    (tmp_path / "deep.py").write_text("x = 2\n")
    assert compiled.cache_folder(tmp_path / "outer.py") != before


def test_vector_kernels_depend_on_their_generators() -> None:
    names = {path.name for path in compiled.kernel_sources(Path(fused_steps.__file__))}
    assert {"fused_steps.py", "dot.py", "fire.py", "vectors.py", "tiers.py"} <= names


def test_a_folder_that_cannot_be_written_costs_no_more_than_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code = "from nmc.kernels.neurons import *\nprint(LIF_PLAIN)"
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr
