"""First weights: their distributions, and that they are a function of (seed, variable's path) and of nothing else."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from convoy.trainer.engines import first_weights
from convoy.trainer.engines.first_weights import Stream
from support import once_on_both, result_of

PROGRAM = Path(__file__).with_name("first_weight_cases.py")
BACKENDS = ["tensorflow", "jax"]
FAN_IN, FAN_OUT = 3 * 3 * 48, 3 * 3 * 160  # of the kernels in first_weight_cases.py
FAN_AVERAGE = (FAN_IN + FAN_OUT) / 2


def truncated(mean: float, stddev: float):
    """Before truncation at two deviations, of deviation `stddev`."""
    return stats.truncnorm(-2, 2, mean, stddev)


def truncated_to(variance: float):
    """After truncation, of this variance."""
    return truncated(0, math.sqrt(variance / stats.truncnorm.var(-2, 2)))


def uniform_of(variance: float):
    limit = math.sqrt(3 * variance)
    return stats.uniform(-limit, 2 * limit)


# What each initializer's paper or documentation says.
DISTRIBUTIONS = {
    "RandomNormal": stats.norm(0.1, 0.3),
    "RandomUniform": stats.uniform(-0.2, 0.7),
    "TruncatedNormal": truncated(0.1, 0.3),
    "VarianceScaling": stats.norm(0, math.sqrt(3 / FAN_OUT)),
    "GlorotNormal": truncated_to(1 / FAN_AVERAGE),
    "GlorotUniform": uniform_of(1 / FAN_AVERAGE),
    "HeNormal": truncated_to(2 / FAN_IN),
    "HeUniform": uniform_of(2 / FAN_IN),
    "LecunNormal": truncated_to(1 / FAN_IN),
    "LecunUniform": uniform_of(1 / FAN_IN),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """backend -> case -> value."""
    return once_on_both(tmp_path_factory, PROGRAM)


def of(cases, prefix: str, backend: str = "tensorflow") -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): v for name, v in cases[backend].items() if name.startswith(prefix)}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_an_initializer_has_the_mean_deviation_bounds_and_distribution_that_it_promises(cases, name):
    value, expected = cases["tensorflow"][f"initializer/{name}"].ravel().astype(np.float64), DISTRIBUTIONS[name]
    mean, variance, excess = expected.stats("mvk")
    assert abs(value.mean() - mean) < 4 * math.sqrt(variance / value.size)
    # The variance of a sample's variance (Kenney and Keeping 1951, section 7.7).
    assert abs(value.var() - variance) < 4 * variance * math.sqrt((excess + 2) / value.size)
    low, high = np.float32(expected.support())
    assert low <= value.min()
    assert value.max() <= high
    assert stats.kstest(value, expected.cdf).pvalue > 0.01


def test_every_random_initializer_of_keras_is_a_case(cases):
    import keras

    base = keras.initializers.GlorotUniform.__mro__[2]
    assert base.__name__ == "RandomInitializer"
    kinds = {kind.__name__ for kind in vars(keras.initializers).values() if isinstance(kind, type)}
    random = {name for name in kinds if issubclass(getattr(keras.initializers, name), base)}
    assert {f"initializer/{name}" for name in random} <= cases["tensorflow"].keys()


@pytest.mark.parametrize(
    ("case", "gain"), [("orthogonal/wide", 1), ("orthogonal/tall", 1), ("initializer/Orthogonal", 2)]
)
def test_rows_or_columns_are_orthogonal_and_as_long_as_the_gain(cases, case, gain):
    value = cases["tensorflow"][case].astype(np.float64)
    matrix = value.reshape(-1, value.shape[-1])
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    tolerance = 1e-12 if cases["tensorflow"][case].dtype == np.float64 else 1e-6
    np.testing.assert_allclose(matrix.T @ matrix, gain**2 * np.eye(matrix.shape[1]), atol=tolerance)


def test_all_orthogonal_matrices_are_equally_likely(cases):
    # A column is a point on the sphere, each of whose coordinates is uniform (Archimedes); determinants are 1 and -1.
    matrices = cases["tensorflow"]["orthogonal/many"]
    for row in range(3):
        for column in range(3):
            assert stats.kstest(matrices[:, row, column], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(np.linalg.det(matrices).mean()) < 4 / math.sqrt(len(matrices))


@pytest.mark.parametrize(
    "prefix", ["initializer/", "dtype/", "constant/", "orthogonal/", "users/", "model/", "renamed/"]
)
def test_both_engines_have_the_same_bits(cases, prefix):
    ours, theirs = of(cases, prefix), of(cases, prefix, "jax")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if name.startswith("gamma"):
            continue  # each engine computes that itself
        if "seed_generator" in name:
            np.testing.assert_array_equal(value, theirs[name])  # in the integers of each engine
            continue
        assert value.dtype == theirs[name].dtype
        assert value.tobytes() == theirs[name].tobytes(), name


def test_every_device_of_a_strategy_has_the_value_of_one_device(cases):
    alone = of(cases, "model/")
    for devices in (1, 2, 4):
        copies = of(cases, f"mirrored/{devices}/")
        assert copies.keys() == alone.keys()
        for name, value in copies.items():
            assert value.shape[0] == devices
            assert all(copy.tobytes() == alone[name].tobytes() for copy in value), name


def test_a_value_does_not_depend_on_the_number_of_threads(cases, monkeypatch):
    for backend in BACKENDS:
        np.testing.assert_array_equal(cases[backend]["one thread"], cases[backend]["initializer/RandomNormal"])
    values = []
    for cores in (1, 4):
        monkeypatch.setattr(first_weights, "cores", lambda cores=cores: cores)
        values.append(first_weights.truncated_normal(Stream(1), (5, first_weights.BLOCK)))
    np.testing.assert_array_equal(*values)


def test_a_value_is_rounded_once(cases):
    expected = cases["tensorflow"]["dtype/float64"]
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(cases["tensorflow"]["initializer/GlorotNormal"], expected.astype(np.float32))
    np.testing.assert_array_equal(cases["tensorflow"]["dtype/float16"], expected.astype(np.float16))
    # Eight bits of bfloat16: half a unit in the last place.
    assert (np.abs(cases["tensorflow"]["dtype/bfloat16"] - expected) <= np.abs(expected) * 2.0**-8).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_of_equal_shape_differ_and_so_does_a_renamed_layer_and_another_seed(cases, backend):
    model = of(cases, "model/", backend)
    renamed, seed = of(cases, "renamed/", backend), of(cases, "seed/", backend)
    first, second, another = "model/first/kernel", "model/second/kernel", "model/another/kernel"
    kernels = [model[first], model[second], renamed[another], seed[first], seed[second]]
    assert len({kernel.tobytes() for kernel in kernels}) == 5
    np.testing.assert_array_equal(renamed[second], model[second])
    generator = "seed_generator/seed_generator_state"
    assert (model[generator] == renamed[generator]).all()
    assert (model[generator] != seed[generator]).any()


def test_numbers_of_two_variables_and_of_two_blocks_are_independent():
    size = first_weights.BLOCK
    streams = [first_weights.Variable(3, path).stream(None) for path in ("a/kernel", "b/kernel")]
    blocks = np.concatenate([first_weights.normal(stream, (2, size)) for stream in streams])
    correlations = np.corrcoef(blocks) - np.eye(4)
    assert np.abs(correlations).max() < 4 / math.sqrt(size)
    neighbours = np.corrcoef(blocks[:, 1:].ravel(), blocks[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(blocks.size)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_users_initializer_draws_from_the_same_numbers(cases, backend):
    users = of(cases, "users/", backend)
    names = {name for name in users if "/" not in name}
    assert len(names) == 6
    for name in names:
        assert users[f"{name}/again"].tobytes() == users[name].tobytes(), name
        assert users[f"{name}/elsewhere"].tobytes() != users[name].tobytes(), name
    first, second = np.split(users["negated_halves"], 2, axis=-1)
    np.testing.assert_array_equal(first, -second)
    first, second = np.split(users["two_draws"], 2, axis=-1)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / math.sqrt(first.size)
    assert stats.kstest(users["Scaled"].ravel(), stats.norm(1.0, 0.5).cdf).pvalue > 0.01
    numbers, counts = np.unique(users["whole_numbers"], return_counts=True)
    assert numbers.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert stats.chisquare(counts).pvalue > 0.01
    assert stats.kstest(users["gamma"].ravel(), stats.gamma(2.0).cdf).pvalue > 0.01


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_initializer_with_numbers_of_its_own_is_named(cases, backend):
    paths = cases[backend]["unrepeatable"].tolist()
    assert paths == ["mine/kernel", "mine/bias"]
    (note,) = first_weights.note("mine:build", paths)
    assert "mine:build draws first weights of mine/kernel, mine/bias from a source that --seed does not reach" in note
    assert first_weights.note("mine:build", []) == []


def test_constants_are_as_keras_has_them(cases):
    expected = {
        "Zeros": np.zeros((4, 4)),
        "Ones": np.ones((4, 4)),
        "Constant": np.full((4, 4), 0.7),
        "Identity": np.eye(4),
    }
    values = of(cases, "constant/")
    assert values.keys() == expected.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name].astype(np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_drawn_elsewhere_and_later_is_what_keras_draws(cases, backend):
    keras_own = of(cases, "keras/", backend)
    assert len(keras_own) == 3
    for prefix in ("outside/", "restored/"):
        for name, value in of(cases, prefix, backend).items():
            np.testing.assert_array_equal(value, keras_own[name])


def test_numbers_are_the_same_in_every_version():
    stream, digest = first_weights.Variable(3, "layer/kernel").stream(None), hashlib.sha256()
    for draw in (first_weights.normal, first_weights.truncated_normal, first_weights.uniform):
        digest.update(draw(stream, (1000,)).astype(np.float32).tobytes())
    digest.update(first_weights.randint(stream, (1000,), -5, 9).tobytes())
    assert digest.hexdigest()[:32] == "0ea643124d29f465c2af19dbab26e98c"


@pytest.mark.thorough
def test_a_run_ends_alike_on_both_engines_and_any_devices(convoy, tmp_path):
    """test_equality.py has two devices and two processes of larger models at every run."""
    flags = ["--dataset=digits", "--model=article_cnn", "--augment=article", "--batch_size=64", "--duration=30st",
             "--optimizer=sgd", "--learning_rate=0.05", "--clip_norm=1.0", "--seed=3"]  # fmt: skip
    cases = [(backend, devices) for backend in BACKENDS for devices in (1, 2, 4)]
    losses = []
    for backend, devices in cases:
        run_dir = tmp_path / f"{backend}-{devices}"
        where = [f"--backend={backend}", f"--devices=cpu:{devices}", f"--run_dir={run_dir}"]
        outcome = convoy("train", *flags, "--precision=float64", *where)
        assert outcome.code == 0, outcome
        losses.append(result_of(run_dir)["eval"]["loss"])
    np.testing.assert_allclose(losses, losses[0], rtol=0, atol=1e-7)
