"""--recipe: every line has a reason, a person's flags win, and recipes of papers have the papers' learning rates."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import convoy
from convoy import exits
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig
from convoy.trainer.flags import recipes
from convoy.trainer.loop.plan import Plan
from convoy.trainer.schedules.schedule import Schedule, build_schedule
from support import REPOSITORY

IMAGENET = 1_281_167  # training images
NOT_RUN = [name for name in recipes.table() if name.startswith(("resnet50", "vit"))]


def dry(name: str, *flags: str) -> RunConfig:
    return configuration.from_argv([f"--recipe={name}", *flags]).with_defaults()


def schedule_of(name: str, examples: int = IMAGENET) -> tuple[Schedule, RunConfig]:
    config = dry(name)
    return build_schedule(config, examples), config


def test_every_file_is_a_recipe():
    assert set(recipes.table()) == {path.stem for path in (REPOSITORY / "recipes").glob("*.flags")}


@pytest.mark.parametrize("name", recipes.table())
def test_every_line_has_a_reason(name):
    recipe = recipes.read(name)
    for line in recipe.lines:
        assert re.fullmatch(r"--[a-z_0-9]+(=.+)?", line.flag), line
        assert line.reason.endswith((".", "...")), line
    assert f"  convoy train --recipe={name}" in recipe.head[1] or f"--recipe={name}" in recipe.head[1]
    shown = recipes.explained([f"--recipe={name}"])
    assert len(shown) == 1 + len(recipe.lines)
    assert all(line.flag in text and line.reason in text for line, text in zip(recipe.lines, shown[1:], strict=True))


@pytest.mark.parametrize("name", recipes.table())
def test_a_recipe_and_its_flagfile_are_the_same_run(name):
    flags = ["--run_dir=x"]
    assert (
        dry(name, *flags)
        == configuration.from_argv([f"--flagfile={REPOSITORY}/recipes/{name}.flags", *flags]).with_defaults()
    )


@pytest.mark.parametrize("where", ["before", "behind", "in a file"])
def test_flags_of_ones_own_win_wherever_they_stand(where, tmp_path):
    own = ["--batch_size=32", "--deterministic"]
    (tmp_path / "own.flags").write_text("\n".join(own))
    argv = {
        "before": [*own, "--recipe=digits"],
        "behind": ["--recipe", "digits", *own],
        "in a file": [f"--flagfile={tmp_path / 'own.flags'}", "-recipe=digits"],
    }[where]
    config = configuration.from_argv(argv)
    assert (config.batch_size, config.deterministic, config.optimizer) == (32, True, "adamw")
    (line,) = [line for line in recipes.explained(argv) if "--batch_size=64" in line]
    assert "(you gave --batch_size=32)" in line


def test_no_recipe_is_left_in_what_a_run_keeps():
    flags = dry("resnet50_lars_4k", "--run_dir=x").to_flags()
    assert "recipe" not in flags
    for line in ("--learning_rate=10.0", "--warmup=5ep", "--scale_lr=none", "--schedule=polynomial:2,0.0001"):
        assert f"{line}\n" in flags


@pytest.mark.parametrize(
    ("argv", "error", "words"),
    [
        (["--recipe=digit"], exits.CannotRun, "--recipe=digit is not possible: did you mean digits?"),
        (["--recipe=../recipes/digits"], exits.CannotRun, "is not possible"),
        (["--recipe=/etc/passwd"], exits.CannotRun, "there are article_cifar10"),
        (["--recipe=digits", "--recipe=photographs"], exits.UsageError, "--recipe=photographs is the second recipe"),
        (["--find_lr"], exits.UsageError, "--find_lr begins no run"),
    ],
    ids=lambda value: None if isinstance(value, type) else str(value),
)
def test_what_is_no_recipe_is_refused(argv, error, words):
    with pytest.raises(error) as refusal:
        configuration.from_argv(argv)
    assert words in str(refusal.value)


def test_a_python_call_takes_a_recipe(monkeypatch):
    called = []
    monkeypatch.setattr("convoy.api.call", lambda argv, *_: called.append(argv))
    convoy.train("folder:photos", recipe="photographs", batch_size=8, run_dir="x")
    assert called == [["train", "--dataset=folder:photos", "--recipe=photographs", "--batch_size=8", "--run_dir=x"]]
    with pytest.raises(exits.CannotRun, match="did you mean photographs"):
        convoy.train("folder:photos", recipe="photograph")


@pytest.mark.parametrize("name", NOT_RUN)
def test_recipes_that_nobody_ran_say_so(name):
    assert any(line.startswith("Not yet run") for line in recipes.read(name).head)
    config = dry(name)
    plan = Plan.from_config(config, IMAGENET)
    assert plan.total == config.total_steps(IMAGENET)
    assert config.learning_rate == build_schedule(config, IMAGENET).peak


def test_the_rates_of_goyals_steps():
    """Section 5.1: 0.1 * 1,024 / 256, a tenth at epochs 30, 60 and 80, 5 epochs of warm-up."""
    schedule, config = schedule_of("resnet50_sgd_1k")

    def rate(epoch: float) -> float:
        return float(schedule(math.ceil(epoch * IMAGENET / 1024)))

    assert schedule.total_steps == math.ceil(90 * IMAGENET / 1024)
    assert [rate(epoch) for epoch in (5, 29.999, 30, 59.999, 60, 79.999, 80, 89.9)] == pytest.approx(
        [0.4, 0.4, 0.04, 0.04, 0.004, 0.004, 0.0004, 0.0004], rel=1e-5
    )
    assert rate(2.5) == pytest.approx(0.2, rel=1e-3)
    assert (config.weight_decay, config.weight_decay_mode, config.momentum) == (1e-4, "l2", 0.9)


@pytest.mark.parametrize(
    ("name", "batch_size", "peak", "warmup", "steps"),
    [("resnet50_lars_4k", 4096, 10.0, 5, 13_137), ("resnet50_lars_32k", 32_768, 21.2, 16, 2_267)],
)
def test_the_rates_of_mlperfs_reference(name, batch_size, peak, warmup, steps):
    """lars_util.py of the reference: a line to the peak, then the square of what is left, down to 1e-4.

    https://github.com/mlcommons/training/blob/master/image_classification/tensorflow2/lars_util.py, and the published steps.
    It begins at 0 and ends at the step after the last; ours begin and end within a step of that.
    """
    schedule, config = schedule_of(name)
    assert config.batch_size == batch_size
    assert abs(schedule.total_steps - steps) <= 1
    warm = warmup * IMAGENET / batch_size

    def reference(step: int) -> float:
        if step <= warm:
            return peak * step / warm
        left = 1 - (step - warm) / (steps - warm + 1)
        return (peak - 1e-4) * left**2 + 1e-4

    at = [step for step in range(steps) if step % 61 == 0]
    expected = np.array([reference(step) for step in at])
    largest_step = max(peak / warm, 2 * peak / (steps - warm))
    np.testing.assert_allclose(np.array(schedule(np.array(at))), expected, rtol=0, atol=1.1 * largest_step)
    assert float(schedule(math.ceil(warm))) == pytest.approx(peak, rel=2e-3)
    assert float(schedule(schedule.total_steps)) == pytest.approx(1e-4, rel=1e-3)


def test_the_rates_of_plain_vits_steps():
    """big_vision's vit_s16_i1k.py: 99 % of the images, 10,000 steps of warm-up, then half a cosine down to 0."""
    schedule, config = schedule_of("vit_s16_90ep", round(0.99 * IMAGENET))
    total = math.ceil(90 * round(0.99 * IMAGENET) / 1024)
    assert schedule.total_steps == total

    def reference(step: int) -> float:
        if step < 10_000:
            return 0.001 * step / 10_000
        return 0.0005 * (1 + math.cos(math.pi * (step - 10_000) / (total - 10_000)))

    at = [0, 100, 5_000, 10_000, 20_000, 60_738, 100_000, total - 1]
    expected = [reference(step) for step in at]
    np.testing.assert_allclose(np.array(schedule(np.array(at))), expected, rtol=0, atol=1.1e-7)
    assert config.learning_rate * config.weight_decay == pytest.approx(1e-4)
