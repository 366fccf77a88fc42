"""The wheel, installed where no source tree is, run from a directory with ./data and ./trainer of its own."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile

import pytest

from support import REPOSITORY, result_of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # From a copy: a build in the source tree would leave its folders there.
    source, out = tmp_path_factory.mktemp("source") / "convoy", tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def test_it_holds_every_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if name.endswith(".py")}
    ours = {
        str(path.relative_to(REPOSITORY))
        for floor in ("convoy", "data", "trainer", "launch")
        for path in (REPOSITORY / floor).rglob("*.py")
    }
    assert packaged == ours, "setup.py lists every package by hand"
    assert "launch/k8s/README.md" in names


def test_digits_train_beside_folders_of_the_same_names(wheel, tmp_path):
    # A new environment with Convoy's wheel; the dependencies are lent by this one through a .pth file, which takes no
    # part of an editable installation along.
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment / "lib" / version / "site-packages"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", packages, wheel],
        check=True,
    )
    (packages / "lent.pth").write_text(site.getsitepackages()[0] + "\n")
    work = tmp_path / "work"
    for name in ("data", "trainer", "launch", "convoy"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text(f"raise SystemExit('this is the user\\'s own {name}')\n")
    program = "import sys; sys.argv[0] = 'convoy'; from convoy.cli import main; main()"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [environment / "bin" / "python", "-P", "-c", program, "train", "--duration=20st", "--run_dir=runs/x"],
        cwd=work, env=clean, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert result_of(work / "runs" / "x")["step"] == 20
    where = subprocess.run(
        [environment / "bin" / "python", "-P", "-c", "import trainer; print(trainer.__file__)"],
        cwd=work, env=clean, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(packages))
