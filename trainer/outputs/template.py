"""Pages for a browser, from templates in files beside the module that fills them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from convoy.outside import printable
from convoy.trainer.config import RunConfig


def filled(package: str, name: str, values: Mapping[str, Any]) -> bytes:
    """A template of a package with its values, which are text and never HTML: UTF-8. It may extend others of the package."""
    return _environment(package).get_template(name).render(values).encode("utf-8", "backslashreplace")


def title(config: RunConfig) -> str:
    """Of the page of a run."""
    return printable(f"{config.model} on {config.data.dataset}: {config.run_dir}")


@functools.cache
def _environment(package: str) -> Environment:
    loader = FunctionLoader(lambda name: resources.files(package).joinpath(name).read_text(encoding="utf-8"))
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
