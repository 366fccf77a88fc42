"""Signals and preemption notices at every moment: a save if there is progress, and the right code within 10 seconds."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from metadata import MAINTENANCE, PREEMPTED, metadata_server
from support import QUICK, assert_same_bits, command, environment, events_of, hear_hangups, records_of

# Long enough that the signal always comes before its end.
LONG = [*QUICK, "--duration=5000ep", "--eval_every=1000ep", "--checkpoint_every=20ep"]


def wait_for(run_dir, name: str) -> None:
    deadline = time.monotonic() + 100
    while not (run_dir / "events.jsonl").exists() or name not in [event["event"] for event in events_of(run_dir)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def interrupted(
    run_dir, chaos: str = "", argv=LONG, send=(), after: str = "training", settle: float = 0.0, unread: bool = False
) -> tuple[int, float, str]:
    """(exit code, seconds from the last signal to the exit, stderr) of a run that gets signals.

    Args:
      after: the event that it gets the first signal after. After SIGUSR1, the next one comes once it has saved.
      unread: nobody reads what it prints.
    """
    env = environment(CONVOY_CHAOS=chaos) if chaos else environment()
    parent = subprocess.Popen(
        command("train", *argv, f"--run_dir={run_dir}"),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_hangups,
    )
    if unread:
        parent.stdout.close()
    began = time.monotonic()
    if send:
        wait_for(run_dir, after)
        time.sleep(settle)
        for number in send:
            began = time.monotonic()
            parent.send_signal(number)
            time.sleep(0.3)  # two equal signals at once are one
            if number == signal.SIGUSR1:
                wait_for(run_dir, "saved")
    _, err = parent.communicate(timeout=100)
    return parent.returncode, time.monotonic() - began, err


def test_a_signal_before_the_first_step_leaves_without_a_checkpoint(tmp_path):
    # The child is still importing TensorFlow: there is nothing to save.
    parent = subprocess.Popen(command("train", *LONG, f"--run_dir={tmp_path / 'run'}"), env=environment())
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / ".lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    began = time.monotonic()
    parent.terminate()
    assert parent.wait(60) == 42
    assert time.monotonic() - began < 10
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 42),
        pytest.param(signal.SIGHUP, 42, marks=pytest.mark.thorough),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.thorough),
    ],
)
def test_a_signal_during_a_loop_saves_and_leaves(tmp_path, number, code):
    run_dir = tmp_path / "run"
    # Nobody reads it, as in `convoy train ... | head`; and without the first signal it would save once, at the end.
    seldom = [*LONG, "--checkpoint_every=5000ep"]
    send = [signal.SIGUSR1, number]
    exit_code, seconds, err = interrupted(run_dir, argv=seldom, send=send, unread=True)
    assert exit_code == code, err
    assert seconds < 10
    last = events_of(run_dir)[-1]
    assert last["event"] == "left"
    saved = [event["step"] for event in events_of(run_dir) if event["event"] == "saved"]
    assert saved[0] <= saved[-1] == last["step"]
    assert f"saved at step {last['step']}.\nThis continues it:\n  convoy train " in err
    assert (run_dir / "checkpoints" / f"{last['step']:08d}.1" / "MANIFEST.json").exists()


@pytest.mark.thorough
def test_a_signal_during_a_save_leaves_and_the_run_continues(convoy, undisturbed, tmp_path):
    run_dir = tmp_path / "run"
    code, _, err = interrupted(run_dir, chaos="term:snapshot@20", argv=QUICK)
    assert code == 42, err
    last = events_of(run_dir)[-1]
    assert last["event"] == "left"
    assert time.time() - last["time"] < 10
    assert convoy("train", *QUICK, f"--run_dir={run_dir}").code == 0
    assert_same_bits(run_dir, undisturbed)
    assert records_of(run_dir) == records_of(undisturbed)


@pytest.mark.thorough
def test_an_evaluation_cut_by_a_signal_is_repeated(convoy, tmp_path):
    run_dir = tmp_path / "run"
    code, _, err = interrupted(run_dir, chaos="term:evaluation@41", argv=QUICK)
    assert code == 42, err
    assert convoy("train", *QUICK, f"--run_dir={run_dir}").code == 0
    # The evaluation that was given up is made up for before training goes on.
    splits = [(line["step"], line["split"]) for line in records_of(run_dir)]
    assert splits == [(step, split) for step in (20, 40, 60) for split in ("train", "eval")]


@pytest.mark.parametrize("first", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)])
def test_ctrl_c_after_another_request_leaves_without_saving(tmp_path, first):
    # In a loop of minutes the first signal waits for the loop's end; only the second leaves in seconds.
    endless = [*LONG, "--steps_per_loop=400000", "--checkpoint_every=5000ep", "--eval_every=5000ep"]
    exit_code, seconds, err = interrupted(tmp_path / "run", argv=endless, send=[first, signal.SIGINT], settle=2.0)
    assert exit_code == 130, err
    assert seconds < 10
    assert "left" not in [event["event"] for event in events_of(tmp_path / "run")], "it did not wait for a save"


@pytest.mark.parametrize(
    ("variable", "key", "value"),
    [
        ("GCE_METADATA_HOST", PREEMPTED, "TRUE"),  # Google's client libraries
        pytest.param(
            *("GCE_METADATA_IP", MAINTENANCE, "TERMINATE_ON_HOST_MAINTENANCE"), marks=pytest.mark.thorough
        ),  # TensorFlow
    ],
)
def test_a_preemption_notice_saves_and_leaves(tmp_path, variable, key, value):
    run_dir = tmp_path / "run"
    with metadata_server() as server:
        parent = subprocess.Popen(
            command("train", *LONG, f"--run_dir={run_dir}", "--restarts=3"),
            env=environment(**{variable: server.address}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(run_dir, "saved")
        began = time.monotonic()
        server.announce(key, value)
        _, err = parent.communicate(timeout=100)
    assert parent.returncode == 42, err
    assert time.monotonic() - began < 10
    last = events_of(run_dir)[-1]
    assert last["event"] == "left"
    assert f"asked to leave by the metadata server ({key}={value}), saved at step {last['step']}." in err
    assert (run_dir / "checkpoints" / f"{last['step']:08d}.1" / "MANIFEST.json").exists()
    assert "no restart here" in err


@pytest.mark.thorough
def test_a_preemption_notice_before_the_first_step_leaves_without_a_checkpoint(convoy, tmp_path):
    with metadata_server() as server:
        server.announce(PREEMPTED, "TRUE")
        outcome = convoy("train", *LONG, f"--run_dir={tmp_path / 'run'}", GCE_METADATA_HOST=server.address)
    assert outcome.code == 42, outcome
    assert "metadata server (instance/preempted=TRUE), with nothing to save" in outcome.err
    assert not (tmp_path / "run" / "checkpoints").exists()
