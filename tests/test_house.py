"""The house: floors, habits, and documents that say what the code does."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))


@pytest.mark.parametrize(
    "tool",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]],
    ids=["ruff check", "ruff format", "mypy", "import-linter"],
)
def test_make_lint(tool):
    """What `make lint` runs, so that a change that fails it fails here too."""
    script = Path(sys.executable).parent / tool[0]
    done = subprocess.run([script, *tool[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ".join(tool) in (REPOSITORY / "Makefile").read_text()


def tracked(pattern: str) -> list[Path]:
    done = subprocess.run(["git", "ls-files", pattern], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in done.stdout.splitlines() if (REPOSITORY / name).is_file()]


def test_the_tables_of_the_documents_are_those_of_the_results():
    import tables

    for page in tables.PAGES:
        text = page.read_text()
        assert "<!-- table" in text
        assert tables.filled(page) == text, "run `python benchmarks/tables.py`"


def test_every_table_of_the_documents_has_its_command():
    import tables

    argv = [sys.executable, "benchmarks/all.py", "--list"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(tables.TABLES)


def test_every_row_of_the_results_has_the_columns_of_its_file():
    for path in tracked("benchmarks/results/*.csv"):
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        assert [row for row in rows if len(row) != len(header)] == [], path.name


def test_every_flag_in_the_documents_exists():
    from convoy.cli import CONVOY
    from convoy.options import fields

    classes = [cls for _, verb in CONVOY.verbs() for cls in verb.classes()]
    known = {field.name for field in fields(*classes)} | {"flagfile", "help", "version"}
    for page in [REPOSITORY / "README.md", *tracked("docs/*.md"), *tracked("recipes/*.flags")]:
        # Lines that show commands of Convoy; pip and others have flags of their own.
        for line in page.read_text().splitlines():
            if "convoy " in line or line.startswith("--"):
                for flag in re.findall(r"--([a-z_]+)", line):
                    assert flag.removeprefix("no") in known or flag in known, f"{page.name}: --{flag}"


def test_every_link_in_the_documents_leads_somewhere():
    for page in tracked("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(REPOSITORY)} -> {target}"


@pytest.mark.slow
def test_python_in_the_readme_runs(tmp_path):
    """The model of the README's six lines builds and is accepted."""
    block = re.search(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert block, "the README shows how to bring a model of one's own"
    (tmp_path / "my_model.py").write_text(block[1])
    program = (
        "import convoy.trainer.models.build, sys\n"
        "model = convoy.trainer.models.build.build_model('my_model:build', (32, 32, 3), 10)\n"
        "print(model.count_params())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_every_name_is_a_literal_or_checked():
    """convoy.outside.Name is a place inside a root: written down here, or made by name_in and below, never by a cast."""
    import ast

    for path in [path for floor in ("convoy", "data", "trainer", "launch") for path in tracked(f"{floor}/*.py")]:
        tree = ast.parse(path.read_text())
        imported = {
            name.asname or name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "convoy.outside"
            for name in node.names
        }
        for node in ast.walk(tree) if "Name" in imported else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Name":
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}: use name_in or below"
