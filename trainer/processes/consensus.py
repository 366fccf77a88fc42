"""What the processes of a run agree on: the leader's decisions, requests to save and to leave, and the last barrier."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from convoy import exits, heartbeat
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.processes.signals import Signals

_ERRORS = {
    error.code: error for error in (exits.TryAgain, exits.BadData, exits.Diverged, exits.CannotRun, exits.Stopped)
}


def leader_decides(engine: Engine, decision: Callable[[], Any]) -> Any:
    """Returns in every process what `decision`, a JSON value, returns in the leading one, which alone calls it.

    An error that it raises there ends all of them.
    """
    if engine.cluster.processes == 1:
        return decision()
    if not engine.cluster.is_leader:
        message = json.loads(engine.broadcast(b""))
        if "code" in message:
            final_barrier(engine)
            raise _ERRORS[message["code"]](f"the leading process said: {message['error']}")
        return message["value"]
    try:
        value = decision()
    except exits.ConvoyError as error:
        engine.broadcast(json.dumps({"code": error.code, "error": str(error)}).encode())
        final_barrier(engine)
        raise
    engine.broadcast(json.dumps({"value": value}).encode())
    return value


def stop_requested(engine: Engine, signals: Signals) -> bool:
    """Whether any process was asked to leave; gives the parent a sign of life."""
    heartbeat.beat()
    return engine.any(signals.asked)


def save_requested(engine: Engine, signals: Signals) -> bool:
    """Whether any process was asked to save, or to leave, which saves too; a request to save has its answer then."""
    heartbeat.beat()
    requested = engine.any(signals.asked or signals.save_asked)
    if requested:  # a request that comes after this look has to stay
        signals.save_asked = False
    return requested


def final_barrier(engine: Engine) -> None:
    """The last collective of a run, which every process enters before it exits.

    A collective that has finished here may still be reading from this process on another host; exiting now would cost that
    host its peer. Once a process enters one more collective, the previous one has finished everywhere, so the result of this
    last one is ignored.
    """
    with contextlib.suppress(exits.TryAgain):
        engine.barrier()
