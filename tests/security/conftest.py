"""Fixtures of the tests of security."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from convoy import exits
from convoy.launch import cli


@pytest.fixture
def launch(capsys) -> Callable[..., tuple[int, str]]:
    """Words after `convoy launch` -> (exit code, stdout, stderr and the sentence of a refusal)."""

    def call(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        sentence = ""
        try:
            code = cli.LAUNCH(list(words))
        except exits.ConvoyError as error:
            code, sentence = error.code, str(error)
        printed = capsys.readouterr()
        return code, printed.out + printed.err + sentence

    return call
