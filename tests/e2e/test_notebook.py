"""The page on notebooks, executed in one."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from jupyter_client.manager import KernelManager
from PIL import Image, ImageDraw

from support import REPOSITORY

pytestmark = pytest.mark.thorough


def draw(path: Path, shape: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    image = Image.fromarray(chance.integers(0, 80, (40, 44, 3), np.uint8))
    left, top, side = chance.integers(2, 12), chance.integers(2, 10), chance.integers(16, 26)
    getattr(ImageDraw.Draw(image), shape)((left, top, left + side, top + side), fill=(220, 200, 60))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for split, each in (("train", 40), ("test", 10)):
        for name, shape in (("circle", "ellipse"), ("square", "rectangle")):
            for index in range(each):
                draw(tmp_path / "photos" / split / name / f"{index:02}.png", shape, each + index)
    draw(tmp_path / "new" / "a.png", "ellipse", 1)
    draw(tmp_path / "new" / "b.png", "rectangle", 2)
    (tmp_path / "new" / "notes.png").write_text("no image")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return tmp_path


def executed(cells: list[str], home: Path, **how) -> list[nbformat.NotebookNode]:
    """The cells of a notebook that was run in a folder."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(home)}}, **how)
    client.execute()
    return notebook.cells


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def values(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output.data for output in cell.outputs if output.output_type in ("display_data", "execute_result")]


def test_the_page_does_what_it_says(home: Path):
    page = (REPOSITORY / "docs" / "notebook.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    three, wrong, measured, predicted, opened, light = executed(
        [*blocks, "import sys; sorted({'tensorflow', 'keras', 'jax'} & sys.modules.keys())"], home
    )
    assert re.search("^Convoy: .* on folder:photos$", printed(three), re.MULTILINE)
    assert "20 test examples right" in printed(three)
    bar, files, table = values(three)
    assert files["text/plain"] == "3 of 3 files"
    assert re.search(r'<progress value="(\d+)" max="\1"', bar["text/html"]), "the bar is at its end"
    assert re.fullmatch(r"(\d+) of \1 steps: epoch 10\.\d, loss \d.*images/s", bar["text/plain"])
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table["text/html"].split("<tr>")[2:]]
    assert [row[:2] for row in rows] == [["new/a.png", "circle"], ["new/b.png", "square"], ["new/notes.png", ""]]
    # What else is read depends on the decoders that are installed.
    assert re.fullmatch("cannot be decoded: it is no JPEG, PNG, GIF, BMP.* or .* image", rows[2][3])
    assert "convoy: 1 of the 3 files could not be read" in printed(three)
    assert printed(wrong) == "convoy.train has no argument modle; did you mean model?\n"
    assert re.fullmatch(r"\(\d\.\d+, \d\.\d+\)", values(measured)[0]["text/plain"])
    assert "('new/a.png', 'circle'" in values(predicted)[-1]["text/plain"]
    assert float(values(opened)[0]["text/plain"]) > 0.8
    assert values(light)[0]["text/plain"] == "[]"


STOP = """
import convoy
try:
    convoy.train("digits", duration="1000000st", steps_per_loop=1, run_dir="run", schedule="constant")
except convoy.exits.Stopped as error:
    print("Stopped:", error)
"""


def test_an_interrupt_of_the_kernel_saves_the_run(home: Path):
    def interrupt() -> None:
        while not (home / "run" / "metrics.jsonl").exists():
            time.sleep(0.1)
        manager.interrupt_kernel()

    manager = KernelManager(kernel_name="python3")
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    (cell,) = executed([STOP], home, km=manager)
    assert re.search(r"Stopped: stopped, saved at step \d+\.\s+This continues it:\s+convoy train", printed(cell))
    assert list((home / "run" / "checkpoints").iterdir())
