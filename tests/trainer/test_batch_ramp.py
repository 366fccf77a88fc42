"""Runs whose batches grow, with a stand-in for the engine, and their schedules."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.runtime import check_batch, check_microbatches
from convoy.trainer.outputs.records import read_metrics
from convoy.trainer.schedules.schedule import Schedule, build_schedule
from fake_run import FakeEngine, Run, assert_ends_like

RAMP = "2:3st,4:4st"  # then batches of 8: steps begin at 0, 2, 4, 6, 10, 14, 18, 22, 30, 38, 46 and 54
EXAMPLES = 1000


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("runs") / "undisturbed")
    run.attempt(batch_ramp=RAMP)
    return run


def test_every_position_is_shown_once_in_order(run):
    progress = run.attempt(batch_ramp=RAMP)
    assert run.engine.seen == list(range(62))
    assert (progress.step, progress.position, progress.timed_examples) == (12, 62, 62)
    records = [record for record in read_metrics(run.store) if record["split"] == "train"]
    assert [(record["step"], record["examples"], record["epoch"]) for record in records] == [
        (4, 10, 0.25),
        (8, 30, 0.75),
        (12, 62, 1.55),
    ]


def test_all_sizes_are_compiled_before_the_first_step(run):
    run.attempt(batch_ramp=RAMP, duration="8st")
    assert run.engine.calls[:5] == ["stage of 0", "compile", "compile for 3", "compile for 7", "train"]


def test_a_resumed_run_compiles_what_is_still_to_come(run):
    run.attempt(batch_ramp=RAMP, duration="8st")
    run.attempt(batch_ramp=RAMP)
    assert run.engine.calls[:4] == ["restore", "stage of 8", "compile", "train"]


@pytest.mark.parametrize("steps_per_loop", [1, 100])
def test_where_loops_are_cut_changes_nothing(run, undisturbed, steps_per_loop):
    run.attempt(batch_ramp=RAMP, steps_per_loop=steps_per_loop)
    assert_ends_like(run, undisturbed)


@pytest.mark.parametrize("killed_at", range(1, 13))
def test_a_run_that_died_ends_like_one_that_did_not(run, undisturbed, killed_at):
    def kill():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.attempt(FakeEngine(at_step={killed_at: kill}), batch_ramp=RAMP, steps_per_loop=1)
    run.attempt(batch_ramp=RAMP)
    assert_ends_like(run, undisturbed)


def test_a_rollback_over_a_border_goes_on_in_the_smaller_batch(run):
    progress = run.attempt(FakeEngine(nan_at={23}), batch_ramp=RAMP, on_nan="rollback")  # in the first batch of 8
    assert (progress.step, progress.rollbacks) == (12, 1)
    assert 23 not in run.engine.seen
    # Back to step 6, which has a batch of 4, and on behind the bad batch.
    assert progress.position == 30 + 4 + 5 * 8
    assert [call for call in run.engine.calls if call.startswith("stage")][-3:] == [
        "stage of 7",
        "stage of 6",
        "stage of 7",
    ]


def test_patience_and_stages_beside_a_ramp(run, tmp_path):
    progress = run.attempt(batch_ramp=RAMP, unfreeze="5st", patience=1, duration="40st")
    assert progress.step == 8  # the second evaluation is no better
    assert [call for call in run.engine.calls if call.startswith(("stage", "compile for"))] == [
        "stage of 0", "compile for 3", "compile for 5", "compile for 7", "stage of 3", "stage of 5", "stage of 7",
    ]  # fmt: skip


def test_a_size_that_devices_cannot_share_is_refused_by_name():
    config = RunConfig(batch_size=64, batch_ramp="16:1ep,30:1ep")
    check_batch(config, 2, "--devices=cpu:2")
    with pytest.raises(
        exits.CannotRun, match=r"a batch of 30 \(--batch_ramp\) cannot be shared evenly by --devices=cpu:4;"
    ):
        check_batch(config, 4, "--devices=cpu:4")


def test_microbatches_of_a_smaller_batch_are_checked_where_they_share_statistics():
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    config = RunConfig(batch_size=64, batch_ramp="16:1ep,28:1ep", accumulate=4)
    check_microbatches(config, model, 2)
    with pytest.raises(exits.CannotRun, match=r"cuts a batch of 28 \(--batch_ramp\) into microbatches that 4 devices"):
        check_microbatches(config, model, 4)


# Schedules


def schedule(**values) -> Schedule:
    return build_schedule(RunConfig(batch_size=100, learning_rate=0.5, **values), EXAMPLES)


@pytest.mark.parametrize(
    "name", ["cosine", "linear", "polynomial:2,0.1", "step:0.3,0.6", "wsd:0.3", "trapezoid", "constant"]
)
def test_a_rate_depends_on_the_examples_that_were_shown(name):
    steady = schedule(schedule=name)
    ramped = schedule(schedule=name, batch_ramp="20:1ep,50:2ep")
    full = [step for step in range(ramped.total_steps) if ramped.clock.full_steps(step).denominator == 1]
    steady_steps = [int(ramped.clock.full_steps(step)) for step in full]
    assert len(full) > 60
    if steady.kind == "step":  # which takes a step at a time
        full, steady_steps = full[::9], steady_steps[::9]
        found, expected = (
            [float(of(step)) for step in steps] for of, steps in ((ramped, full), (steady, steady_steps))
        )
    else:
        found, expected = np.array(ramped(np.array(full))), np.array(steady(np.array(steady_steps)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert ramped.at(4321) == float(ramped(ramped.clock.step_of(4321)))


def test_warm_up_follows_the_examples_too():
    ramped = schedule(warmup="2ep", batch_ramp="20:1ep")
    found = np.array(ramped(np.arange(61))).tolist()
    shown = [*range(20, 1020, 20), *range(1100, 2100, 100), 2000]  # with the step
    expected = [0.5 * min(examples / 2100, 1) for examples in shown]
    assert ramped.warmup_steps == 60
    assert found[:60] == pytest.approx(expected[:60], rel=1e-6)
    assert found[60] == 0.5


@pytest.mark.parametrize(
    ("scale_lr", "factors"), [("none", [1, 1, 1]), ("linear:50", [0.2, 0.5, 1]), ("sqrt:50", [0.2**0.5, 0.5**0.5, 1])]
)
def test_the_rate_follows_the_batch_where_scale_lr_says_so(scale_lr, factors):
    ramped = schedule(scale_lr=scale_lr, batch_ramp="20:3st,50:2st")
    peak = {"none": 0.5, "linear:50": 1.0, "sqrt:50": 0.5 * 2**0.5}[scale_lr]
    expected = peak * np.repeat(factors, [3, 2, 5])
    assert [float(ramped(step)) for step in range(10)] == pytest.approx(expected.tolist(), rel=1e-6)


def test_without_a_ramp_a_schedule_has_the_bits_of_the_formula():
    found = schedule(schedule="linear", warmup="2ep")
    steps = np.arange(101, dtype=np.float32)
    warm, after = (steps + np.float32(1)) / np.float32(21), np.float32(1) - (steps - np.float32(20)) / np.float32(80)
    expected = np.float32(0.5) * np.where(steps < 20, warm, np.clip(after, 0, 1))
    assert np.array(found(np.arange(101))).tobytes() == expected.tobytes()
