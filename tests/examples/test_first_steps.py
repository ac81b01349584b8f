"""The notebook runs from its first cell to its last, shows tables, and is kept without results."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "first_steps.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list:
    """The code cells after a run in a kernel of their own."""
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    asyncio.run(client.async_execute())
    assert "<svg" in (folder / "digits.html").read_text(encoding="utf-8")
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells: list, source: str) -> dict:
    """What the cell that begins so shows."""
    (cell,) = [cell for cell in cells if cell.source.startswith(source)]
    return next(output["data"] for output in cell.outputs if output.output_type == "execute_result")


def test_results_show_as_tables(cells: list) -> None:
    for source in ("nmc.check", "compiled =", "x, y =", "verification =", "older =", "graded ="):
        assert "<table>" in shown(cells, source)["text/html"], source
    compiled = shown(cells, "compiled =")["text/html"]
    assert "relu2" in compiled and "davies2018" in compiled and "static, apart" in compiled
    evaluation = shown(cells, "x, y =")["text/html"]
    assert "mapped" in evaluation and "<svg" in evaluation and "over timesteps" in evaluation


def test_the_numbers_are_those_of_a_good_network(cells: list) -> None:
    words = shown(cells, "loss =")["text/plain"].strip("'").split()
    assert float(words[0]) < 1.0
    assert 1 < int(words[3]) < int(words[5]) == 32
    energies = ast.literal_eval(shown(cells, "energies =")["text/plain"])
    low = {name: float(text.split()[0]) for name, text in energies.items()}
    assert set(low) == {"loihi1", "loihi2", "loihi2 graded"}
    assert 0 < low["loihi2 graded"] < low["loihi2"]


def test_it_is_kept_without_results_and_imports_only_nmc() -> None:
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    tree = ast.parse("\n".join(cell.source for cell in code))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported == {"nmc"} and not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
