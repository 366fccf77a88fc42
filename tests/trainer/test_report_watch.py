"""convoy report --watch: the page of a run that goes on."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from convoy import exits
from convoy.cli import dispatch
from convoy.store import open_store
from convoy.trainer.outputs import records
from convoy.trainer.report import page, watch
from run_pages import run_directory
from support import command

pytestmark = pytest.mark.slow  # draws charts


def watched(run_dir: Path, monkeypatch) -> watch.WatchedPage:
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.0)
    return watch.WatchedPage(open_store(str(run_dir)), str(run_dir))


def epochs(page: bytes) -> set[str]:
    """The numbers on the axes of the first chart, which counts epochs."""
    (chart, *_) = re.findall(rb'src="data:image/svg\+xml;base64,([^"]+)"', page)
    return set(re.findall(r"<text[^>]*>([\d.]+)</text>", base64.b64decode(chart).decode()))


def add_epoch(run_dir: Path) -> None:
    record = {"step": 50, "epoch": 77.0, "examples": 400, "split": "train", "loss": 1.2, "accuracy": 0.6}
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def test_a_watched_page_shows_a_new_epoch(tmp_path, monkeypatch):
    run_dir = run_directory(tmp_path / "run", ["a", "b"], None, finished=False)
    ask = watched(run_dir, monkeypatch)
    first = ask(None)
    assert (first.status, first.refresh) == (200, watch.REFRESH_SECONDS)
    assert "60" not in epochs(first.body)
    add_epoch(run_dir)
    assert "60" in epochs(ask(None).body)
    assert not (run_dir / "report.html").exists()
    for rule in ("default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"):
        assert rule in first.policy
        assert rule in first.body.decode(), "as the page itself says"
    assert "script-src" not in first.policy


def test_a_watched_page_is_made_anew_when_a_document_has_changed(tmp_path, monkeypatch):
    run_dir = run_directory(tmp_path / "run", ["a", "b"], None)
    monkeypatch.setattr(page, "page", lambda store, config: json.dumps(records.read_metrics(store)).encode())
    ask = watched(run_dir, monkeypatch)
    first = ask(None)
    assert ask(None) is first
    for name in ("metrics.jsonl", "events.jsonl", "result.json", "config.json"):
        with (run_dir / name).open("a") as file:
            file.write(
                " " if name.endswith("json") else '{"event": "left", "attempt": 1, "time": 3.0}\n' * (name[0] == "e")
            )
            file.write('{"step": 55, ' * (name[0] == "m"))  # a record that is being written
        answer = ask(None)
        assert answer is not first, name
        first = answer
        if name == "metrics.jsonl":
            assert (answer.status, answer.refresh) == (503, watch.REFRESH_SECONDS)
            assert answer.kind.startswith("text/plain")
            assert b"metrics.jsonl, line 3" in answer.body
            with (run_dir / name).open("a") as file:
                file.write('"epoch": 78.0, "split": "train"}\n')
            first = ask(None)
            assert first.status == 200
            assert b"78.0" in first.body
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 1000.0)
    assert ask(None) is first
    (run_dir / "metrics.jsonl").unlink()
    assert ask(None) is first, "however many ask, the run's files are read once a second"


@pytest.mark.thorough
def test_a_run_is_watched_until_ctrl_c(tmp_path):
    run_dir = run_directory(tmp_path / "run", ["a", "b"], None, finished=False)
    process = subprocess.Popen(command("report", f"--run_dir={run_dir}", "--watch"), stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split()[0]
        with urllib.request.urlopen(url, timeout=30) as response:
            assert response.headers["Refresh"] == "5"
            assert "60" not in epochs(response.read())
        add_epoch(run_dir)
        time.sleep(watch._LOOK_SECONDS)
        with urllib.request.urlopen(url, timeout=30) as response:
            assert "60" in epochs(response.read())
    finally:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == exits.STOPPED
    assert not (run_dir / "report.html").exists()


def test_a_port_needs_a_watcher(tmp_path):
    with pytest.raises(exits.CannotRun, match="--port=8000 needs --watch"):
        dispatch(["report", f"--run_dir={tmp_path}", "--port=8000"])
