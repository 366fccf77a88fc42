"""--profile, with a stand-in for the engine: which steps it has, where it is written, when there is none."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from convoy import exits
from convoy.outside import Name
from convoy.store import open_store
from convoy.trainer.processes.signals import Signals
from fake_run import BATCH, FakeEngine, Run, assert_ends_like


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture
def undisturbed(tmp_path):
    """A run without a profile."""
    run = Run(tmp_path / "undisturbed")
    run.attempt()
    return run


class TracedEngine(FakeEngine):
    """Writes into its trace which steps it saw."""

    traced = None

    def start_trace(self, folder):
        self.traced = (Path(folder), self.iterations)

    def stop_trace(self):
        (folder, first), self.traced = self.traced, None
        place = folder / "plugins" / "profile" / "now"
        place.mkdir(parents=True)
        (place / "host.xplane.pb").write_text(f"{first}:{self.iterations}")


def profiles(run):
    root = Path(run.store.url)
    return [path.read_text() for path in root.glob("tensorboard/plugins/profile/*/*.xplane.pb")]


def test_a_profile_has_its_steps_and_changes_nothing(run, undisturbed):
    run.attempt(TracedEngine(), profile="5:7", steps_per_loop=100)
    assert profiles(run) == ["5:7"]
    assert_ends_like(run, undisturbed)


@pytest.mark.slow
def test_a_profile_goes_into_a_bucket(run, bucket):
    store = open_store(bucket)
    run.attempt(TracedEngine(), profile="5:7", store=store)
    (name,) = store.list_names(Name("tensorboard/plugins"))
    assert store.get(name) == b"5:7"


def test_a_run_that_goes_on_within_its_profile_has_the_rest(run, undisturbed):
    engine = TracedEngine(in_save={6: lambda: setattr(run.signals, "received", signal.SIGTERM)})
    with pytest.raises(exits.TryAgain):
        run.attempt(engine, profile="5:10")
    assert profiles(run) == []
    assert engine.traced is None
    run.signals = Signals()
    run.attempt(TracedEngine(), profile="5:10")
    assert profiles(run) == ["6:10"]
    assert_ends_like(run, undisturbed)


def test_a_profile_that_leads_to_nan_is_dropped(run):
    engine = TracedEngine(nan_at=[6 * BATCH])
    with pytest.raises(exits.Diverged):
        run.attempt(engine, profile="5:10")
    assert profiles(run) == []
    assert engine.traced is None


def test_a_profile_of_steps_that_the_run_has_not_is_refused(run):
    with pytest.raises(exits.CannotRun, match="--profile=5:13 is not possible: the run has 12 steps"):
        run.attempt(profile="5:13")
