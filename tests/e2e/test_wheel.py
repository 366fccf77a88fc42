"""The wheel, installed where no source tree is, run from a directory with ./data and ./trainer of its own."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from convoy.launch import render
from support import REPOSITORY, result_of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # From a copy: a build in the source tree would leave its folders there.
    source, out = tmp_path_factory.mktemp("source") / "convoy", tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_file() or (REPOSITORY / name).is_symlink():
            shutil.copy(REPOSITORY / name, source / name, follow_symlinks=False)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if name.endswith(".py")}
    floors = {"": "convoy", "data/": "data", "trainer/": "trainer", "launch/": "launch"}
    assert packaged == {
        f"convoy/{place}{path.relative_to(REPOSITORY / floor)}"
        for place, floor in floors.items()
        for path in (REPOSITORY / floor).rglob("*.py")
    }
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {"convoy"}
    assert "convoy/launch/k8s/README.md" in names
    assert {"convoy/trainer/report/page.html", "convoy/trainer/tryout/page.html"} <= set(names)
    assert {f"convoy/recipes/{path.name}" for path in (REPOSITORY / "recipes").iterdir()} <= set(names)


class Installation:
    """Convoy's wheel in an environment of its own, and a directory that holds folders of the names of its packages."""

    def __init__(self, wheel: Path, place: Path):
        environment, self.work = place / "env", place / "work"
        venv.create(environment, with_pip=False)
        self.python = environment / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = environment / "lib" / version / "site-packages"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        subprocess.run([*pip, "--target", self.packages, wheel], check=True)
        # The dependencies are lent by this one through a .pth file, which takes no part of an editable installation along.
        (self.packages / "lent.pth").write_text(site.getsitepackages()[0] + "\n")
        for name in ("data", "trainer", "launch", "convoy", "k8s"):
            (self.work / name).mkdir(parents=True)
            (self.work / name / "__init__.py").write_text(f"raise SystemExit('this is the user\\'s own {name}')\n")

    def run(self, program: str, *words: str) -> str:
        """What a program of Python prints; it has to succeed."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [self.python, "-P", "-c", program, *words],
            cwd=self.work, env=clean, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def convoy(self, *words: str) -> str:
        return self.run("import sys; sys.argv[0] = 'convoy'; from convoy.cli import main; main()", *words)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installation:
    return Installation(wheel, tmp_path_factory.mktemp("installed"))


def test_digits_train_beside_folders_of_the_same_names(installed):
    installed.convoy("train", "--duration=20st", "--run_dir=runs/x")
    assert result_of(installed.work / "runs" / "x")["step"] == 20
    assert installed.run("import convoy.trainer; print(convoy.trainer.__file__)").startswith(str(installed.packages))


@pytest.mark.parametrize("gang", ["jobset", "indexed"])
def test_an_installation_renders_the_documents_of_the_checkout(installed, gang, capsys):
    """From its own copy of k8s/base."""
    words = ["--target=k8s", "--name=rn50", "--image=registry.example.com/convoy:1", "--accelerator=l4x2", "--workers=4",
             f"--gang={gang}", "--", "--dataset=cifar10", "--run_dir=gs://b/r"]  # fmt: skip
    assert render.render(words) == 0
    assert installed.convoy("launch", "render", *words) == capsys.readouterr().out
