"""The screen of a run in a notebook: what convoy.trainer.outputs.display is on a terminal. Imports nothing heavy."""

from __future__ import annotations

import html
import sys
from types import TracebackType
from typing import Any


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, the one of IPython's shells that shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


class NotebookDisplay:
    """Prints lines in the cell that runs; a bar among them moves in its place and stays as it was at the end."""

    def __init__(self) -> None:
        self._step, self._total, self._text = 0, 0, "starting"
        self._handle: Any = None  # of what is displayed

    def line(self, text: str) -> None:
        print(text)

    def start(self, total: int, step: int) -> NotebookDisplay:
        """Opens the bar at `step` of `total` steps."""
        from IPython.display import display

        self._step, self._total = step, total
        self._handle = display(self, display_id=True)
        return self

    def update(self, step: int, epoch: float, images_per_second: float, wait: float | None, loss: float) -> None:
        """Moves the bar."""
        text = f"epoch {epoch:.1f}, loss {loss:.3f}, {images_per_second:,.0f} images/s"
        if (step, text) != (self._step, self._text):
            self._step, self._text = step, text
            self._handle.update(self)

    def __repr__(self) -> str:
        return f"step {self._step:,} of {self._total:,}: {self._text}"

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self._step}" max="{self._total}" style="width: 40%"></progress>'
        return f"{bar} {html.escape(repr(self))}"

    def __enter__(self) -> NotebookDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
