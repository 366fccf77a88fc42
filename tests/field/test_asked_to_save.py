"""SIGUSR1, with which Slurm and SGE warn of a time limit: the run saves after its loop of steps, and goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from convoy import exits
from convoy.trainer.processes import consensus
from convoy.trainer.processes.signals import Signals
from fake_run import FakeEngine, Run, assert_ends_like


def test_a_run_that_is_asked_saves_and_ends_with_the_same_bits(tmp_path, capsys):
    asked = Run(tmp_path / "asked")
    request = {5: lambda: setattr(asked.signals, "save_asked", True)}
    asked.attempt(FakeEngine(at_step=request), checkpoint_every="100st", steps_per_loop=1, keep=9)
    assert 5 in asked.steps_of("saved")
    assert "saves step 5" in capsys.readouterr().out
    assert not asked.signals.save_asked
    undisturbed = Run(tmp_path / "undisturbed")
    undisturbed.attempt(checkpoint_every="100st", steps_per_loop=1)
    assert set(asked.steps_of("saved")) - set(undisturbed.steps_of("saved")) == {5}
    assert_ends_like(asked, undisturbed)


def test_a_step_that_is_saved_already_is_not_saved_again(tmp_path):
    run = Run(tmp_path)
    run.attempt(FakeEngine(at_step={3: lambda: setattr(run.signals, "save_asked", True)}), steps_per_loop=1)
    assert run.steps_of("saved").count(3) == 1


def test_a_request_to_leave_beside_it_wins(tmp_path):
    run = Run(tmp_path)

    def both() -> None:
        run.signals.save_asked, run.signals.notice = True, "instance/preempted=TRUE"

    with pytest.raises(exits.TryAgain, match="saved at step 5"):
        run.attempt(FakeEngine(at_step={5: both}), steps_per_loop=1)
    assert run.steps_of("left") == [5]


@pytest.mark.parametrize(("here", "anywhere"), [(True, True), (False, True), (False, False)])
def test_all_processes_save_where_one_was_asked(here, anywhere):
    signals = Signals()
    signals.save_asked = here
    heard = []
    engine = SimpleNamespace(any=lambda flag: heard.append(flag) or anywhere)
    assert consensus.save_requested(engine, signals) is anywhere
    assert heard == [here]
    assert not signals.save_asked


def test_a_request_that_comes_while_all_are_asked_stays():
    signals = Signals()

    def nobody_yet(flag: bool) -> bool:
        signals.save_asked = True
        return flag

    assert not consensus.save_requested(SimpleNamespace(any=nobody_yet), signals)
    assert signals.save_asked
