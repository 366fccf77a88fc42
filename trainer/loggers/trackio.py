"""Trackio: a run of a project, in a database on this machine or at a server."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from convoy.trainer.loggers.base import PROJECT, RunFacts

_PAGE = 3000  # rows, of which a server sends a sample where there are more
_TALKATIVE = ("trackio", "trackio.run", "trackio.utils")


class TrackioLogger:
    """See base.Logger. TRACKIO_DIR, TRACKIO_SPACE_ID and TRACKIO_SERVER_URL say where it writes."""

    def __init__(self, facts: RunFacts):
        import trackio

        for name in _TALKATIVE:  # the screen is the run's
            vars(importlib.import_module(name))["print"] = lambda *_, **__: None
        self._run_id = facts.run_id
        rows = self._rows()  # before anything is written, so that what cannot be asked gets nothing twice
        # Two runs may have one name; only the id, which `init` does not take, tells them apart.
        self._run = trackio.init(
            PROJECT,
            name=facts.name,
            config={**facts.flags, **facts.links},
            resume="never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._run.id = facts.run_id
        self.place = f"trackio show --project {PROJECT}"
        self._has = {(name, row["step"]) for row in rows for name in row}
        self._first = max(row["step"] for row in rows) if len(rows) >= _PAGE else 0
        self._sent = set[tuple[str, int]]()

    def has(self, name: str, step: int) -> bool:
        return step < self._first or (name, step) in self._has

    def log(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)
        self._sent.update((name, step) for name in values)

    def finish(self, step: int, figures: Mapping[str, float]) -> None:
        if fresh := {name: value for name, value in figures.items() if not self.has(name, step)}:
            self.log(step, 0.0, fresh)

    def close(self, code: int) -> None:
        self._run.finish()
        # The library warns where it fails, and raises nothing.
        rows = self._rows()
        missing = self._sent - {(name, row["step"]) for row in rows for name in row}
        if missing and len(rows) < _PAGE:
            raise OSError(f"{len(missing)} figures did not arrive")

    def _rows(self) -> list[dict[str, Any]]:
        """Every row that the service has of this run: its step, and its figures."""
        from trackio import utils
        from trackio.sqlite_storage import SQLiteStorage

        space, server = utils.resolve_space_id_and_server_url(None, None)
        if not space and not server:
            return SQLiteStorage.get_logs(PROJECT, run_id=self._run_id)
        from trackio.remote_client import RemoteClient

        if space:
            import huggingface_hub

            client = RemoteClient(space, hf_token=huggingface_hub.utils.get_token(), verbose=False)
        else:
            address, token = utils.parse_trackio_server_url(server)
            client = RemoteClient(address, write_token=token or os.environ.get("TRACKIO_WRITE_TOKEN"), verbose=False)
        return client.predict(project=PROJECT, run_id=self._run_id, api_name="/get_logs")
