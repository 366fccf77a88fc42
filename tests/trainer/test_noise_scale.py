"""--noise_scale: estimates against the truth, and their averages through records, resumes, skipped steps and stages.

What engines measure is compared with gradients by hand in tests/engines/test_engines.py.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from convoy import exits
from convoy.data.pipeline import BatchSharding
from convoy.trainer import noise_scale
from convoy.trainer.checkpoints import select
from convoy.trainer.flags.clock import Clock
from convoy.trainer.loop.progress import Progress
from convoy.trainer.noise_scale import DECAY, Estimates, NoiseAverages, estimate
from convoy.trainer.outputs.records import read_metrics
from fake_run import BATCH, FakeEngine, Run
from support import QUICK, events_of, records_of, result_of

pytestmark = pytest.mark.slow  # Keras, and networks of its own

KEYS = ["noise_scale", "squared_gradient", "gradient_variance"]


def measured(parts: list[np.ndarray]) -> tuple[float, float]:
    """(norm of the gradient of a batch's mean, sum of the squared norms of its parts), from each part's gradients [n, d]."""
    batch_size = sum(map(len, parts))
    sums = [part.sum(0) / batch_size for part in parts]
    return float(np.linalg.norm(sum(sums))), sum(float((part**2).sum()) for part in sums)


@pytest.mark.parametrize("part_sizes", [[1, 1], [2, 1], [1, 1, 1], [3, 1]], ids=repr)
def test_over_all_batches_that_may_be_drawn_the_estimates_are_right(part_sizes):
    examples = np.array([[1.0, 2.0], [-0.5, 1.0], [3.0, -1.0]])
    batches = itertools.product(examples, repeat=sum(part_sizes))
    steps = [measured(np.split(np.array(batch), np.cumsum(part_sizes)[:-1])) for batch in batches]
    found = estimate(*np.array(steps).T, part_sizes)
    mean = examples.mean(0)
    assert found.squared_gradient.mean() == pytest.approx((mean**2).sum(), rel=1e-12)
    assert found.variance.mean() == pytest.approx(((examples - mean) ** 2).sum(1).mean(), rel=1e-12)


def test_of_equal_parts_the_estimates_are_those_of_the_paper():
    generator, (size, parts) = np.random.default_rng(0), (8, 4)
    gradients = generator.normal(0.3, 1, (parts, size, 5))
    norm, squares = measured(list(gradients))
    small, large = (gradients.mean(1) ** 2).sum(1).mean(), norm**2  # squared norms at batches of 8 and of 32
    batch_size = size * parts
    found = estimate(np.array([norm]), np.array([squares]), [size] * parts)
    assert found.squared_gradient == pytest.approx((batch_size * large - size * small) / (batch_size - size), rel=1e-12)
    assert found.variance == pytest.approx((small - large) / (1 / size - 1 / batch_size), rel=1e-12)


@pytest.mark.parametrize("part_sizes", [[32, 32], [16] * 4, [28, 28, 8]], ids=repr)
def test_on_a_quadratic_it_is_within_a_tenth_of_the_truth_after_400_steps(part_sizes):
    """SGD at batch 64 on sum(curvature * weights**2) / 2, in 200 dimensions, where each example adds noise to the gradient."""
    generator = np.random.default_rng(1)
    curvature, deviation = generator.uniform(0.5, 2, 200), generator.uniform(0.5, 2, 200)
    weights, averages = generator.normal(0, 0.1, 200), NoiseAverages()
    for _ in range(400):
        parts = [curvature * weights + deviation * generator.normal(0, 1, (size, 200)) for size in part_sizes]
        norm, squares = measured(parts)
        found = estimate(np.array([norm]), np.array([squares]), part_sizes)
        averages.add(float(found.squared_gradient[0]), float(found.variance[0]))
        weights -= 1e-4 * np.concatenate(parts).mean(0)
    truth = (deviation**2).sum() / ((curvature * weights) ** 2).sum()
    assert 64 < truth < 300, "more noise than gradient in a step"
    assert averages.metrics()["noise_scale"] == pytest.approx(truth, rel=0.1)


def test_figures_that_noise_hides_are_none():
    averages = NoiseAverages()
    assert averages.metrics() == dict.fromkeys(KEYS)
    averages.add(float("nan"), 1.0)
    averages.add(1.0, float("inf"))
    assert averages == NoiseAverages()
    averages.add(-2.0, 3.0)
    assert averages.metrics() == pytest.approx(
        {"noise_scale": None, "squared_gradient": -2.0, "gradient_variance": 3.0}
    )
    assert averages.describe() == "noise scale unknown"
    averages.add(1000.0, 3e6)
    assert averages.describe() == "noise scale 3,006"
    assert NoiseAverages(1, 5e-324, 1e300).metrics()["noise_scale"] is None


def test_one_part_is_refused_with_what_to_do():
    for sharding, sizes in (
        (BatchSharding(40, 1, 2), [20, 20]),
        (BatchSharding(40, 3, 1), [14, 14, 12]),
        (BatchSharding(40, 3, 2), [7, 7, 6] * 2),
    ):
        assert sharding.part_sizes == sizes
        noise_scale.check(sharding.part_sizes)
    with pytest.raises(exits.CannotRun, match="--noise_scale=true is not possible: .* --accumulate=2 or more"):
        noise_scale.check(BatchSharding(40).part_sizes)


# In the loop


class NoisyEngine(FakeEngine):
    """Measures what depends on the number of the step alone, and nothing where its loss is NaN."""

    def train(self, steps):
        first = self.iterations
        result = super().train(steps)
        numbers = first + np.arange(result.steps, dtype=float)
        numbers[~np.isfinite(result.losses)] = np.nan
        return result.__class__(**{**vars(result), "noise": Estimates(1.5 + np.sin(numbers), 100 + numbers**1.5)})


def averaged(numbers) -> dict[str, float]:
    """The figures after these steps, by weights that fall with a step's age."""
    numbers = np.array(numbers, float)
    weights = DECAY ** np.arange(len(numbers))[::-1]
    gradient = np.average(1.5 + np.sin(numbers), weights=weights)
    variance = np.average(100 + numbers**1.5, weights=weights)
    return dict(zip(KEYS, (variance / gradient, gradient, variance), strict=True))


def figures(run: Run) -> dict[int, dict[str, float]]:
    """Step -> what its record of training says of noise."""
    return {
        line["step"]: {key: line[key] for key in KEYS if key in line}
        for line in read_metrics(run.store)
        if line["split"] == "train"
    }


def saved(run: Run) -> dict:
    return select(run.store, "last")[2]["progress"]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("noise") / "run")
    run.attempt(NoisyEngine())
    return run


def test_records_have_the_average_of_all_steps_so_far(undisturbed):
    found = figures(undisturbed)
    assert list(found) == [4, 8, 12]
    for step, values in found.items():
        assert values == pytest.approx(averaged(range(step)), rel=1e-12)


def test_the_screen_has_it(run, capsys):
    run.attempt(NoisyEngine())
    scale = averaged(range(12))["noise_scale"]
    assert f"noise scale {scale:,.0f}  " in capsys.readouterr().out


@pytest.mark.parametrize("killed_at", [2, 5, 11])
def test_a_run_that_died_averages_the_same_bits(run, undisturbed, killed_at):
    def kill():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.attempt(NoisyEngine(at_step={killed_at: kill}), steps_per_loop=1)
    run.attempt(NoisyEngine(), steps_per_loop=5)
    assert figures(run) == figures(undisturbed)
    assert saved(run)["noise"] == saved(undisturbed)["noise"]
    assert saved(run)["noise"]["steps"] == 12


def test_a_skipped_step_is_left_out(run):
    progress = run.attempt(NoisyEngine(nan_at={9, 50}, skips=True), on_nan="skip")
    assert progress.noise.steps == 10
    assert progress.noise.metrics() == pytest.approx(averaged([0, 2, 3, 4, 5, *range(7, 12)]), rel=1e-12)


def test_a_rollback_takes_back_what_was_averaged_since(run):
    progress = run.attempt(NoisyEngine(nan_at={7 * BATCH}), on_nan="rollback")
    assert progress.rollbacks == 1
    assert progress.noise.metrics() == pytest.approx(averaged(range(12)), rel=1e-12)


def test_a_stage_begins_anew(run):
    progress = run.attempt(NoisyEngine(), unfreeze="5st")
    assert progress.noise.steps == 7
    assert progress.noise.metrics() == pytest.approx(averaged(range(5, 12)), rel=1e-12)
    assert figures(run)[4] == pytest.approx(averaged(range(4)), rel=1e-12)


def test_a_run_without_it_says_nothing_of_it(run):
    run.attempt(NoisyEngine(), duration="8st")
    assert "noise" in saved(run)
    progress = run.attempt(FakeEngine())  # it may be left out when a run goes on
    assert progress.noise is None
    assert "noise" not in saved(run)
    assert figures(run)[12] == {}


def test_a_progress_has_the_same_bits_when_it_is_read_again():
    averages = NoiseAverages()
    for number in np.random.default_rng(0).normal(1, 3, 30).tolist():
        averages.add(number, 1 / number)
    read = Progress.from_dict(
        json.loads(json.dumps(Progress(step=40, position=40, noise=averages).to_dict())), Clock.steady(1, 1)
    )
    assert read.noise == averages
    assert Progress(step=40, position=40).to_dict().keys() == read.to_dict().keys() - {"noise"}


@pytest.mark.parametrize(
    "values",
    [{"steps": -1}, {"steps": 41}, {"steps": 1.5}, {"variance": float("nan")}, {"variance": None}, {"more": 1}, 3, []],
    ids=repr,
)
def test_averages_that_no_run_has_are_bad_data(values):
    noise = {"steps": 30, "squared_gradient": 1.0, "variance": 2.0}
    noise = noise | values if isinstance(values, dict) else values
    with pytest.raises(exits.BadData, match="progress has"):
        Progress.from_dict({**Progress(step=40, position=40).to_dict(), "noise": noise}, Clock.steady(1, 1))


# As a command


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_run_that_is_killed_measures_the_same_bits(convoy, tmp_path, backend):
    flags = [*QUICK, f"--backend={backend}", "--noise_scale", "--steps_per_loop=7"]
    one_part = convoy("train", *flags, "--devices=cpu:1", "--run_dir=one")
    assert one_part.code == exits.CannotRun.code
    assert "--accumulate=2 or more" in one_part.err
    assert not Path(tmp_path, "one", "config.json").exists()
    flags += ["--accumulate=4", "--devices=cpu:1"]
    whole = convoy("train", *flags, "--run_dir=whole")
    assert "noise scale " in whole.out
    assert convoy("train", *flags, "--run_dir=cut", chaos="kill:upload@21").code == exits.TryAgain.code
    assert convoy("train", *flags, "--run_dir=cut").code == 0
    assert "restored" in [event["event"] for event in events_of(tmp_path / "cut")]
    assert records_of(tmp_path / "cut") == records_of(tmp_path / "whole")
    last = [line for line in records_of(tmp_path / "cut") if line["split"] == "train"][-1]
    results = [result_of(tmp_path / name)["train"] for name in ("cut", "whole")]
    assert all({key: result[key] for key in KEYS} == {key: last[key] for key in KEYS} for result in results)
    assert last["noise_scale"] > 0
