"""Growing batches, the noise of a gradient and optimizers that keep an average, on both engines and several devices.

The cases are those of test_engines.py, and equal means what it means there.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from case_results import assert_equal, assert_same_bits, state

BACKENDS = ["tensorflow", "jax"]
ON_TWO = [(backend, devices) for backend in BACKENDS for devices in (1, 2)]
ON_RAMPS = [("tensorflow", 1), ("jax", 2)]
THOROUGH = pytest.mark.thorough
ON_FOUR = [*ON_TWO, *(pytest.param(backend, 4, marks=THOROUGH) for backend in BACKENDS)]


@pytest.mark.parametrize(("backend", "devices"), ON_RAMPS)
def test_a_run_whose_batches_grow_is_the_one_by_hand(case, backend, devices):
    found, expected = case(backend, devices, "ramp"), case("tensorflow", 1, "ramp/by_hand")
    assert_equal({name: found[name] for name in expected}, expected)
    assert found["rates"][0] == pytest.approx(0.05 * (8 / 40) ** 0.5 * 8 / 56, rel=1e-12)


@pytest.mark.parametrize(("backend", "devices"), ON_RAMPS)
def test_going_back_over_a_border_of_a_ramp_changes_no_bit(case, backend, devices):
    found = case(backend, devices, "ramp")
    assert_same_bits(state(found, "again"), state(found, "once"))
    assert found["again"].tobytes() == found["losses"].tobytes()


def test_groups_that_a_smaller_batch_cannot_be_cut_into_are_a_sentence(case):
    assert str(case("tensorflow", 1, "ramp/refused")["sentence"]) == (
        "--batchnorm=ghost:5 cannot cut the 8 examples that a device has at once of a batch of 8; give a divisor of 8, or"
        " change --batch_size, --batch_ramp or --accumulate."
    )


@THOROUGH
@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_any_number_of_devices_ends_a_ramp_as_one(case, backend, devices):
    name = "ramp_of_normalized"
    found, here, expected = (
        case(*where, name, long=True) for where in ((backend, devices), (backend, 1), ("tensorflow", 1))
    )
    assert_same_bits(state(found, "again"), state(found, "once"))
    # Normalization takes the first bias away again, so its gradient is what rounding leaves, which Adam divides by its size.
    of_noise = [path for path in expected if path.endswith("sequential/dense/bias")]
    assert len(of_noise) > 1
    for path in of_noise:
        assert np.abs(found.pop(path) - expected[path]).max() < 1e-6, path
    assert_equal(found, {path: value for path, value in here.items() if path not in of_noise})
    assert_equal(found, {path: value for path, value in expected.items() if path not in of_noise}, 1e-7)


@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_the_noise_of_a_gradient_is_that_of_gradients_by_hand(case, backend, devices):
    names = ["accumulation/3", *(["each_dispatched/accumulation"] if (backend, devices) == ("jax", 2) else [])]
    for name in names:
        assert np.abs(case(backend, devices, name)["noise"]).max() < 1e-12, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_noise_of_a_gradient_is_without_the_loss_scale(case, backend):
    found = case(backend, 1, "skipping/float16")
    assert np.isfinite(found["noise"]).all(0).tolist() == (~found["bad"]).tolist()
    of_examples = np.abs(found["noise"][:, ~found["bad"]]) / found["norms"] ** 2
    assert of_examples.max() < 1e3, "in units of the batch's gradient"


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_parts_that_share_statistics_are_told_of(case, backend, devices):
    assert case(backend, devices, "loops")["biased"] == (devices > 1)


@THOROUGH
@pytest.mark.parametrize("name", ["noise_of_halves", "noise_of_quarters", "noise_in_float16", "noise_with_xla"])
@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_noise_is_measured_from_any_parts(case, backend, devices, name):
    found = case(backend, devices, name, long=True)
    np.testing.assert_allclose(found["found"], found["expected"], rtol=0.05 if "float16" in name else 1e-9)
    if name == "noise_of_quarters":  # the same parts on any number of devices
        np.testing.assert_allclose(found["found"], case("tensorflow", 1, name, long=True)["found"], rtol=1e-7)


@THOROUGH
@pytest.mark.parametrize("name", ["schedule_free", "muon_lookahead"])
@pytest.mark.parametrize(
    ("backend", "devices", "within"), [("jax", 2, 1e-7), ("tensorflow", 2, 1e-9), ("jax", 1, 1e-7)]
)
def test_optimizers_end_alike_on_any_devices_and_both_engines_and_resume_bit_by_bit(
    case, backend, devices, within, name
):
    found, expected = case(backend, devices, name, long=True), case("tensorflow", 1, name)
    assert_same_bits(state(found, "restored"), state(found, "once"))
    assert_equal({path: found[path] for path in expected}, expected, within)


@pytest.mark.parametrize("name", ["schedule_free", "muon_lookahead"])
def test_averages_are_restored_bit_by_bit(case, name):
    found = case("tensorflow", 1, name)
    assert_same_bits(state(found, "restored"), state(found, "once"))


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=THOROUGH)])
def test_schedule_free_evaluations_take_the_average_and_not_the_point_of_the_gradient(case, backend):
    found = state(case(backend, 1, "schedule_free", long=backend == "jax"), "step 5")
    paths = [name.removeprefix("ema/") for name in found if name.startswith("ema/") and "dense" in name]
    assert len(paths) == 3
    for path in paths:
        y, z = found[f"model/{path}"], found[f"optimizer/schedule_free_adamw/{path.replace('/', '_')}_base"]
        np.testing.assert_allclose(found[f"ema/{path}"], (y - 0.1 * z) / 0.9, rtol=1e-12, atol=1e-14)
        assert np.abs(y - found[f"ema/{path}"]).max() > 1e-6
    statistics = [name for name in found if name.startswith("ema/") and "moving" in name]
    assert len(statistics) == 2
    for name in statistics:
        assert found[name].tobytes() == found[name.replace("ema/", "model/")].tobytes()


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=THOROUGH)])
def test_ema_averages_the_slow_weights(case, backend):
    found = case(backend, 1, "muon_lookahead", long=backend == "jax")
    path = "sequential/conv2d/kernel"
    slow = [state(found, f"step {step}")[f"optimizer/muon_conv/{path.replace('/', '_')}_slow"] for step in range(6)]
    fast = [state(found, f"step {step}")[f"model/{path}"] for step in range(6)]
    average = fast[0]
    for step in range(5):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * slow[step + 1]
    np.testing.assert_allclose(found[f"ema/{path}"], average, rtol=1e-6, atol=1e-9)
    assert [bool((a == b).all()) for a, b in itertools.pairwise(slow)] == [True, False, True, False, True]
    for step in 2, 4:
        assert (slow[step] == fast[step]).all()
        assert (slow[step] != fast[step - 1]).any()


@pytest.mark.thorough
@pytest.mark.parametrize("optimizer", ["lars", "lamb"])
@pytest.mark.parametrize(("backend", "within"), [("tensorflow", 1e-9), ("jax", 1e-7)])
def test_a_batch_of_8192_by_accumulation_is_that_of_four_replicas(case, backend, within, optimizer):
    expected = case("tensorflow", 1, f"large/{optimizer}", long=True)
    assert_equal(case(backend, 4, f"large/{optimizer}", long=True), expected, within)
    assert expected["losses"][-1] < expected["losses"][0]
