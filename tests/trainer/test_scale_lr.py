"""--scale_lr: rules against their papers' numbers, and what they become in a run's flags."""

from __future__ import annotations

import dataclasses
import math

import pytest

from convoy import exits
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.scale_lr import LARS_POINTS, RULES
from convoy.trainer.run_dir import commands
from convoy.trainer.run_dir.allowed_changes import differences
from convoy.trainer.verbs.train import _rule as explained


def settled(**values) -> RunConfig:
    return RunConfig(**values).with_defaults()


@pytest.mark.parametrize(("batch_size", "rate"), [(256, 0.1), (1024, 0.4), (8192, 3.2)])
def test_goyal(batch_size, rate):
    config = settled(optimizer="sgd", scale_lr="goyal", batch_size=batch_size)
    assert (config.learning_rate, config.warmup, config.scale_lr) == (pytest.approx(rate), "5ep", "none")


def test_a_base_rate_of_ones_own_is_scaled_too():
    assert settled(optimizer="sgd", scale_lr="goyal", learning_rate=0.05, batch_size=512).learning_rate == 0.1


@pytest.mark.parametrize("point", LARS_POINTS, ids=lambda point: point.size)
def test_lars_at_published_batches(point):
    config = settled(optimizer="lars", scale_lr="lars", batch_size=point.size)
    assert (config.learning_rate, config.warmup) == (point.rate, f"{point.warmup}ep")


def test_lars_between_published_batches_is_on_the_line_of_logarithms_and_says_so():
    asked = RunConfig(optimizer="lars", scale_lr="lars", batch_size=20_000)
    part = math.log(20_000 / 13_056) / math.log(32_768 / 13_056)
    config = asked.with_defaults()
    assert config.learning_rate == pytest.approx(12.8 * (21.2 / 12.8) ** part, rel=1e-3)
    assert config.warmup_spec.amount == pytest.approx(9 + part * 7, abs=0.01)
    (line,) = explained(asked)
    assert "not published: 16.17 is between the points at 13,056 (rate 12.8, warm-up 9ep, with" in line
    assert "and at 32,768 (rate 21.2, warm-up 16ep, with --momentum=0.94 --weight_decay=2.5e-05)" in line


@pytest.mark.parametrize("batch_size", [1024, 1631, 67_841])
def test_lars_outside_of_the_published_batches_is_refused(batch_size):
    with pytest.raises(exits.CannotRun, match=r"published for batches of 1,632 to 67,840; give a --learning_rate"):
        RunConfig(optimizer="lars", scale_lr="lars", batch_size=batch_size)


# You et al. 2020, the appendix' table of ResNet-50: 4 / (2**k * 100), epochs of warm-up.
@pytest.mark.parametrize(
    ("batch_size", "k", "warmup"),
    [
        (512, 3, "0.3125ep"),
        (1024, 2.5, "0.625ep"),
        (2048, 2, "1.25ep"),
        (4096, 1.5, "2.5ep"),
        (8192, 1, "5ep"),
        (16_384, 0.5, "10ep"),
        (32_768, 0, "20ep"),
    ],
)
def test_lamb(batch_size, k, warmup):
    config = settled(optimizer="lamb", scale_lr="lamb", batch_size=batch_size)
    assert (config.learning_rate, config.warmup) == (pytest.approx(4 / (2**k * 100)), warmup)


@pytest.mark.parametrize("batch_size", [16, 128, 4096])
def test_adam_keeps_the_half_life_in_examples(batch_size):
    config = settled(scale_lr="adam:128", batch_size=batch_size)
    assert config.learning_rate == pytest.approx(0.001 * math.sqrt(batch_size / 128))

    def half_life(beta_2: float, size: int) -> float:
        return size * math.log(0.5) / math.log(beta_2)

    assert half_life(config.beta_2, batch_size) == pytest.approx(half_life(0.999, 128))
    assert config.warmup == "0st"


def test_what_was_given_wins_over_the_rule():
    config = settled(optimizer="sgd", scale_lr="goyal", batch_size=512, warmup="0st")
    assert config.warmup == "0st"
    assert settled(optimizer="lamb", scale_lr="lamb", warmup="7st").warmup == "7st"
    assert settled(optimizer="sgd", scale_lr="linear:256").warmup == "0st"


def test_a_run_that_goes_on_needs_no_rule(tmp_path):
    """The command of before, config.flags and a Python call all mean the same run."""
    asked = RunConfig(run_dir="x", optimizer="sgd", scale_lr="goyal", batch_size=512)
    config = asked.with_defaults()
    (tmp_path / "config.flags").write_text(config.to_flags())
    again = configuration.from_argv([f"--flagfile={tmp_path / 'config.flags'}", "--run_dir=x"])
    assert again == config == config.with_defaults()
    assert differences(config, again) == []
    assert asked.peak_learning_rate == config.peak_learning_rate
    assert asked.warmup_spec == config.warmup_spec


def test_the_command_of_a_run_says_no_more_than_it_was_told():
    told = RunConfig(run_dir="x", optimizer="sgd", scale_lr="goyal")
    assert commands.train(told) == "convoy train --optimizer=sgd --scale_lr=goyal --run_dir=x"
    without = dataclasses.replace(told, warmup="0st")
    assert "--warmup=0st" in commands.train(without)
    assert commands.train(RunConfig(run_dir="x").with_defaults()) == "convoy train --run_dir=x"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scale_lr": "goyal"}, "a rule for --optimizer=sgd; give that, linear:BASE or sqrt:BASE"),
        ({"scale_lr": "adam:256", "optimizer": "sgd"}, "a rule for --optimizer=adam or adamw"),
        (
            {"scale_lr": "lars", "optimizer": "lars", "batch_size": 4096, "learning_rate": 3.0},
            "names the learning rate; remove it, or --learning_rate=3.0",
        ),
        ({"scale_lr": "goyl", "optimizer": "sgd"}, "did you mean goyal?"),
        ({"scale_lr": "goyal:256", "optimizer": "sgd"}, "for example linear:256"),
        ({"scale_lr": "adam"}, "adam:BASE"),
        ({"scale_lr": "lamb:0"}, "for example linear:256"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(values, words):
    with pytest.raises(exits.CannotRun, match=f"--scale_lr={values['scale_lr']} is not possible") as error:
        RunConfig(**values)
    assert words in str(error.value)


@pytest.mark.parametrize("rule", [name for name, row in RULES.items() if row.settles])
def test_every_rule_says_what_it_set_and_whose_it_is(rule):
    row = RULES[rule]
    text = f"{rule}:256" if row.argument else rule
    (line,) = explained(RunConfig(optimizer=row.optimizers[0], scale_lr=text, batch_size=4096))
    assert line.startswith(f"--scale_lr={text}: --learning_rate=")
    assert row.source in line
    assert explained(RunConfig(scale_lr="sqrt:32")) == []
