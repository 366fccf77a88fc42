"""What only the leading process may decide, told to all; and how processes part."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from convoy import exits
from convoy.trainer.engines.protocol import Engine

_ERRORS = {one.code: one for one in (exits.TryAgain, exits.BadData, exits.Diverged, exits.CannotRun, exits.Stopped)}


def leader_decides(engine: Engine, decision: Callable[[], Any]) -> Any:
    """What `decision` returns in the leading process, which alone calls it; JSON's types. Its error ends all of them."""
    if engine.cluster.processes == 1:
        return decision()
    if not engine.cluster.is_leader:
        told = json.loads(engine.broadcast(b""))
        if "code" in told:
            final_barrier(engine)
            raise _ERRORS[told["code"]](f"the leading process said: {told['error']}")
        return told["value"]
    try:
        value = decision()
    except exits.ConvoyError as error:
        engine.broadcast(json.dumps({"code": error.code, "error": str(error)}).encode())
        final_barrier(engine)
        raise
    engine.broadcast(json.dumps({"value": value}).encode())
    return value


def final_barrier(engine: Engine) -> None:
    """Called by all after the last thing that they do together, before they leave.

    A sum over processes that has come to its end here may still be fetching from here elsewhere: who leaves then makes another
    one lose its peer. Who is in the next sum has the last one behind it; how this next one ends is of no account.
    """
    with contextlib.suppress(exits.TryAgain):
        engine.barrier()
