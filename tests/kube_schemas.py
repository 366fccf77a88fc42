"""Kubernetes' own schemas, made strict, each read once: the files have megabytes."""

from __future__ import annotations

import functools
from typing import Any

from kubernetes_validate import ValidationError, utils, validate

utils.schema_contents = functools.cache(utils.schema_contents)


def errors(thing: dict[str, Any], version: str) -> list[str]:
    """What is wrong with an object by the schemas of a version, with its place."""
    try:
        validate(thing, version, strict=True)
    except ValidationError as error:
        return [f"$.{'.'.join(map(str, error.path))}: {error.message}"]
    return []
