"""What only the leading process may decide, told to all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from convoy import exits
from trainer.engines.protocol import Engine

_ERRORS = {one.code: one for one in (exits.TryAgain, exits.BadData, exits.Diverged, exits.CannotRun, exits.Stopped)}


def decide(engine: Engine, decision: Callable[[], Any]) -> Any:
    """What `decision` returns in the leading process, which alone calls it; JSON's types. Its error ends all of them."""
    if engine.cluster.processes == 1:
        return decision()
    if not engine.cluster.leads:
        told = json.loads(engine.share(b""))
        if "code" in told:
            raise _ERRORS[told["code"]](f"the leading process said: {told['error']}")
        return told["value"]
    try:
        value = decision()
    except exits.ConvoyError as error:
        engine.share(json.dumps({"code": error.code, "error": str(error)}).encode())
        raise
    engine.share(json.dumps({"value": value}).encode())
    return value
