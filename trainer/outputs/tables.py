"""Tables of texts for Python's prompt and for notebooks. Imports nothing heavy."""

from __future__ import annotations

import html
from collections.abc import Sequence


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], last: str = "") -> str:
    """Columns, each as wide as its widest cell, and a last line."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, last] if last else text)


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]], last: str = "") -> str:
    """The same as HTML; every text is escaped."""

    def line(tag: str, cells: Sequence[str]) -> str:
        style = ' style="text-align: left"'
        return f"<tr>{''.join(f'<{tag}{style}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line("td", row) for row in rows)
    end = f"<p>{html.escape(last)}</p>" if last else ""
    return f"<table><thead>{line('th', headings)}</thead><tbody>{body}</tbody></table>{end}"
