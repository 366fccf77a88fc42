"""Fixtures of the data floor's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from packed_sets import write_kinds

from convoy.data.config import DataConfig
from convoy.data.records.packing import pack


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a folder with image files of every kind, the same packed). Nobody changes them."""
    root = tmp_path_factory.mktemp("kinds")
    write_kinds(root / "folder")
    pack(DataConfig(f"folder:{root / 'folder'}"), root / "packed", 20_000)
    return root / "folder", root / "packed"
