"""Configuration: flags in, one frozen object, flags out again."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from convoy import exits, options
from convoy.data.config import DataConfig
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.run_dir import stored_config
from convoy.trainer.run_dir.allowed_changes import differences
from support import REPOSITORY

GOLDEN = Path(__file__).parent / "golden"
RECIPES = sorted((REPOSITORY / "recipes").glob("*.flags"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_every_recipe_means_what_it_meant(recipe):
    """A default that moves shows here, in every recipe it changes. CONVOY_UPDATE_GOLDEN=1 rewrites the files."""
    resolved = configuration.from_argv([f"--flagfile={recipe}", "--run_dir=runs/x"]).with_defaults().to_flags()
    golden = GOLDEN / f"{recipe.stem}.flags"
    if os.environ.get("CONVOY_UPDATE_GOLDEN"):
        golden.write_text(resolved)
    assert resolved == golden.read_text()


def test_flags_reproduce_a_configuration(tmp_path):
    config = RunConfig(
        run_dir="a",
        data=DataConfig(
            dataset="cifar10",
            augment="standard",
            eval_split="hash:0.25",
            test_split="none",
            image_size=40,
            balance="effective:0.99",
            bad_images="skip",
            max_bad_fraction=0.1,
            crop_fraction=0.9,
            fit="pad",
        ),
        model="resnet50",
        pretrained="weights.safetensors",
        groups="^logits:lr=2",
        layer_decay=0.5,
        unfreeze="1ep",
        stochastic_depth=0.2,
        precision="mixed_bfloat16",
        batch_size=96,
        batch_ramp="32:0.5ep,64:7st",
        duration="2.5ep",
        optimizer="lars",
        momentum=0.8,
        nesterov=True,
        trust_coefficient=0.02,
        learning_rate=1 / 3,
        scale_lr="sqrt:256",
        schedule="step:0.5,0.9",
        warmup="10st",
        weight_decay=1e-4,
        clip_norm=1.5,
        loss="focal:1.5",
        label_smoothing=0.1,
        ema=0.999,
        lookahead="5:0.8",
        accumulate=3,
        remat=True,
        noise_scale=True,
        patience=4,
        max_minutes=90.5,
        eval_every="7st",
        checkpoint_every="0.5ep",
        keep=3,
        steps_per_loop=5,
        restarts=2,
        report=False,
        profile="100:110",
        seed=-7,
        deterministic=True,
        devices="cpu:1",
        strategy="one",
        backend="jax",
        xla="on",
        kernels="1",
        onednn="off",
        gradient_buckets=3,
        gradient_dtype="bfloat16",
        compile_cache="gs://bucket/programs",
        trust_compile_cache=True,
        hang_timeout=30.0,
        on_nan="skip",
        batchnorm="ghost:32",
        log_to="wandb,mlflow",
    )
    defaults = RunConfig().to_dict()
    same = [name for name, value in config.to_dict().items() if value == defaults[name]]
    others = {option for row in OPTIMIZERS.values() for option in row.options} - {*OPTIMIZERS["lars"].options}
    with_others = {"group", "bit_depth", "order"}  # than this data set and --balance
    assert {*same} == {"data_dir", "cache_bytes", "cache_gb", "cache_features", "clip_agc", *with_others, *others}, (
        "every flag but these is tried with another value than its default"
    )
    (tmp_path / "config.flags").write_text(config.to_flags())
    again = configuration.from_argv([f"--flagfile={tmp_path / 'config.flags'}", "--run_dir=a"])
    assert again == config
    assert configuration.from_dict(config.to_dict()) == config


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().batch_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("batch_size", 0, "from 1 to 16,777,216"),
        ("accumulate", -1, "auto or a whole number from 1 to"),
        ("accumulate", 129, "at most 128"),
        ("keep", 0, "from 1 to"),
        ("steps_per_loop", -1, "from 0 to"),
        ("restarts", -1, "from 0 to"),
        ("seed", 2**31, "from -2,147,483,648 to 2,147,483,647"),
        ("profile", "100", "give FIRST:END in steps"),
        ("profile", "110:100", "give FIRST:END in steps"),
        ("profile", "0:2147483648", "give FIRST:END in steps"),
        ("duration", "0ep", "above zero"),
        ("duration", "10", "10ep"),
        ("eval_every", "0st", "above zero"),
        ("checkpoint_every", "often", "10ep"),
        ("warmup", "5", "10ep"),
        ("learning_rate", 0.0, "from 1e-30 up to 1e+30"),
        ("learning_rate", float("nan"), "from 1e-30 up to 1e+30"),
        ("learning_rate", float("inf"), "from 1e-30 up to 1e+30"),
        ("weight_decay", -0.1, "0 or"),
        ("clip_norm", float("nan"), "0 or"),
        ("label_smoothing", 1.0, "not including 1"),
        ("ema", 1.5, "not including 1"),
        ("scale_lr", "linear", "linear:256"),
        ("scale_lr", "sqrt:0", "linear:256"),
        ("schedule", "cosin", "did you mean cosine?"),
        ("schedule", "cosine:3", "takes no numbers"),
        ("schedule", "polynomial:0", "power above 0"),
        ("schedule", "step:0.9,0.5", "rising fractions"),
        ("schedule", "step:a", "rising fractions"),
        ("loss", "focl", "did you mean focal?"),
        ("loss", "focal:", "for example focal:1.5"),
        ("loss", "focal:0", "above 0"),
        ("loss", "logit_adjusted:inf", "above 0"),
        ("loss", "weighted:1", "between 0 and 1"),
        ("loss", "weighted:reverse", "weighted:inverse"),
        ("loss", "balanced_softmax:1", "takes no number"),
        ("loss", "cross_entropy:", "takes no number"),
        ("devices", "tpu", "cpu:N"),
        ("devices", "cpu:0", "cpu:N"),
        ("devices", "tpu:4", "--strategy=tpu"),
        ("batchnorm", "ghost", "ghost:32"),
        ("backend", "torch", "tensorflow, jax"),
        ("hang_timeout", -1.0, "0 or a number"),
        ("on_nan", "skp", "did you mean skip"),
        ("strategy", "miror", "did you mean mirrored?"),
        ("precision", "float16", "float"),
        ("optimizer", "adma", "did you mean adam"),
        ("model", "article", "did you mean article_cnn?"),
        ("model", "my model:f", "package.module:function"),
        ("stochastic_depth", 1.0, "not including 1"),
        ("stochastic_depth", -0.1, "not including 1"),
        ("stochastic_depth", float("nan"), "not including 1"),
        ("stochastic_depth", 0.1, "--model=resnet18, resnet50 or"),
    ],
)
def test_an_impossible_value_names_flag_value_and_remedy(flag, value, words):
    with pytest.raises(exits.CannotRun) as error:
        RunConfig(**{flag: value})
    text = str(error.value)
    assert f"--{flag}={value}" in text
    assert words in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backend": "jax", "xla": "off"}, "--xla=off"),
        ({"backend": "jax", "strategy": "tpu"}, "--devices=tpu:N"),
        ({"strategy": "tpu", "devices": "cpu:2"}, "--devices=cpu:2"),
        ({"strategy": "tpu", "precision": "float64"}, "--precision=float64"),
        ({"strategy": "mirrored", "xla": "on"}, "--xla=on"),
    ],
)
def test_combinations_that_no_machine_can_run_are_refused(values, words):
    with pytest.raises(exits.CannotRun, match=words):
        RunConfig(**values)


def test_flags_that_are_small_languages_are_parsed_once():
    config = RunConfig(duration="2ep", batchnorm="ghost:8", devices="cpu:2", schedule="step", loss="focal")
    assert config.duration_spec is config.duration_spec
    assert (config.batchnorm_spec.mode, config.batchnorm_spec.group) == ("ghost", 8)
    assert (config.devices_spec.platform, config.devices_spec.count) == ("cpu", 2)
    assert config.schedule_spec.numbers == (1 / 3, 2 / 3)
    assert config.loss_spec.numbers == (2.0,)
    assert RunConfig().devices_spec.is_auto
    assert dataclasses.replace(config, loss="focal:3").loss_spec.numbers == (3.0,)


def test_the_learning_rate_follows_the_batch():
    assert RunConfig(batch_size=512, optimizer="sgd", scale_lr="linear:256").peak_learning_rate == pytest.approx(0.2)
    assert RunConfig(batch_size=512, learning_rate=0.1, scale_lr="sqrt:128").peak_learning_rate == pytest.approx(0.2)
    assert RunConfig().with_defaults().learning_rate == 0.001


def test_flags_that_may_change_are_these():
    """None of them changes which examples a step sees, or what the step does to them."""
    may_change = {field.name for field in options.fields(RunConfig, DataConfig) if field.metadata["may_change"]}
    assert may_change == {
        "run_dir", "devices", "strategy", "backend", "xla", "hang_timeout", "on_nan", "steps_per_loop", "checkpoint_every",
        "eval_every", "keep", "data_dir", "restarts", "report", "cache_bytes", "max_bad_fraction",
        "cache_gb", "cache_features", "remat", "patience", "max_minutes", "noise_scale", "log_to", "kernels", "onednn",
        "gradient_buckets", "profile",
        "compile_cache", "trust_compile_cache",
    }  # fmt: skip


def test_what_a_continuation_may_change():
    begun = RunConfig(run_dir="a", duration="10ep")

    def refused(**values):
        return differences(begun, dataclasses.replace(begun, **values))

    assert not refused(devices="cpu:1", steps_per_loop=9, eval_every="3st", checkpoint_every="5st", keep=9, restarts=1)
    assert not refused(duration="12ep")
    assert not refused(data=DataConfig(data_dir="elsewhere"))
    assert refused(duration="9ep") == ["  --duration=9ep, but the run was begun with --duration=10ep"]
    assert len(refused(batch_size=64, seed=1, data=DataConfig(augment="crop"))) == 3
    assert refused(duration="100st")


@pytest.mark.parametrize("text", ["{}", '{"batch_size": 3}', json.dumps({**RunConfig().to_dict(), "later": 1})])
def test_a_configuration_of_another_version_is_refused(text):
    with pytest.raises(exits.CannotRun, match=r"runs/x/config\.json"):
        stored_config.from_json(text.encode(), "runs/x/config.json")
