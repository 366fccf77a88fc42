"""TensorFlow and Keras are imported without the packages that they only look for."""

from __future__ import annotations

import importlib
import sys

import pytest

from convoy.imports import absent


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
