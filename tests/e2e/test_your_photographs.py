"""The commands of docs/your-photographs.md, as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support import DATA, environment, result_of

pytestmark = [pytest.mark.thorough, pytest.mark.slow]

DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = "--model=keras:MobileNetV3Large --pretrained=imagenet"  # downloaded by the page's reader


def commands(page: str) -> list[str]:
    return [line.strip() for line in page.splitlines() if re.match(r"    (convoy|python) ", line)]


def test_from_a_folder_to_a_prediction(tmp_path):
    weights = DATA / "pretrained" / "efficientnet_lite0"
    if not weights.is_dir():
        pytest.skip(f"no pretrained weights in {weights} (CONVOY_TEST_DATA)")
    lines = commands((DOCS / "your-photographs.md").read_text(encoding="utf-8"))
    assert [line.split()[0] for line in lines] == ["python", "convoy", "convoy", "convoy", "convoy"]
    assert sum(PUBLISHED in line for line in lines) == 1
    (tmp_path / "docs").symlink_to(DOCS)
    shown = []
    for line in lines:
        words = shlex.split(line.replace(PUBLISHED, f"--pretrained={weights}"))
        start = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "convoy"]
        done = subprocess.run(
            [*start, *words[1:]],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout)
    assert (tmp_path / "preview.png").stat().st_size > 100_000
    head, whole = result_of(tmp_path / "runs" / "leaves"), result_of(tmp_path / "runs" / "all")
    assert head["eval"]["accuracy"] == 1.0  # 15 images; the page shows that line
    assert whole["pretrained"]["classes_kept"] == 4
    rows = [line.split() for line in shown[3].splitlines() if line.startswith("new/")]
    right = [file for file, guess, *_ in rows if Path(file).name.startswith(guess)]
    assert len(rows) == 12
    assert len(right) >= 11
