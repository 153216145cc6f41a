"""Every notebook runs from top to bottom, and what it shows to readers names no place on a machine."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import scenarios

NOTEBOOKS = sorted((Path(scenarios.__file__).parent / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    notebook = read(path)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}})
    asyncio.run(client.async_execute())  # execute() would leave a loop open


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_with_its_outputs(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = str([cell.outputs for cell in cells])
    assert "stderr" not in shown
    assert not re.search(r"(?<![\w<])/(home|root|tmp|usr|work|Users)\b", shown)
