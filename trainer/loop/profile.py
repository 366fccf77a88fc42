"""--profile: a trace of some steps in the run directory, which TensorBoard opens. The leading process writes its own."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from convoy import heartbeat
from convoy.outside import below
from convoy.trainer.flags.profile import ProfileSpec
from convoy.trainer.run_dir.files import TENSORBOARD

if TYPE_CHECKING:
    from convoy.store import Store
    from convoy.trainer.engines.protocol import Engine
    from convoy.trainer.outputs.display import Display


class Profile:
    """Begins and ends between two loops, which are cut where it does; that changes no number."""

    def __init__(self, spec: ProfileSpec, engine: Engine, store: Store, display: Display):
        self._spec = spec if engine.cluster.is_leader else ProfileSpec(0, 0)
        self._engine, self._store, self._display = engine, store, display
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def boundary(self, step: int, boundary: int) -> int:
        """Where a loop from `step` on ends that would else go to `boundary`."""
        return min([boundary, *(at for at in (self._spec.first, self._spec.end) if at > step)])

    def begin(self, step: int) -> None:
        """Before the steps from `step` on: begins if they are to be profiled. A run that goes on may begin between them."""
        if self._folder or not self._spec.first <= step < self._spec.end:
            return
        self._folder = tempfile.TemporaryDirectory()
        self._engine.start_trace(self._folder.name)

    def end(self, step: int) -> None:
        """After the steps before `step`: writes the trace, once all its steps are made."""
        if not self._folder or step < self._spec.end:
            return
        with heartbeat.beating(), self._folder as folder:
            self._folder = None
            self._engine.stop_trace()
            for file in sorted(Path(folder).rglob("*")):
                if file.is_file():  # by way of the store, as the run directory may be a bucket
                    self._store.put(below(TENSORBOARD, *file.relative_to(folder).parts), file.read_bytes())
        spec, self._spec = self._spec, ProfileSpec(0, 0)
        self._display.line(
            f"  the profile of steps {spec.first:,} to {spec.end:,} is in {self._store.url}/{TENSORBOARD}"
        )

    def drop(self) -> None:
        """Ends a trace whose steps are not all made, and writes nothing."""
        if self._folder:
            with contextlib.suppress(Exception), self._folder:  # the run's own end is what counts
                self._engine.stop_trace()
            self._folder = None
