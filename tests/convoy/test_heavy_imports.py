"""TensorFlow and Keras are imported without the packages that they only look for, and without a search for garbage."""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys

import pytest

from convoy.imports import absent, lasting

# A run that ends with the names of all packages that its first step needed.
PROGRAM = """
import json, os, sys
from convoy import chaos
def at(self, phase, step):
    if phase == "snapshot":
        packages = {name for name, module in sys.modules.items() if module is not None and name.count(".") < 3}
        print(json.dumps([sorted(packages), __import__("gc").get_freeze_count()]), flush=True)
        os._exit(0)
chaos.Chaos.at = at
from convoy.trainer import run
run.main(sys.argv[1:])
"""
NEVER = {
    "IPython", "sklearn", "matplotlib", "jinja2", "pandas", "torch", "scipy.stats", "scipy.ndimage", "scipy.optimize",
    "tensorflow_datasets", "google.cloud.storage", "kubernetes", "keras_hub", "yaml", "wandb", "mlflow", "trackio",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.thorough)])
def test_a_first_step_needs_none_of_these(backend, tmp_path):
    flags = ["--dataset=digits", "--duration=1st", "--devices=cpu:1", f"--backend={backend}", "--run_dir=run"]
    argv = [sys.executable, "-c", PROGRAM, *flags]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    packages, frozen = json.loads(done.stdout.splitlines()[-1])
    assert {backend, "keras", "numpy"} <= set(packages)
    never = NEVER if backend == "jax" else NEVER | {"jax", "jaxlib"}
    assert never & set(packages) == set()
    assert frozen > 100_000


def test_what_lasts_is_not_searched_for_garbage():
    before = gc.get_freeze_count()
    with lasting():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    gc.unfreeze()
    with pytest.raises(ZeroDivisionError), lasting():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_package_is_absent_within_and_importable_afterwards(tmp_path, monkeypatch):
    (tmp_path / "looked_for.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with absent("looked_for"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("looked_for")
    assert "looked_for" not in sys.modules
    assert importlib.import_module("looked_for").__name__ == "looked_for"


def test_a_package_that_was_imported_before_stays():
    with absent("pytest"):
        assert importlib.import_module("pytest") is pytest
