"""The same cases on both engines and on 1, 2 and 4 devices: engine_cases.py runs them, one process for each combination.

Equal means max|a - b| <= 1e-9 * max(max|a|, 1e-3) per tensor (docs/architecture.md); between the engines 1e-7.
"""

from __future__ import annotations

import ast
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from case_results import Case, assert_equal, assert_neither_cuts_nor_a_restart_change_a_bit, assert_same_bits, state

from convoy.trainer import engines
from convoy.trainer.engines import loss_scale

ENGINES = Path(engines.__file__).parent
BACKENDS = ["tensorflow", "jax"]
ON_TWO = [(backend, devices) for backend in BACKENDS for devices in (1, 2)]
ON_STAGES = [("tensorflow", 1), ("tensorflow", 2), ("jax", 2)]
# Whole runs on four devices are compared in test_equality.py.
THOROUGH = pytest.mark.thorough
ON_FOUR = [*ON_TWO, *(pytest.param(backend, 4, marks=THOROUGH) for backend in BACKENDS)]


@pytest.mark.parametrize("name", ["initial", "clipping", "accumulation/3", "ghost"])
@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=THOROUGH)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_several_devices_end_as_one(case, backend, devices, name):
    assert_equal(case(backend, devices, name), case(backend, 1, name))


@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_first_weights_have_the_same_bits_on_both_engines_and_any_devices(case, backend, devices):
    found, expected = case(backend, devices, "initial"), case("tensorflow", 1, "initial")
    names = {name for name in expected if name.startswith(("model/", "ema/"))}
    assert {name for name in found if name.startswith(("model/", "ema/"))} == names
    for name in names:
        assert found[name].tobytes() == expected[name].tobytes(), name


def test_the_first_step_has_the_same_loss_on_both_engines_in_float32(case):
    losses = [case(backend, 1, "first_step")["losses"] for backend in BACKENDS]
    assert losses[0].shape == (1,)
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("backend", "devices"), [("tensorflow", 2), ("jax", 1), ("jax", 2)])
def test_winograds_convolutions_end_alike_on_two_devices_and_on_both_engines(case, backend, devices):
    found, expected = case(backend, devices, "winograds"), case("tensorflow", 1, "winograds")
    for generation in ("newer", "older"):
        assert_equal(state(found, generation), state(expected, generation), 1e-4)


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_winograds_convolutions_end_like_direct_ones_but_not_in_every_bit(case, backend, devices):
    found = case(backend, devices, "winograds")
    newer, older = state(found, "newer"), state(found, "older")
    assert_equal(newer, older, 1e-4)
    assert any((newer[name] != older[name]).any() for name in newer if "kernel" in name)


@pytest.mark.parametrize("name", ["sync", "loss/weighted", "loss/adjusted"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_devices_end_as_one(case, backend, name):
    assert_equal(case(backend, 2, name), case(backend, 1, name))


def test_steps_with_a_dispatch_each_are_those_of_a_loop(case):
    assert_equal(case("jax", 2, "each_dispatched/accumulation"), case("jax", 2, "accumulation/3"))


@pytest.mark.thorough
def test_steps_with_a_dispatch_each_on_one_device_are_those_of_a_loop(case):
    name = "each_dispatched/accumulation"
    assert_equal(case("jax", 1, name, long=True), case("jax", 1, "accumulation/3"))
    assert_neither_cuts_nor_a_restart_change_a_bit(case("jax", 1, "each_dispatched/loops", long=True))
    for name in ("diverging", "hopeless"):
        found, expected = case("jax", 1, f"each_dispatched/{name}", long=True), case("jax", 1, name)
        assert found["steps"] == expected["steps"]
        assert not found["finite"]


@pytest.mark.parametrize(
    "name", ["clipping", "accumulation/3", "loss/focal", "loss/weighted", "loss/adjusted", "sync", "ghost", "local"]
)
def test_both_engines_end_alike(case, name):
    assert_equal(case("jax", 1, name), case("tensorflow", 1, name), 1e-7)


@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_clipping_at_1_moves_the_weights_by_1(case, backend, devices):
    found = case(backend, devices, "clipping")
    moves = [found[name] - found["before/" + name] for name in found if name.startswith("model/")]
    # Nesterov's first step from rest is (1 + momentum) times the gradient.
    assert np.sqrt(sum((move**2).sum() for move in moves)) == pytest.approx(1 + float(np.float32(0.9)), rel=1e-9)
    assert found["norms"][0] > 1.01, "there was nothing to clip"


@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_a_short_last_part_weighs_as_much_as_it_has_examples(case, backend, devices):
    assert_equal(case(backend, devices, "accumulation/3"), case(backend, 1, "accumulation/1"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_local_statistics_differ_from_the_whole_batchs_and_the_moving_ones_do_not(case, backend):
    one, two = case(backend, 1, "local"), case(backend, 2, "local")
    assert np.abs(one["losses"] - two["losses"]).max() > 1e-5
    one, two = case(backend, 1, "moments"), case(backend, 2, "moments")
    mean = next(name for name in one if "moving_mean" in name)
    np.testing.assert_allclose(one[mean], two[mean], rtol=1e-12)


@pytest.mark.parametrize("name", ["sync", "ghost", "local"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_device_has_statistics_of_its_own(case, backend, name):
    one, two = case(backend, 1, name), case(backend, 2, name)
    assert not two["copies_differ"]
    assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in two.items()}


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_neither_cuts_nor_a_restart_change_a_bit(case, backend, devices):
    assert_neither_cuts_nor_a_restart_change_a_bit(case(backend, devices, "loops"))


def test_stages_end_alike_on_two_devices_and_on_both_engines(case):
    expected = {name: value for name, value in case("tensorflow", 1, "stages").items() if value.dtype.kind == "f"}
    for backend, within in (("tensorflow", 1e-9), ("jax", 1e-7)):
        found = case(backend, 2, "stages")
        assert_equal({name: value for name, value in found.items() if name in expected}, expected, within)


@pytest.mark.parametrize(("backend", "devices"), ON_STAGES)
def test_a_stage_changes_what_trains_in_it_alone(case, backend, devices):
    found = case(backend, devices, "stages")
    head, forever = "dense_1", "sequential/dense/bias"
    names = [name for name in found["names"] if forever not in name]
    assert not {"optimizer", "ema"} & {name.split("/")[0] for name in found["names"] if forever in name}
    # The slots of what trains later are there from the first step on.
    assert len([name for name in names if name.startswith("optimizer/")]) == 1 + 2 * 5
    count = {name for name in names if name.endswith("iteration")}
    assert set(found["changed_before"]) == {name for name in names if head in name} | count
    assert set(found["changed_after"]) == set(names)


@pytest.mark.parametrize(("backend", "devices"), ON_STAGES)
def test_a_restart_at_the_border_of_a_stage_changes_no_bit(case, backend, devices):
    found = case(backend, devices, "stages")
    assert_same_bits(state(found, "restored"), state(found, "once"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_frozen_layers_cost_no_gradient_no_slots_and_no_communication(case, backend):
    one, two = case(backend, 1, "frozen"), case(backend, 2, "frozen")
    if backend == "jax":  # its kernels' gradients are convolutions too
        assert one["frozen/convolutions"] == 2 < one["all/convolutions"]
    else:
        assert one["frozen/gradients"] == 0 < one["all/gradients"]
    dense = 4 * 4 * 2 * 4 + 4
    assert one["frozen/parameters"] == two["frozen/parameters"] == dense < one["all/parameters"]
    # The gradient, the loss, the count of right examples and, with --noise_scale, the squared norms of parts.
    assert set(two["frozen/sent"].tolist()) == {dense + 3}
    for found in (one, two):
        trained = [name for name in found["frozen/names"].tolist() if not name.startswith("model/")]
        assert all("dense" in name or name.endswith("iteration") for name in trained), trained
        assert len(trained) == 1 + 2 * 2 + 2


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_a_loop_ends_at_the_step_that_is_not_finite(case, backend, devices):
    found = case(backend, devices, "diverging")
    assert not found["finite"]
    assert len(found["losses"]) == found["steps"] < 10
    assert found["steps"] == case("tensorflow", 1, "diverging")["steps"]


def assert_skips(found: Case) -> None:
    assert found["finite"]
    # One image of 200 is bad, in batches of 40.
    assert found["bad"].sum() == 2
    assert found["bad"].tolist() == found["bad_norms"].tolist()
    assert_same_bits(state(found, "skipped"), state(found, "left_out"))
    assert all(np.isfinite(value).all() for name, value in found.items() if "/" in name)
    assert next(value for name, value in found.items() if name.endswith("iteration")) == 12


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_a_step_that_is_not_finite_is_skipped_as_if_it_had_done_nothing(case, backend, devices):
    found = case(backend, devices, "skipping")
    assert_skips(found)
    assert_equal(found, case(backend, 1, "skipping"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loss_that_is_not_finite_says_nothing_of_the_loss_scale(case, backend):
    found = case(backend, 1, "skipping/float16")
    assert_skips(found)
    assert found["loss_scale/scale"] == loss_scale.INITIAL
    assert found["loss_scale/good_steps"] == 10


@pytest.mark.parametrize(("backend", "name"), [("tensorflow", "skipping/xla"), ("jax", "each_dispatched/skipping")])
def test_a_step_is_skipped_in_another_program_too(case, backend, name):
    assert_skips(case(backend, 1, name))


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_a_run_goes_back_to_an_earlier_state_and_does_the_same_again(case, backend, devices):
    found = case(backend, devices, "rewound")
    assert_same_bits(state(found, "again"), state(found, "first"))
    assert found["again_losses"].tolist() == found["losses"].tolist()
    assert_same_bits(state(found, "given"), state(found, "saved"))  # neither steps nor a restore change given arrays
    assert any((value != found[f"saved/{name}"]).any() for name, value in state(found, "first").items())
    assert found["feed_is_closed"]


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_a_state_comes_tensor_by_tensor_in_the_order_of_its_shapes(case, backend, devices):
    found = case(backend, devices, "rewound")
    assert found["streamed"].tolist() == found["shapes"].tolist()
    names = [line.split()[0] for line in found["shapes"]]
    assert names == list(state(found, "again"))
    assert {name.split("/")[0] for name in names} == {"ema", "loss_scale", "model", "optimizer"}
    assert_same_bits(state(found, "stream"), state(found, "again"))


@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_evaluation_counts_every_example_once(case, backend, devices):
    found, expected = case(backend, devices, "evaluation"), case("tensorflow", 1, "evaluation")
    assert found["counts"][0] == 53
    assert (found["counts"] == expected["counts"]).all()
    assert (found["per_class"] == expected["per_class"]).all()
    assert found["per_class"].sum(1).tolist() == [53, 53, found["counts"][1]]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-12)


@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_an_evaluation_gives_the_logits_of_every_example_in_order(case, backend, devices):
    found, expected = case(backend, devices, "evaluation"), case("tensorflow", 1, "evaluation")
    assert found["indices"].tolist() == list(range(53))
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-9, atol=1e-12)
    assert np.bincount(found["logits"].argmax(1), minlength=len(found["per_class"][1])).tolist() == (
        found["per_class"][1].tolist()
    )


@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_a_model_is_only_ever_called_with_static_shapes(case, backend, devices):
    static = case(backend, devices, "evaluation")["static"]
    assert len(static) >= 2 * 4, "an evaluation and a training step"
    assert static.all()


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_after_compile_no_step_traces_the_model_again(case, backend, devices):
    first, *later = case(backend, devices, "compiled")["calls"].tolist()
    assert first > 0
    assert later == [0, 0, 0]


@pytest.mark.parametrize("devices", [1, 2])
def test_a_program_is_lowered_for_devices_that_are_not_there(case, devices):
    found = case("jax", devices, "ahead")
    assert found["same"], "what an engine lowers for its own devices"
    assert found["eight"]
    assert found["collectives"] == 1 + 2, "of the gradient, and each way for BatchNormalization"


@THOROUGH
@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_activations_that_are_computed_again_change_no_step(case, backend, devices):
    found = case(backend, devices, "rematerialized", long=True)
    again, kept = state(found, "again"), state(found, "kept")
    assert any("moving" in name for name in kept)
    assert_equal(again, kept, relative=1e-12)


@THOROUGH
def test_activations_that_are_computed_again_are_not_kept(case):
    found = case("jax", 1, "rematerialized", long=True)
    assert 2 * found["bytes/again"] < found["bytes/kept"]
    merged = tuple(map(int, version("jax").split(".")[:3])) < (0, 11, 1)
    assert (found["notes/kept"], found["notes/again"]) == (0, merged), "this JAX undoes it on CPUs"


def test_both_engines_step_by_the_same_outline():
    outlines = []
    for backend in BACKENDS:
        tree = ast.parse((ENGINES / backend / "step.py").read_text())
        step = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrainingStep")
        functions = [node for node in step.body if isinstance(node, ast.FunctionDef) and not node.decorator_list]
        outlines.append(
            [
                function.name
                for function in functions
                if function.name not in ("_undone", "_merged", "_trained", "_holding")
            ]
        )
    names = "microbatch_gradients accumulated_gradients reduce merge clip apply average decide"
    assert outlines[0] == outlines[1] == ["__call__", *names.split()]


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_stock_random_layers_are_told_of_on_several_devices(case, backend, devices):
    found = case(backend, devices, "stock")
    assert found["notes"] == (devices > 1)
    assert found["named"] == (devices > 1)


@THOROUGH
@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_keras_random_layers_in_a_network_by_name_draw_the_same_on_any_devices(case, backend, devices):
    found = case(backend, devices, "by_position", long=True)
    assert found["notes"] == 0
    assert_equal(found, case(backend, 1, "by_position", long=True))
    ours, theirs = (
        {name: value for name, value in case(engine, 1, "by_position", long=True).items() if "generator" not in name}
        for engine in (backend, "tensorflow")
    )
    assert_equal(ours, theirs, 1e-7)


@pytest.mark.parametrize(("backend", "devices"), ON_FOUR)
def test_an_overflow_on_one_device_skips_the_step_on_all(case, backend, devices):
    found = case(backend, devices, "loss_scale")
    skipped = ~np.isfinite(found["norms"])
    # 1000 * 3/4 * scale / 40 fits into float16 from a scale of 2**11 on.
    assert skipped.tolist() == [True] * 4 + [False] * 8
    assert found["scales"].tolist() == [2.0**14, 2.0**13, 2.0**12] + [2.0**11] * 9
    assert not found["kernels"][:4].any(), "the weights stay where they were, at 0"
    assert found["kernels"][4:].any((1, 2)).all()
    assert np.isfinite(found["kernels"]).all()
    assert found["momentum_is_finite"]
    assert np.isfinite(found["losses"]).all()
    assert found["good_steps"] == 8
    assert found["iterations"] == 12, "a skipped step is over too"
    np.testing.assert_allclose(found["losses"], case("tensorflow", 1, "loss_scale")["losses"], atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_overflow_leaves_the_statistics_of_batch_normalization(case, backend):
    found = case(backend, 1, "overflowing")
    skipped = ~np.isfinite(found["norms"])
    assert skipped.tolist() == [True] * 7 + [False] * 3
    assert found["unchanged"].shape[1] == 4, "mean and variance, and their averages"
    assert (found["unchanged"] == skipped[:, None]).all()


@pytest.mark.parametrize(("backend", "devices"), ON_TWO)
def test_a_gradient_that_overflows_at_a_scale_of_1_ends_the_run(case, backend, devices):
    found = case(backend, devices, "hopeless")
    assert found["steps"] == 16  # from 2**15 to 1, and one more
    assert not found["finite"]
    assert np.isfinite(found["losses"]).all()


def test_the_scale_doubles_after_2000_good_steps_and_never_falls_below_1():
    loss, good, overflow = np.float32(2.5), np.float32(1.0), np.float32("inf")
    scale, steps = loss_scale.advance(np.float32(1024), np.int32(1998), loss, good)
    assert (float(scale), int(steps)) == (1024, 1999)
    for nothing in (np.float32("nan"), np.float32("inf")):  # of a loss that is not finite
        assert [float(one) for one in loss_scale.advance(scale, steps, nothing, overflow)] == [1024, 1999]
        assert [float(one) for one in loss_scale.advance(scale, steps, nothing, good)] == [1024, 1999]
        assert not bool(loss_scale.hopeless(np.float32(1), nothing, overflow))
    scale, steps = loss_scale.advance(scale, steps, loss, good)
    assert (float(scale), int(steps)) == (2048, 0)
    scale, steps = loss_scale.advance(np.float32(1), np.int32(7), loss, overflow)
    assert (float(scale), int(steps)) == (1, 0)
    assert bool(loss_scale.hopeless(np.float32(1), loss, overflow))
    assert not bool(loss_scale.hopeless(np.float32(2), loss, overflow))
    assert not bool(loss_scale.hopeless(np.float32(1), loss, good))
