"""--groups, --layer_decay and --unfreeze: their small languages, and what they make of the paths of a network."""

from __future__ import annotations

import re

import pytest

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.loop.plan import Plan
from convoy.trainer.optimizers.groups import Depths, Treatment, build_treatments
from fake_run import BATCH, FakeEngine, Run

# Three blocks below the head.
PATHS = ["stem/kernel", "block1/kernel", "block1/norm/gamma", "block2/kernel", "block2/bias", "logits/kernel"]
DEPTHS = Depths(dict(zip(PATHS, [3, 2, 2, 1, 1, 0], strict=True)))


def treatments(depths: Depths = DEPTHS, **flags) -> dict[str, Treatment]:
    treat = build_treatments(RunConfig(**flags), PATHS, depths)
    return {path: treat(path) for path in PATHS}


def test_without_flags_everything_trains_alike():
    assert set(treatments().values()) == {Treatment()}


def test_the_first_pattern_that_matches_decides():
    found = treatments(groups="gamma|bias:wd=0;^block(?:1|2)/:lr=0.1,wd=0.5;^stem:freeze")
    assert found == {
        "stem/kernel": Treatment(None),
        "block1/kernel": Treatment(lr=0.1, wd=0.5),
        "block1/norm/gamma": Treatment(wd=0.0),
        "block2/kernel": Treatment(lr=0.1, wd=0.5),
        "block2/bias": Treatment(wd=0.0),
        "logits/kernel": Treatment(),
    }


def test_what_is_kept_never_trains_whatever_its_group_says():
    treat = build_treatments(RunConfig(groups="norm:lr=0.5"), PATHS, DEPTHS, ["block1/norm/gamma"])
    assert treat("block1/norm/gamma") == Treatment(None)
    assert treat("block1/kernel") == Treatment()


def test_layer_decay_is_a_power_of_the_blocks_to_the_head_and_multiplies_a_groups_factor():
    found = treatments(layer_decay=0.5, groups="block1:lr=3")
    rates = {path: treatment.lr for path, treatment in found.items()}
    assert [rates[path] for path in PATHS] == [0.125, 0.75, 0.75, 0.5, 0.5, 1.0]


@pytest.mark.parametrize(
    ("unfreeze", "stages"),
    [("3ep", [1, 1, 1, 0]), ("3ep,6ep", [2, 2, 1, 0]), ("1st,2st,3st", [3, 2, 1, 0])],
)
def test_blocks_are_released_from_the_head_down_in_equal_parts(unfreeze, stages):
    found = treatments(unfreeze=unfreeze)
    assert [found[path].stage for path in ("stem/kernel", "block1/kernel", "block2/kernel", "logits/kernel")] == stages
    assert found["logits/kernel"].trains_in(0)
    assert not found["stem/kernel"].trains_in(stages[0] - 1)


def test_the_backbone_is_no_head_although_layer_decay_counts_its_end_as_that():
    depths = Depths(
        {"conv/kernel": 1, "last_norm/gamma": 0, "logits/kernel": 0}, frozenset(["conv/kernel", "last_norm/gamma"])
    )
    treat = build_treatments(RunConfig(unfreeze="3ep", layer_decay=0.5), depths.from_head, depths)
    assert [(treat(path).stage, treat(path).lr) for path in depths.from_head] == [(1, 0.5), (1, 1.0), (0, 1.0)]


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ("blok2:freeze", "blok2 matches no variable of --model=article_cnn; the paths closest to it are block2/"),
        ("block:lr=2;block2:freeze", "whatever block2 matches belongs to a pattern before it"),
        ("^(?!logits):freeze", "RE2 does not take it, invalid perl operator: (?!"),
    ],
)
def test_a_pattern_that_does_nothing_is_refused(groups, sentence):
    with pytest.raises(exits.CannotRun, match=re.escape(sentence)):
        treatments(groups=groups, model="article_cnn")


def test_a_strangers_pattern_takes_no_time():
    """Python's re would search for as long as the universe is old."""
    path = "a" * 200 + "!"
    with pytest.raises(exits.CannotRun, match="matches no variable"):
        build_treatments(RunConfig(groups="^(a+)+$:freeze"), [path], Depths({path: 0}))


def test_more_borders_than_blocks_are_refused():
    with pytest.raises(exits.CannotRun, match="below its head the network has 3 blocks, so give at most 3 durations"):
        treatments(unfreeze="1st,2st,3st,4st")


@pytest.mark.parametrize(
    "groups",
    ["stem", "stem:", ":freeze", "stem:thaw", "stem:lr", "stem:lr=", "stem:lr=x", "stem:lr=0", "stem:lr=-1", "stem:wd=-1",
     "stem:lr=nan", "stem:lr=1e99", "stem:lr=1,lr=2", "stem:lr=1,freeze", "stem:freeze;", ";stem:freeze", "(:freeze",
     "a{99999999999999}:freeze", "(" * 2000 + ")" * 2000 + ":freeze", "*:lr=1"],
)  # fmt: skip
def test_groups_that_cannot_be_parsed_are_a_sentence(groups):
    with pytest.raises(exits.CannotRun, match=r"^--groups.*\.$"):
        RunConfig(groups=groups)


@pytest.mark.parametrize("unfreeze", ["3", "0ep", "3ep,", "3ep;6ep", "0st"])
def test_durations_that_cannot_be_parsed_are_a_sentence(unfreeze):
    with pytest.raises(exits.CannotRun, match="--unfreeze="):
        RunConfig(unfreeze=unfreeze)


@pytest.mark.parametrize(
    ("unfreeze", "sentence"),
    [("6ep,3ep", "give rising durations"), ("5st,0.1ep", "give rising durations"), ("10ep", "step 100 of 100")],
)
def test_borders_that_do_not_rise_or_come_too_late_are_refused(unfreeze, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        RunConfig(unfreeze=unfreeze, batch_size=100).unfreeze_borders(1000)


def test_a_border_is_a_boundary_of_the_plan():
    config = RunConfig(unfreeze="0.5ep,7st", batch_size=100, eval_every="6st", checkpoint_every="6st")
    plan = Plan.from_config(config, 1000)
    boundaries = [0]
    while boundaries[-1] < 15:
        boundaries.append(plan.next_boundary(boundaries[-1]))
    assert boundaries == [0, 5, 6, 7, 12, 18]
    assert [plan.stage(step) for step in (0, 4, 5, 6, 7, 99)] == [0, 0, 1, 1, 2, 2]
    assert not plan.saves_at(5)


def test_the_loop_compiles_a_stage_when_it_begins(tmp_path):
    run = Run(tmp_path / "run")
    run.attempt(unfreeze="5st", steps_per_loop=100)
    calls = [call for call in run.engine.calls if call in ("compile", "train") or call.startswith("stage")]
    # Cut at 3, 4, 5, 6, 8, 9 and 12.
    assert calls == ["stage of 0", "compile", *["train"] * 3, "stage of 5", "compile", *["train"] * 4]


def test_a_rollback_over_a_border_enters_the_earlier_stage_again(tmp_path):
    run = Run(tmp_path / "run")
    run.attempt(FakeEngine(nan_at=[5 * BATCH]), unfreeze="5st", on_nan="rollback", steps_per_loop=100)
    stages = [call for call in run.engine.calls if call.startswith("stage") or call == "restore"]
    assert stages == ["stage of 0", "stage of 5", "restore", "stage of 4", "stage of 5"]
