"""The clock of a run against counting step by step, and --batch_ramp as a person writes it."""

from __future__ import annotations

import random

import pytest

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.batch_ramp import MAX_SIZES, RampSpec
from convoy.trainer.flags.clock import Clock, Segment
from convoy.trainer.flags.durations import MAX_EXAMPLES, Duration
from convoy.trainer.loop.plan import Plan

RAMPS = ["", "4:3st,7:1st", "1:0.3ep,2:2st,5:1.1ep", "9:2.5ep"]


@pytest.mark.parametrize("ramp", RAMPS)
def test_positions_are_the_sums_of_the_batches(ramp):
    clock, position = RampSpec.parse(ramp).clock(30, 10), 0
    for step in range(200):
        assert clock.position(step) == position
        assert clock.step_at(position) == step
        assert clock.full_steps(step) * 10 == position
        following = position + clock.batch_size(step)
        assert {clock.step_of(p) for p in range(position, following)} == {step}
        assert {clock.step_at(p) for p in range(position + 1, following + 1)} == {step + 1}
        position = following
    assert clock.batch_size(199) == clock.full_batch == 10


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("duration", ["0.4ep", "1ep", "2.7ep", "7st"])
def test_boundaries_of_a_ramp_are_where_counting_finds_them(ramp, duration):
    clock, every = RampSpec.parse(ramp).clock(30, 10), Duration.parse(duration, "eval_every")
    # A boundary of epochs is the first step at which so many examples were shown.
    passed = [
        step // 7 if duration == "7st" else int(clock.position(step) / 30 / float(duration[:-2]) + 1e-9)
        for step in range(90)
    ]
    expected = [step for step in range(1, 90) if passed[step] > passed[step - 1]]
    found = [0]
    while found[-1] < expected[-1]:
        found.append(every.next_after(found[-1], clock))
    assert found[1:] == expected
    assert [every.times_at(step, clock) for step in range(90)] == passed


def test_a_ramp_of_epochs_ends_where_they_have_passed_together():
    # 2.5 epochs of 30 are 18.75 batches of 4: the 19th ends beyond them, and the next size begins there.
    assert RampSpec.parse("4:2.5ep,6:2.5ep").clock(30, 10).segments == (
        Segment(0, 0, 4),
        Segment(19, 76, 6),
        Segment(32, 154, 10),  # 150 examples and the rest of a batch, not 76 + 75
    )


def test_without_a_ramp_a_clock_has_one_segment():
    assert RunConfig(batch_size=7).clock(30) == Clock.steady(30, 7)


def test_borders_of_a_ramp_and_of_stages_are_boundaries_of_the_plan():
    config = RunConfig(batch_size=10, batch_ramp="2:3st,5:4st", unfreeze="3st,9st", duration="20st", eval_every="6st",
                       checkpoint_every="6st")  # fmt: skip
    plan = Plan.from_config(config, 30)
    assert (plan.stage_borders, plan.unfreeze_borders) == ((3, 7, 9), (3, 9))
    boundaries = [0]
    while boundaries[-1] < 20:
        boundaries.append(plan.next_boundary(boundaries[-1]))
    assert boundaries == [0, 3, 6, 7, 9, 12, 18, 20]
    assert plan.examples(2, 6) == 2 + 4 * 5 + 10
    assert plan.epoch(7) == pytest.approx((3 * 2 + 4 * 5) / 30)


def test_at_random_all_steps_together_show_what_the_plan_says():
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    for _ in range(50):
        sizes = sorted(draw.sample(range(1, 100), draw.randint(1, 5)))
        rungs = [
            f"{size}:{draw.choice([f'{draw.randint(1, 9)}st', f'{draw.randint(5, 40) / 10}ep'])}" for size in sizes
        ]
        config = RunConfig(batch_size=100, batch_ramp=",".join(rungs), duration="30ep")
        epoch = draw.randint(201, 1000)
        plan = Plan.from_config(config, epoch)
        shown = sum(plan.clock.batch_size(step) for step in range(plan.total))
        assert shown == plan.examples(0, plan.total), (seed, config.batch_ramp)
        assert 30 * epoch <= shown < 30 * epoch + 100, (seed, config.batch_ramp)


@pytest.mark.parametrize(
    "ramp",
    ["128", "128:", ":5ep", "128:5", "0:5ep", "-1:5ep", "1.5:5ep", "01:5ep", "64:0ep", "64:1ep,", ",64:1ep", "64:1ep;32:1ep",
     "64:1ep,32:1ep", "64:1ep,64:1ep", "64:5min", "64:1ep 65:1ep", "\uff16:1ep", "9" * 5000 + ":1ep", "6:" + "9" * 5000 + "ep",
     "128:1ep", f"{MAX_EXAMPLES + 1}:1st", ",".join(f"{size}:1st" for size in range(1, MAX_SIZES + 2))],
)  # fmt: skip
def test_what_is_no_ramp_is_a_sentence(ramp):
    with pytest.raises(exits.CannotRun, match=r"(?s)^--batch_ramp=.*\.$") as caught:
        RunConfig(batch_ramp=ramp, batch_size=128)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"duration": "30min"}, "give a --duration in epochs or steps"),
        ({"scale_lr": "goyal", "optimizer": "sgd"}, "--scale_lr=goyal names a rate for one batch"),
        ({"batch_size": 60}, "come before --batch_size=60"),
    ],
)
def test_flags_that_know_of_one_batch_are_refused(flags, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        RunConfig(**{"batch_ramp": "64:1ep", **flags})


@pytest.mark.parametrize(
    ("ramp", "sentence"),
    [("64:0.9ep,65:1ep,66:0.0001ep", "batches of 66 have no step"), ("64:10st", "ends at step 10 of 10")],
)
def test_a_ramp_that_the_run_has_no_steps_for_is_refused(ramp, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        RunConfig(batch_ramp=ramp, duration="10st").total_steps(640)


def test_a_smaller_batch_has_fewer_microbatches_of_the_same_size():
    config = RunConfig(batch_size=512, accumulate=4, batch_ramp="100:1ep,128:1ep,192:1ep,256:1ep")
    assert [config.microbatches(size) for size in config.batch_sizes] == [1, 1, 2, 2, 4]
