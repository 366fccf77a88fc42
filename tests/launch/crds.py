"""Schemas of custom resources, made strict: what a cluster would prune or pass over silently is an error."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import yaml

from support import DATA

JOBSET_VERSIONS = ("0.8.2", "0.12.0")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def validator(name: str) -> Any:
    """A validator of jsonschema for the objects of the definition NAME.yaml; the test is skipped where it is absent."""
    import jsonschema

    place = DATA / "crds" / f"{name}.yaml"
    if not place.is_file():
        pytest.skip(f"no {place.name} in {place.parent} (CONVOY_TEST_DATA)")
    definition = yaml.load(place.read_text(), Loader=_Loader)
    (version,) = (version for version in definition["spec"]["versions"] if version["storage"])
    return jsonschema.Draft202012Validator(strict(version["schema"]["openAPIV3Schema"]))


def errors(name: str, thing: dict[str, Any]) -> list[str]:
    """What is wrong with an object, each with its place."""
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(thing)]


def jobset_errors(version: str, thing: dict[str, Any]) -> list[str]:
    return errors(f"jobset-v{version}", thing)


def strict(schema: Any) -> Any:
    """A structural schema of Kubernetes -> one of JSON Schema that knows no other properties than those listed."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    result = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            result[key] = {name: strict(inner) for name, inner in value.items()}
        elif key in ("items", "additionalProperties", "anyOf", "allOf", "oneOf", "not"):
            result[key] = strict(value)
        elif key in ("enum", "required", "type", "pattern") or key.startswith(("min", "max")):
            result[key] = value
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("format") == "int32":
        result = {"minimum": -(2**31), "maximum": 2**31 - 1, **result}
    if schema.get("nullable") and "type" in result:
        result["type"] = [result["type"], "null"]
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result
