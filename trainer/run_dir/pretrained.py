"""pretrained.json: which weights a run was begun with. Kept before its first step, for result.json: it reads them only once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from convoy import shapes
from convoy.bounds import whole
from convoy.outside import parse_object
from convoy.store import Store
from convoy.trainer.run_dir.files import PRETRAINED

_COUNT = whole(0, 1 << 40)
_SHAPE = {
    "source": str,
    "kind": str,
    "sha256": str,
    "loaded": _COUNT,
    "left": [str],
    "left_count": _COUNT,
    "classes_kept": _COUNT,
    "classes_new": _COUNT,
}


def keep(store: Store, record: Mapping[str, object]) -> None:
    store.put(PRETRAINED, json.dumps(record, indent=1).encode())


def known(store: Store) -> dict[str, Any] | None:
    """None for a run with first weights of its own; exits.BadData for a file that is something else."""
    place = f"{store.url}/{PRETRAINED}"
    try:
        record: dict[str, Any] = shapes.check(parse_object(store.get(PRETRAINED), place), _SHAPE, place)
    except FileNotFoundError:
        return None
    return {name: record[name] for name in _SHAPE}
