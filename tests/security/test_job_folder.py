"""A job's folder may come from a stranger: errors are sentences, nothing leads outside, no other job is hidden."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mutations
from convoy import exits
from convoy.launch import follow, sweep, watch
from convoy.launch.targets.base import FAILED, RUNNING, SUCCEEDED
from convoy.launch.targets.local.job_folder import JobFolder, changing
from convoy.launch.targets.local.job_record import Record
from convoy.launch.targets.local.target import LocalTarget, submission
from local_jobs import job

pytestmark = pytest.mark.usefixtures("state_directory", "no_waiting")
ESCAPES = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202e"


class Waits(BaseException):
    """The process waits for the other end of a FIFO."""


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Makes a wait for the other end of a FIFO fail."""

    def fail(*_):
        raise Waits

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


ABOUT = submission(job(), "")


def folder(name: str, phase: str = SUCCEEDED) -> Path:
    """The folder of a job that has a log and no process any more."""
    job_folder = JobFolder(name)
    os.close(job_folder.create({**ABOUT, "run_dir": str(Path("run").absolute())}, Record(phase, begun=1e9)))
    job_folder.log(0, 0).write_text("said\n")
    return job_folder.path


def odd(path: Path, what: str | bytes) -> None:
    """Puts a pipe, a link or a folder in the place of a file, or removes it."""
    path.unlink(missing_ok=True)
    match what:
        case bytes():
            path.write_bytes(what)
        case "fifo":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "link":
            outside = path.parents[3] / "outside.json"
            outside.write_text(json.dumps({"phase": SUCCEEDED}))
            path.symlink_to(outside)
        case "folder":
            path.mkdir()
        case "gone":
            pass
        case "closed":
            path.touch(mode=0)


def state_json(**changed: object) -> bytes:
    return json.dumps({**vars(Record(SUCCEEDED, begun=1e9)), **changed}).encode()


ODD: dict[str, str | bytes] = {
    "a FIFO": "fifo",
    "a link to itself": "loop",
    "a link to elsewhere": "link",
    "a folder": "folder",
    "not UTF-8": b'{"phase": "\xff"}',
    "nested": b"[" * 10_000,
    "torn": state_json()[:-3],
    "no object": b"[1, 2]",
}
ODD_STATES = {
    **ODD,
    "not there": "gone",
    "no phase": state_json(phase="\x1b[2J"),
    "a moment that no calendar has": state_json(begun=1e300),
    "a number of 5,000 digits": b'{"phase": "succeeded", "restarts": ' + b"1" * 5000 + b"}",
    "a text for a number": state_json(restarts="many"),
    "a code that no process ends with": state_json(exit_code=-9),
    "every process": state_json(supervisor=-1, workers=[-1, 0]),
}
if os.geteuid():
    ODD["closed"] = ODD_STATES["closed"] = "closed"


@pytest.mark.parametrize(
    ("name", "what"),
    [("state.json", what) for what in ODD_STATES.values()] + [("job.json", what) for what in ODD.values()],
    ids=[f"state.json: {what}" for what in ODD_STATES] + [f"job.json: {what}" for what in ODD],
)
def test_an_odd_file_is_named_and_hides_no_other_job(tmp_path, capsys, name, what):
    for job_name in "before", "odd", "then":
        folder(job_name)
    place = JobFolder("odd").path / name
    odd(place, what)
    with mutations.untouched(tmp_path, JobFolder("odd").path.parent):
        assert watch.jobs([]) == 0
        before, line, then = sorted(capsys.readouterr().out.splitlines())
        assert (before, then) == ("before: succeeded", "then: succeeded")
        assert line.startswith(f"odd: failed, exit code 65, {place} cannot be used: ")
        assert "\x1b" not in line
        for verb in watch.status, watch.wait:
            with pytest.raises(exits.BadData, match=str(place)):
                verb(["--name=odd"])
        with pytest.raises(exits.BadData, match=str(place)):
            sweep.submit_all(LocalTarget(), [job(name="odd", run=("--seed=1",))])
        with pytest.raises(exits.CannotRun, match="--name=odd is another job, which has failed; give --replace"):
            LocalTarget().submit(job(name="odd"))
        with pytest.raises(exits.BadData, match=str(place)) if name == "job.json" else contextlib.nullcontext():
            watch.logs(["--name=odd"])
        capsys.readouterr()
        assert watch.collect([]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 3
    assert LocalTarget().jobs() == []


@pytest.mark.parametrize("name", ["supervised", "occupied", ".lock"])
@pytest.mark.parametrize("what", ["fifo", "loop", "dangling", "folder"])
def test_a_job_with_an_odd_lock_is_not_supervised_and_can_be_removed(tmp_path, name, what):
    job_folder = folder("odd", RUNNING)
    place = (job_folder.parent if name == ".lock" else job_folder) / name
    place.unlink(missing_ok=True)
    if what == "dangling":
        place.symlink_to(tmp_path / "outside")
    else:
        odd(place, what)
    with mutations.untouched(tmp_path, JobFolder("odd").path.parent):
        assert LocalTarget().state("odd").phase == FAILED  # nobody supervises it
        if name == ".lock":
            with pytest.raises(exits.BadData, match=r"\.lock is no regular file; remove it"), changing():
                pass
        else:
            LocalTarget().remove("odd")
            assert LocalTarget().jobs() == []


def test_a_link_in_the_place_of_a_job_is_removed_and_its_target_stays(tmp_path, capsys, monkeypatch):
    moved = folder("there")
    theirs = tmp_path / "theirs"
    moved.rename(theirs)
    for name in "linked", "again":
        (moved.parent / name).symlink_to(theirs)
    with mutations.untouched(tmp_path, moved.parent):
        watch.jobs([])
        assert "linked: failed, exit code 65" in capsys.readouterr().out
        with pytest.raises(exits.BadData, match="a link"):
            watch.logs(["--name=linked"])
        with contextlib.suppress(exits.ConvoyError):
            LocalTarget().cancel("linked")
        monkeypatch.setattr("convoy.supervise.module", lambda *_: ["true"])
        assert LocalTarget().submit(job(name="again"), replace=True).phase == FAILED  # because it never began
        assert (moved.parent / "again").is_dir()
        assert not (moved.parent / "again").is_symlink()
        assert watch.collect([]) == 0
    assert LocalTarget().jobs() == []


@pytest.mark.parametrize("which", ["logs", "worker-0.attempt-0.log"])
@pytest.mark.parametrize("what", ["fifo", "loop", "link", "gone"])
def test_a_log_is_a_file_of_the_job(tmp_path, capsys, which, what):
    place = folder("odd") / "logs" / ("" if which == "logs" else which)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "worker-0.attempt-0.log").write_text("a secret\n")
    if which == "logs":
        (place / "worker-0.attempt-0.log").unlink()
        place.rmdir()
    if what == "link":
        place.unlink(missing_ok=True)
        place.symlink_to(secret / ("" if which == "logs" else which))
    else:
        odd(place, what)
    if what == "gone" and which != "logs":  # a job without output yet
        assert watch.logs(["--name=odd"]) == 0
    else:
        with pytest.raises(exits.BadData, match=f"{place} cannot be used"):
            watch.logs(["--name=odd"])
    assert "secret" not in capsys.readouterr().out
    LocalTarget().remove("odd")
    assert (secret / "worker-0.attempt-0.log").exists()


@pytest.mark.parametrize("follow", [False, True])
def test_a_log_larger_than_memory_is_read_in_pieces(follow):
    with (folder("odd") / "logs" / "worker-0.attempt-0.log").open("r+b") as log:
        log.truncate(1 << 42)  # sparse
    said, *pieces = itertools.islice(LocalTarget().logs("odd", 0, follow), 4)
    assert said == "said"
    assert {len(piece) for piece in pieces} == {1 << 20}


def test_nothing_is_written_through_links_in_a_job(tmp_path):
    odd_job = JobFolder("odd")
    lock = odd_job.create(submission(job(name="odd"), ""), Record(RUNNING))
    (tmp_path / "old").write_text("old")
    links = {
        "cancel": "new", f"state.json.{os.getpid()}.partial": "old", "supervisor.log": "old",
        "logs/worker-0.attempt-0.log": "old", "logs/worker-1.attempt-0.log": "newer",
    }  # fmt: skip
    for name, target in links.items():
        (odd_job.path / name).unlink(missing_ok=True)
        (odd_job.path / name).symlink_to(tmp_path / target)
    with mutations.untouched(tmp_path, odd_job.path):
        assert odd_job.asked_to_cancel()
        odd_job.ask_to_cancel()
        odd_job.write(Record(SUCCEEDED))
        for log in odd_job.new_log(0, 0), odd_job.new_log(1, 0), odd_job.new_supervisor_log():
            with log:
                log.write(b"ours")
    assert odd_job.read().phase == SUCCEEDED
    assert odd_job.log(0, 0).read_text() == "ours"
    os.close(lock)


def test_no_process_named_by_a_file_alone_gets_a_signal(monkeypatch):
    for function in "kill", "killpg":
        monkeypatch.setattr(os, function, lambda *_: pytest.fail("a signal"))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        for name, pids in ("child", [child.pid]), ("all", [-1, 0, 1]):
            (folder(name) / "state.json").write_bytes(state_json(phase=RUNNING, supervisor=pids[0], workers=pids))
            with contextlib.suppress(exits.BadData):
                LocalTarget().cancel(name)
            LocalTarget().remove(name)
        assert child.poll() is None


def test_no_escape_sequence_of_a_job_reaches_a_terminal(tmp_path, capsys):
    place = folder("odd", FAILED)
    (place / "state.json").write_bytes(state_json(phase=FAILED, exit_code=70, reason=f"for {ESCAPES} no reason"))
    about_it = json.loads((place / "job.json").read_text())
    (place / "job.json").write_text(json.dumps({**about_it, "run_dir": str(tmp_path / f"run{ESCAPES}")}))
    (place / "logs" / "worker-0.attempt-0.log").write_bytes(
        f"one\ttwo {ESCAPES}\n10%\r100%\r\nlast \u00e9".encode() + b"\xff\n"
    )
    (place.parent / f"x{ESCAPES}").mkdir()
    (tmp_path / f"run{ESCAPES}").mkdir()
    for status in b"{}", b'{"step": "\x1b[2J"}', b"[" * 10_000, json.dumps(STATUS | {"updated": 1e300}).encode():
        (tmp_path / f"run{ESCAPES}" / "status.json").write_bytes(status)
        assert watch.status(["--name=odd"]) == 0
    watch.jobs([])
    assert watch.wait(["--name=odd"]) == 70
    shown = capsys.readouterr()
    assert shown.err.count("status.json") == 4
    watch.logs(["--name=odd"])
    watch.collect([])
    logs = capsys.readouterr()
    assert logs.out.splitlines()[:4] == [
        r"one" + "\t" + r"two \x1b[2J\x1b]0;mine\x07\x9b31m\u202e", "10%", "100%", "last \u00e9\ufffd"
    ]  # fmt: skip
    for text in shown.out, shown.err, logs.out, logs.err:
        assert all(line.replace("\t", "").isprintable() for line in text.split("\n")), text


STATUS = {"step": 1000, "total": 4000, "epoch": 2.5, "images_per_second": 1234.5, "loss": 0.25, "eta_seconds": 3725.0,
          "updated": 0.0}  # fmt: skip


def test_a_job_that_cannot_be_removed_does_not_keep_the_others(tmp_path, capsys):
    for job_name in "before", "deep", "then":
        folder(job_name)
    descriptor = os.open(JobFolder("deep").path, os.O_RDONLY)
    for _ in range(1100):  # deeper than Python's own removal goes
        os.mkdir("d", dir_fd=descriptor)
        descriptor, above = os.open("d", os.O_RDONLY, dir_fd=descriptor), descriptor
        os.close(above)
    os.close(descriptor)
    code = watch.collect([])
    shown = capsys.readouterr()
    subprocess.run(["rm", "-r", JobFolder("deep").path], check=True)
    assert code == 78
    assert shown.err.startswith(f"convoy: {JobFolder('deep').path}")
    assert [line.split(":")[0] for line in shown.out.splitlines()] == ["before", "then"]


def _hostile(chance: random.Random, path: Path, right: object) -> None:
    """Writes a damaged document, or puts another kind of file in its place."""
    if chance.random() < 0.1:
        odd(path, chance.choice(["fifo", "loop", "link", "folder", "gone"]))
    else:
        path.write_bytes(mutations.document(right, chance))


def _look_after(name: str) -> None:
    """Calls what the verbs call for a job that has ended; only errors with sentences may come."""
    target = LocalTarget()
    looks = [
        lambda: watch._details(target.state(name)),
        lambda: follow.until_the_end(target, name),
        lambda: list(target.logs(name, 0, follow=False)),
        lambda: target.cancel(name),
    ]
    for look in looks:
        with contextlib.suppress(exits.BadData, exits.CannotRun):
            look()


@mutations.counts(300)
def test_any_job_folder_is_read_or_refused_in_a_sentence(tmp_path, capsys, monkeypatch, count):
    store = watch.open_store

    def no_buckets(url: str):
        if "://" in url:
            raise exits.CannotRun("no bucket here")
        return store(url)

    monkeypatch.setattr(watch, "open_store", no_buckets)
    (tmp_path / "run").mkdir()
    state = Record(FAILED, "why", 1, 70, 1e9, 4000, [4001, 4002])
    documents = {"state.json": vars(state), "job.json": ABOUT}
    place = JobFolder("odd").path
    for number in range(count):
        with mutations.case(mutations.SEED, number) as chance:
            signal.alarm(100)
            if not place.exists():
                folder("odd")
            which = chance.choice(["state.json", "job.json", "status.json"])
            path = tmp_path / "run" / which if which == "status.json" else place / which
            before = path.read_bytes() if path.exists() else None
            _hostile(chance, path, documents.get(which, STATUS))
            with mutations.untouched(tmp_path, place.parent, tmp_path / "run"):
                _look_after("odd")
                if number % 10 == 0:
                    # A folder without job.json is no job.
                    assert [state.name for state in LocalTarget().jobs()] == ["odd"] * JobFolder("odd").exists()
                    JobFolder("odd").remove()
            if os.path.lexists(path):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            if before and place.exists():
                path.write_bytes(before)
            shown = capsys.readouterr()
            assert all(line.isprintable() for line in (shown.out + shown.err).split("\n"))


def test_commands_list_and_remove_fifty_odd_jobs(tmp_path, convoy):
    documents = {"state.json": vars(Record(FAILED, "why", 1, 70, 1e9)), "job.json": ABOUT}
    for number in range(50):
        with mutations.case(mutations.SEED, number) as chance:
            place = folder(f"odd{number}")
            which = chance.choice(["state.json", "job.json"])
            _hostile(chance, place / which, documents[which])
    folder("last")
    with mutations.untouched(tmp_path, place.parent):
        listed = convoy("launch", "list")
        assert (listed.code, listed.err) == (0, "")
        names = {line.partition(":")[0] for line in listed.out.splitlines()}
        gone = {name for name in (f"odd{number}" for number in range(50)) if not JobFolder(name).exists()}
        assert names == {"last", *(f"odd{number}" for number in range(50))} - gone
        removed = convoy("launch", "gc")
        assert (removed.code, removed.err, len(removed.out.splitlines())) == (0, "", len(names))
    assert LocalTarget().jobs() == []
