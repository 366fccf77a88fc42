"""The loop with a stand-in for the engine: boundaries, evaluations, saves, NaN, signals and resumes, in milliseconds."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from convoy import exits
from convoy.store.local import LocalStore
from convoy.trainer.checkpoints import select
from convoy.trainer.loop import loop
from convoy.trainer.outputs.records import read_metrics
from convoy.trainer.processes.signals import Signals
from fake_run import BATCH, EPOCH, NAN, FakeEngine, Run, assert_ends_like


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that nothing happened to."""
    run = Run(tmp_path_factory.mktemp("runs") / "undisturbed")
    run.attempt()
    return run


# Boundaries


def test_it_evaluates_and_saves_at_its_boundaries_and_at_the_end(run):
    progress = run.attempt()
    assert [(step, split) for step, split, *_ in run.records] == [
        (step, split) for step in (4, 8, 12) for split in ("train", "eval")
    ]
    assert run.steps_of("saved") == [3, 4, 6, 9, 12]  # 4 is the best so far
    assert (progress.step, progress.position, progress.evaluated) == (12, 12 * BATCH, 12)
    assert run.engine.seen == list(range(12 * BATCH))


@pytest.mark.parametrize("steps_per_loop", [1, 2, 5, 100])
def test_where_loops_are_cut_changes_nothing(run, undisturbed, steps_per_loop):
    run.attempt(steps_per_loop=steps_per_loop)
    assert_ends_like(run, undisturbed)


def test_a_loop_never_passes_a_boundary(run):
    run.attempt(steps_per_loop=100)
    lengths = [0, *(int(update[0]) for update in run.listener.updates)]
    assert lengths == [0, 3, 4, 6, 8, 9, 12]


def test_it_compiles_before_the_first_step(run):
    run.attempt()
    assert run.engine.calls.index("compile") < run.engine.calls.index("train")
    spent = [event["seconds"] for event in run.events if event["event"] == "spent"]
    assert "compile" in spent[0]
    assert not any("compile" in seconds or "warm_up" in seconds for seconds in spent[1:])


def test_the_first_loop_of_an_engine_that_warms_up_is_not_timed(run):
    engine = FakeEngine()
    engine.warms_up = True
    progress = run.attempt(engine, steps_per_loop=3)
    assert progress.timed_steps == 9
    assert "warm_up" in next(event["seconds"] for event in run.events if event["event"] == "spent")


def test_layers_are_checked_after_the_first_steps_and_before_each_save(run):
    run.attempt(held_out=False)
    calls = [call for call in run.engine.calls if call in ("train", "check_layers")]
    assert calls[:2] == ["train", "check_layers"]
    assert calls.count("check_layers") == 1 + len(run.steps_of("saved"))


def test_a_layer_that_is_refused_ends_the_run(run):
    engine = FakeEngine()

    def check_layers():
        raise exits.CannotRun("the layer differs between replicas")

    engine.check_layers = check_layers
    with pytest.raises(exits.CannotRun, match="differs"):
        run.attempt(engine)
    assert run.checkpoints == []


# Evaluations


def test_the_best_evaluation_is_saved_and_kept(run):
    progress = run.attempt(FakeEngine(accuracies={4: 0.5, 8: 0.75, 12: 0.6}), keep=1)
    assert progress.best == {"step": 8, "loss": 1.0, "accuracy": 0.75}
    assert run.checkpoints == [8, 12]


def test_of_equal_accuracies_the_lower_loss_is_the_best(run):
    progress = run.attempt(FakeEngine(losses={4: 0.5, 8: 0.4, 12: 0.4}))
    assert progress.best["step"] == 8


def test_without_examples_held_out_nothing_is_evaluated(run):
    progress = run.attempt(held_out=False)
    assert {split for _, split, *_ in run.records} == {"train"}
    assert progress.best is None
    assert run.steps_of("saved") == [3, 6, 9, 12]


# Resumes


@pytest.mark.parametrize("killed_at", [1, 3, 4, 7, 11])
def test_a_run_that_died_ends_like_one_that_did_not(run, undisturbed, killed_at):
    class Killed(BaseException):
        """Nothing of the run's own handles it, as nothing would handle SIGKILL."""

    def kill():
        raise Killed

    with pytest.raises(Killed):
        run.attempt(FakeEngine(at_step={killed_at: kill}), steps_per_loop=1)
    run.attempt()
    assert_ends_like(run, undisturbed)


def test_a_longer_duration_goes_on_like_a_run_of_that_length(run, undisturbed):
    run.attempt(duration="8st")
    progress = run.attempt()
    assert progress.step == 12
    assert_ends_like(run, undisturbed)


def test_a_position_may_be_any_integer(run):
    progress = run.attempt(first_position=5)
    assert run.engine.seen == list(range(5, 5 + 12 * BATCH))
    assert progress.position == 5 + 12 * BATCH
    again = run.attempt(duration="15st")
    assert run.engine.seen == list(range(progress.position, again.position))


def test_a_checkpoint_that_is_damaged_is_passed_over(run, undisturbed, capsys):
    run.attempt(duration="8st")
    tensors = Path(run.store.url) / "checkpoints" / "00000008.1" / "model.npz"
    data = bytearray(tensors.read_bytes())
    data[len(data) // 2] ^= 1
    tensors.write_bytes(data)
    run.attempt()
    assert "checkpoints/00000008.1 is refused: model.npz" in capsys.readouterr().err
    assert run.engine.seen[0] == 6 * BATCH
    assert_ends_like(run, undisturbed)


def test_a_checkpoint_of_another_model_is_refused(run):
    run.attempt(duration="4st")
    engine = FakeEngine()
    engine.state = lambda: {"model/another": np.zeros(3)}
    with pytest.raises(exits.CannotRun, match="another model"):
        run.attempt(engine)


def test_a_checkpoint_from_beyond_the_end_is_refused(run):
    run.attempt()
    with pytest.raises(exits.BadData, match="its checkpoint is of step 12, and the run ends at step 8"):
        run.attempt(duration="8st")


# Signals


@pytest.mark.parametrize(
    ("number", "ending", "words"),
    [(signal.SIGTERM, exits.TryAgain, "SIGTERM"), (signal.SIGINT, exits.Stopped, "stopped")],
)
def test_a_signal_saves_and_leaves(run, undisturbed, number, ending, words):
    engine = FakeEngine(at_step={5: lambda: setattr(run.signals, "received", number)})
    with pytest.raises(ending, match=f"{words}.*saved at step 5\\."):
        run.attempt(engine, steps_per_loop=1)
    assert run.checkpoints[-1] == 5
    assert run.events[-1]["event"] == "left"
    run.signals = Signals()
    run.attempt()
    assert_ends_like(run, undisturbed)


def test_a_signal_during_a_save_leaves_with_what_was_saved(run, undisturbed):
    engine = FakeEngine(in_save={6: lambda: setattr(run.signals, "received", signal.SIGTERM)})
    with pytest.raises(exits.TryAgain, match="saved at step 6\\."):
        run.attempt(engine)
    assert run.steps_of("saved").count(6) == 1, "one save is enough"
    run.signals = Signals()
    run.attempt()
    assert_ends_like(run, undisturbed)


def test_a_notice_saves_and_leaves(run):
    engine = FakeEngine(at_step={5: lambda: setattr(run.signals, "notice", "preempted")})
    with pytest.raises(exits.TryAgain, match=r"metadata server \(preempted\), saved at step 5"):
        run.attempt(engine, steps_per_loop=1)


def test_an_evaluation_that_a_signal_ends_is_made_up_for(run, undisturbed):
    engine = FakeEngine(in_evaluation={8: lambda: setattr(run.signals, "received", signal.SIGTERM)})
    with pytest.raises(exits.TryAgain, match="saved at step 8"):
        run.attempt(engine)
    assert [record[:2] for record in run.records] == [(4, "train"), (4, "eval"), (8, "train")]
    run.signals = Signals()
    run.attempt()
    assert_ends_like(run, undisturbed)


# NaN


def test_a_loss_of_nan_ends_the_run_and_names_the_last_good_checkpoint(run):
    with pytest.raises(exits.Diverged) as caught:
        run.attempt(FakeEngine(nan_at={7 * BATCH + 1}))
    assert "the loss of step 7 is nan" in str(caught.value)
    assert "the last good checkpoint is checkpoints/00000006.1" in str(caught.value)
    assert "--learning_rate" in str(caught.value)
    assert run.events[-1]["event"] == "diverged"
    assert run.checkpoints[-1] == 6


def test_weights_that_are_not_finite_are_never_saved(run):
    with pytest.raises(
        exits.Diverged, match="after step 2 the tensor model/weight holds .*no checkpoint had been saved"
    ):
        run.attempt(FakeEngine(overflows_at=3), steps_per_loop=3)
    assert run.checkpoints == []


def test_an_evaluation_loss_of_nan_ends_the_run(run):
    with pytest.raises(exits.Diverged, match="the evaluation loss at step 8 is nan"):
        run.attempt(FakeEngine(losses={8: NAN}))


def test_skip_counts_the_steps_that_changed_nothing(run):
    progress = run.attempt(FakeEngine(nan_at={9, 50}, skips=True), on_nan="skip")
    assert (progress.step, progress.skipped, progress.skipped_in_a_row) == (12, 2, 0)
    assert run.steps_of("skipped") == [1, 6]
    records = [record for record in read_metrics(run.store) if record["split"] == "train"]
    assert [record.get("skipped_steps", 0) for record in records] == [1, 1, 0]
    assert all(np.isfinite(record["loss"]) for record in records)


def test_skip_ends_after_eleven_in_a_row(run):
    with pytest.raises(exits.Diverged, match="11 steps in a row, up to step 10"):
        run.attempt(FakeEngine(nan_at=range(12 * BATCH), skips=True), on_nan="skip")


@pytest.mark.parametrize("steps_per_loop", [1, 100])
def test_rollback_passes_over_the_examples_that_led_to_nan(run, steps_per_loop):
    bad = 7 * BATCH + 1  # in step 7; the last checkpoint is of step 6
    progress = run.attempt(FakeEngine(nan_at={bad}), on_nan="rollback", steps_per_loop=steps_per_loop)
    assert (progress.step, progress.rollbacks) == (12, 1)
    assert progress.position == (12 + 2) * BATCH, "two batches are passed over"
    assert bad not in run.engine.seen
    (event,) = [event for event in run.events if event["event"] == "rollback"]
    assert (event["step"], event["failed"], event["position"]) == (6, 8, 8 * BATCH)
    assert [record[:2] for record in run.records] == [
        (step, split) for step in (4, 8, 12) for split in ("train", "eval")
    ]
    assert select(run.store, "last")[2]["progress"]["position"] == progress.position


def test_a_second_rollback_passes_over_more(run):
    progress = run.attempt(FakeEngine(nan_at={7 * BATCH, 9 * BATCH}), on_nan="rollback")
    first, second = [event for event in run.events if event["event"] == "rollback"]
    assert (first["step"], first["position"]) == (6, 8 * BATCH)
    assert (second["step"], second["position"]) == (6, 10 * BATCH)
    assert (progress.step, progress.rollbacks, progress.position) == (12, 2, (12 + 4) * BATCH)


def test_a_run_that_rolled_back_and_died_ends_like_one_that_rolled_back(run, tmp_path):
    other = Run(tmp_path / "other")
    other.attempt(FakeEngine(nan_at={7 * BATCH}), on_nan="rollback")
    with pytest.raises(KeyboardInterrupt):
        run.attempt(
            FakeEngine(nan_at={7 * BATCH}, at_step={11: lambda: (_ for _ in ()).throw(KeyboardInterrupt)}),
            on_nan="rollback",
            steps_per_loop=1,
        )
    progress = run.attempt(FakeEngine(nan_at={7 * BATCH}), on_nan="rollback")
    assert progress.rollbacks == 1
    assert_ends_like(run, other)


def test_rollback_ends_after_three(run):
    with pytest.raises(exits.Diverged, match="after 3 rollbacks; the last good checkpoint is checkpoints/00000003.1"):
        run.attempt(FakeEngine(nan_at=range(3 * BATCH, 100 * BATCH)), on_nan="rollback")
    assert len(run.steps_of("rollback")) == 3


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(run):
    with pytest.raises(exits.Diverged, match="there is no checkpoint to go back to"):
        run.attempt(FakeEngine(nan_at={BATCH}), on_nan="rollback")


def test_weights_that_are_not_finite_lead_back_too(run):
    engine = FakeEngine(overflows_at=6)
    engine.at_step = {6: lambda: setattr(engine, "overflows_at", None)}
    progress = run.attempt(engine, on_nan="rollback", held_out=False)
    assert (progress.step, progress.rollbacks, progress.position) == (12, 1, (12 + 3) * BATCH)


# Saves


def test_a_save_that_waits_for_the_one_before_is_noted_once(run, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_NOTICEABLE_SECONDS", -1.0)
    run.attempt()
    assert capsys.readouterr().out.count("waited 0.0 s for the checkpoint before to be written") == 1


def test_a_save_that_fails_beside_training_ends_the_run(run, tmp_path):
    class Full(LocalStore):
        def put(self, name, data):
            if "00000006" in name:
                raise exits.CannotRun("the disk is full")
            return super().put(name, data)

    with pytest.raises(exits.CannotRun, match="the disk is full"):
        run.attempt(store=Full(run.store.url))
    assert run.checkpoints[-1] < 6


def test_listeners_are_told_after_each_loop(run):
    run.attempt(steps_per_loop=3)
    steps = [update[0] for update in run.listener.updates]
    assert steps == [3, 4, 6, 8, 9, 12]
    step, epoch, images_per_second, wait, loss = run.listener.updates[-1]
    assert epoch == pytest.approx(step * BATCH / EPOCH)
    assert images_per_second > 0
    assert wait == 0
    assert np.isfinite(loss)
