"""The reason of a system error within a sentence."""

from __future__ import annotations

import ast

import pytest

from convoy import exits
from support import REPOSITORY


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(13, "Permission denied", "x"), "permission denied"),
        (OSError("Odd"), "odd"),
        (ValueError("embedded null byte"), "embedded null byte"),
    ],
)
def test_the_reason_of_an_error_stands_within_a_sentence(error, words):
    assert exits.reason(error) == words


def test_no_file_makes_that_text_itself():
    """Only exits.reason reads `error.strerror`, and code whose cause may have none."""
    may = {"exits.py", "gcs_errors.py", "errors.py", "originals.py"}
    for floor in ("convoy", "data", "trainer", "launch"):
        for path in (REPOSITORY / floor).rglob("*.py"):
            if path.name in may or any(part.is_symlink() for part in path.parents):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                assert not (isinstance(node, ast.Attribute) and node.attr == "strerror" and _of_an_error(node)), path


def _of_an_error(node: ast.Attribute) -> bool:
    return not (isinstance(node.value, ast.Name) and node.value.id == "os")
