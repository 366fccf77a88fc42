"""The screen of a command in a notebook: what convoy.trainer.outputs.display is on a terminal. Imports nothing heavy."""

from __future__ import annotations

import html
import sys
from typing import Any


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, the one of IPython's shells that shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


class NotebookDisplay:
    """Prints lines in the cell that runs; a bar among them moves in its place and stays as it was at the end."""

    def __init__(self) -> None:
        self._step, self._total, self._text = 0, 0, ""
        self._handle: Any = None  # of what is displayed

    def line(self, text: str) -> None:
        print(text)

    def move(self, step: int, total: int, text: str) -> None:
        """Moves the bar to `step` of `total`; the first time, opens it."""
        if (step, total, text) == (self._step, self._total, self._text):
            return
        self._step, self._total, self._text = step, total, text
        if self._handle is None:
            from IPython.display import display

            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)

    def __repr__(self) -> str:
        return f"{self._step:,} of {self._total:,} {self._text}"

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self._step}" max="{self._total}" style="width: 40%"></progress>'
        return f"{bar} {html.escape(repr(self))}"
