"""The page that a run writes of itself: whichever way it ends, and in nobody's way."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from convoy import exits
from convoy.trainer.report import own_page, page
from fake_run import FakeEngine, Run


@pytest.fixture
def run(tmp_path) -> Run:
    """A run that diverged."""
    run = Run(tmp_path / "run")
    with pytest.raises(exits.Diverged):
        run.attempt(FakeEngine(nan_at=[70]))
    run.said = []
    run.session.display = SimpleNamespace(line=run.said.append)
    return run


def test_a_run_that_is_cut_short_has_a_page(run, tmp_path):
    own_page.write_in_time(run.experiment, run.session)
    assert "This run is not finished." in (tmp_path / "run" / "report.html").read_text()
    assert run.said == []


@pytest.mark.parametrize("error", [exits.BadData("metrics.jsonl is damaged."), RuntimeError("a bug"), MemoryError()])
def test_a_page_that_fails_is_a_note(run, monkeypatch, error):
    def fails(*values: object) -> None:
        raise error

    monkeypatch.setattr(page, "write", fails)
    for write in (own_page.write, own_page.write_in_time):
        write(run.experiment, run.session)
        (note,) = run.said
        run.said.clear()
        assert note.startswith("  Note: report.html is not written: ")
        assert (str(error) or "MemoryError") in note


def test_a_page_that_takes_long_is_left_out_where_the_machine_may_go_away(run, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(page, "write", lambda *values: over.wait())
    monkeypatch.setattr(own_page, "CUT_SHORT_SECONDS", 0.05)
    own_page.write_in_time(run.experiment, run.session)
    assert run.said == ["  Note: report.html is not written: that takes more than 0.05 s here."]
    over.set()


def test_without_report_nothing_is_written(tmp_path):
    run = Run(tmp_path / "run")
    run.attempt(report=False)
    own_page.write(run.experiment, run.session)
    own_page.keep_pictures(run.experiment, run.session, {}, None)
    assert not {"report.html", "pictures.npz"} & {path.name for path in (tmp_path / "run").iterdir()}
