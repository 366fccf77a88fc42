"""The small part of kustomize that k8s/ uses, written again: bases, components, namespace, JSON patches, strategic merges."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def build(folder: Path) -> list[Object]:
    """The documents of a folder with a kustomization.yaml; AssertionError for what this does not know."""
    kustomization = _parsed(folder / "kustomization.yaml")[0]
    assert kustomization.keys() <= {"apiVersion", "kind", "resources", "components", "namespace", "patches"}
    things = []
    for resource in kustomization["resources"]:
        place = folder / resource
        things += build(place) if place.is_dir() else _parsed(place)
    for component in kustomization.get("components", []):
        added = _parsed(folder / component / "kustomization.yaml")[0]
        assert added.keys() == {"apiVersion", "kind", "patches"}
        assert added["kind"] == "Component"
        _patch(things, added["patches"])
    for thing in things:
        if "namespace" in kustomization:
            thing["metadata"]["namespace"] = kustomization["namespace"]
    _patch(things, kustomization.get("patches", []))
    return things


def _parsed(place: Path) -> list[Object]:
    """The documents of a file: copies, which may be edited."""
    return copy.deepcopy(_read(place))


@functools.cache
def _read(place: Path) -> list[Object]:
    return list(yaml.safe_load_all(place.read_text()))


def _patch(things: list[Object], patches: list[Object]) -> None:
    for patch in patches:
        targets = [thing for thing in things if thing["kind"] == patch["target"]["kind"]]
        assert targets
        content = yaml.safe_load(patch["patch"])
        for target in targets:
            if isinstance(content, list):
                for operation in content:
                    _operate(target, **operation)
            elif content.get("$patch") == "delete":
                things.remove(target)
            else:
                _merge(target, content)


def _operate(target: Any, op: str, path: str, value: Any = None) -> None:
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:])
    for part in parents:
        target = target[int(part) if isinstance(target, list) else part]
    key = int(last) if isinstance(target, list) else last
    if op == "remove":
        del target[key]
        return
    # To replace something it has to be there.
    assert op == "add" or (op == "replace" and target[key] is not None)
    target[key] = value


def _merge(target: Object, change: Object) -> None:
    """Lists of named things are merged by name, other lists replaced."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif key in ("containers", "env", "volumes") and key in target:
            for thing in value:
                _merge(next(old for old in target[key] if old["name"] == thing["name"]), thing)
        else:
            target[key] = value
