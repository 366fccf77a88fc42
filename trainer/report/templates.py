"""Fills the pages' templates, which stand beside this file. Every value is escaped."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined


def render(name: str, **values: Any) -> bytes:
    """A page in UTF-8.

    Args:
      name: of the template.
      values: all that it names.
    """
    return _environment().get_template(name).render(values).encode("utf-8", "backslashreplace")


@functools.cache
def _environment() -> Environment:
    loader = FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
