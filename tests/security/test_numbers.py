"""Numbers that no run can compute with are refused; the sentence names the flag, the value and the bounds."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import math
import os
import re

import pytest

from convoy import exits, options
from convoy.data.config import DataConfig
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.clock import Clock
from convoy.trainer.flags.durations import MAX_EXAMPLES, MAX_STEPS, Duration
from convoy.trainer.run_dir.allowed_changes import differences
from convoy.trainer.run_dir.stored_config import from_json
from hostile_flags import IMPOSSIBLE

MODULES = [
    *(
        "convoy.data.config",
        "convoy.data.verbs.pack",
        "convoy.data.verbs.preview",
        "convoy.trainer.verbs.bench",
        "convoy.trainer.verbs.checkpoints",
        "convoy.trainer.config",
    ),
    *(
        "convoy.trainer.verbs.evaluate",
        "convoy.launch.doctor",
        "convoy.launch.flags",
        "convoy.launch.prices",
        "convoy.launch.submit",
        "convoy.launch.watch",
        "convoy.launch.targets.kubernetes.options",
    ),
]
# Flags that other flags of their class need to be valid.
NEEDED = {
    "JobOptions": {"name": "x"}, "JobName": {"name": "x"}, "PackConfig": {"out": "x"}, "EvaluateConfig": {"run_dir": "x"},
    "RunOption": {"run_dir": "x"}, "CopyOptions": {"to": "x"},
}  # fmt: skip
EXTREMES = [
    *("0", "-0", "-1", "1", "7", "9223372036854775807", "9223372036854775808", "-9223372036854775809", str(10**999)),
    *(
        "9" * 5000,
        "-" + "9" * 5000,
        "0x" + "f" * 400,
        "1_000",
        "\uff11\uff12",
        "\u00b2",
        "\u0661",
        "\u2167",
        " 7 ",
        "",
        "+",
    ),
    *(
        "1e3",
        "nan",
        "-nan",
        "inf",
        "-inf",
        "1e39",
        "-1e39",
        "3.5e38",
        "1e-46",
        "-1e-46",
        "1e-39",
        "5e-324",
        "1e308",
        "1e400",
    ),
    *("-0.0", "0.99999999", "0.9999999999999999999", "1e30", "1e-30", "0.5", "true", "null", "0b1", "1;2", "1\x00"),
]


def classes() -> dict[str, type]:
    """Every dataclass of ours whose fields are flags."""
    classes = {}
    for name in MODULES:
        for cls in vars(importlib.import_module(name)).values():
            if inspect.isclass(cls) and dataclasses.is_dataclass(cls) and options.fields(cls):
                classes[cls.__name__] = cls
    return classes


NUMBERS = sorted(
    (name, field.name)
    for name, cls in classes().items()
    for field in options.fields(cls)
    if field.default is None or type(field.default) in (int, float)
)


def build(cls: type, flag: str, text: str) -> float:
    """The parsed value of a flag."""
    argv = [f"--{name}={value}" for name, value in NEEDED.get(cls.__name__, {}).items()]
    parsed = options.parse([*argv, f"--{flag}={text}"], cls)
    values = options.take(cls, parsed)
    return getattr(cls(**({"data": DataConfig()} if cls is RunConfig else {}), **values), flag)


def test_every_number_is_tried():
    assert len(NUMBERS) >= 30
    assert {name for name, _ in NUMBERS} >= {"RunConfig", "DataConfig", "JobOptions", "WaitOptions", "BenchConfig"}
    for name, flag in NUMBERS:
        field = next(field for field in options.fields(classes()[name]) if field.name == flag)
        assert field.metadata["within"], f"{name}.{flag} has no bounds"
        possible = field.default in (None, *field.metadata["words"].values())
        assert possible or field.metadata["within"].holds(field.default), f"{name}.{flag}"


@pytest.mark.parametrize(("name", "flag"), NUMBERS, ids=[f"{name}.{flag}" for name, flag in NUMBERS])
def test_a_number_is_possible_or_refused_in_a_sentence(name, flag):
    cls, refused = classes()[name], 0
    for text in EXTREMES:
        try:
            value = build(cls, flag, text)
        except (exits.UsageError, exits.CannotRun) as error:
            refused += 1
            sentence = str(error)
            assert sentence.startswith((f"--{flag}=", "--accumulate="))  # at most as many as a batch has examples
            assert len(sentence) < 400
            assert "\n" not in sentence
        else:
            assert math.isfinite(value)
            assert abs(value) < 2**63 or isinstance(value, float)
            if isinstance(value, float) and value:
                # A float32 with room to multiply and divide by it.
                assert 1e-30 <= abs(value) <= 1e30
    assert refused > 20


@pytest.mark.parametrize(
    ("flag", "text"),
    [(flag, text) for flag, texts in IMPOSSIBLE.items() for text in texts],
    ids=[f"{flag} {number}" for flag, texts in IMPOSSIBLE.items() for number, _ in enumerate(texts)],
)
def test_values_that_no_step_can_be_computed_with_are_refused(flag, text):
    with pytest.raises(exits.CannotRun) as error:
        options_of(f"--{flag}={text}")
    sentence = str(error.value)
    assert sentence.startswith(f"--{flag}=")
    assert re.search(r"give|write|[Nn]umber|is not hash|it takes|it holds|did you mean", sentence), sentence
    assert len(sentence) < 500


def options_of(*argv: str) -> RunConfig:
    from convoy.trainer import config

    return config.from_argv(list(argv))


def test_a_learning_rate_that_scaling_makes_infinite_is_refused():
    with pytest.raises(
        exits.CannotRun, match=r"--scale_lr=linear:1 is not possible: it makes a learning rate of 1\.28e\+31"
    ):
        options_of("--learning_rate=1e29", "--scale_lr=linear:1")
    with pytest.raises(exits.CannotRun, match="it makes a learning rate of"):
        options_of("--learning_rate=1e-29", "--scale_lr=linear:999999999")


def test_a_run_has_at_most_as_many_steps_as_can_be_counted():
    assert options_of(f"--duration={MAX_STEPS}st").total_steps(10) == MAX_STEPS
    with pytest.raises(
        exits.CannotRun, match=r"--duration=99999999999ep is not possible: it is 12,499,999,999,875 steps"
    ):
        options_of("--duration=99999999999ep", "--batch_size=8").total_steps(1000)


def test_positions_of_the_longest_run_are_64_bit():
    """Every position, and the counter of its random numbers, up to 256 words each; see convoy.data.order.uniforms."""
    assert MAX_STEPS * MAX_EXAMPLES * (256 // 4) < 2**63


@pytest.mark.parametrize(
    "text", ["0.00000000000000000001ep", "999999999999ep", f"{MAX_STEPS}st", "0.333333333333333333ep"]
)
def test_boundaries_of_the_shortest_and_the_longest_run_are_computed_at_once(text):
    for examples, batch in ((1, MAX_EXAMPLES), (10**9, 1), (1797, 64)):
        assert Duration.parse(text, "eval_every").next_after(MAX_STEPS - 1, Clock.steady(examples, batch)) >= MAX_STEPS


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x1b[2Jb", "a\x00b", "a\x9bb", "a\ud800b"])
def test_no_flag_takes_a_control_character(text):
    for cls in classes().values():
        for field in options.fields(cls):
            if isinstance(field.default, str) and not field.metadata["choices"]:
                with pytest.raises(exits.CannotRun, match=f"--{field.name}"):
                    options.parse([f"--{field.name}={text}"], cls)
    for flag in ("run_dir", "model", "schedule"):
        with pytest.raises(exits.CannotRun, match=f"--{flag}"):
            RunConfig(**{flag: text})
    with pytest.raises(exits.CannotRun, match="--dataset"):
        DataConfig(dataset=f"folder:{text}")


def test_flags_that_are_too_long_for_a_sentence_are_shortened():
    for word in ("--" + "x" * 5000, "--optimizer=" + "x" * 5000, "--deterministic=" + "x" * 5000, "x" * 5000):
        with pytest.raises(exits.UsageError) as error:
            options.parse([word], RunConfig)
        assert len(str(error.value)) < 300


def test_no_text_is_longer_than_a_path():
    """Sentences repeat it on terminals and in logs."""
    for cls in classes().values():
        for field in options.fields(cls):
            if isinstance(field.default, str) and not field.metadata["choices"]:
                with pytest.raises(exits.CannotRun, match=f"--{field.name}=.* give at most 4,096 characters") as error:
                    options.parse([f"--{field.name}={'x' * 5000}"], cls)
                assert len(str(error.value)) < 200
    for flag, value in RunConfig().to_dict().items():
        if isinstance(value, str):
            text = json.dumps({**RunConfig().to_dict(), flag: "x" * 3_000_000}).encode()
            with pytest.raises(exits.BadData, match=flag) as refused:
                from_json(text, "config.json")
            assert len(str(refused.value)) < 500


def test_a_difference_is_described_in_a_sentence():
    """The run directory holds the longest possible values."""
    old, new = (RunConfig(data=DataConfig(f"folder:{letter * 4089}")) for letter in "ab")
    (line,) = differences(old, new, moves=False)
    assert "a" * 100 in line
    assert "b" * 100 in line
    assert len(line) < 600


class TestFlagfiles:
    def refused(self, *argv: str) -> str:
        with pytest.raises(exits.UsageError) as error:
            options.parse(list(argv), RunConfig)
        return str(error.value)

    def test_a_file_that_names_itself_is_refused(self, tmp_path):
        first, second = tmp_path / "first.flags", tmp_path / "second.flags"
        first.write_text(f"--seed=1\n--flagfile={second}\n")
        second.write_text(f"--flagfile={first}\n")
        assert "leads back to itself" in self.refused(f"--flagfile={first}")

    def test_files_that_name_ever_more_files_are_refused(self, tmp_path):
        for number in range(30):
            (tmp_path / str(number)).write_text(f"--flagfile={tmp_path / str(number + 1)}\n" * 2)
        (tmp_path / "30").write_text("--seed=1\n")
        assert "at most 100 are read" in self.refused(f"--flagfile={tmp_path / '0'}")

    def test_a_file_of_bytes_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "bytes").write_bytes(b"--seed=1\n\xff")
        assert "UTF-8" in self.refused(f"--flagfile={tmp_path / 'bytes'}")
        for place in (tmp_path / "fifo", tmp_path, "/dev/zero"):
            assert "no regular file" in self.refused(f"--flagfile={place}")
        (tmp_path / "link").symlink_to("link")
        assert "cannot be read" in self.refused(f"--flagfile={tmp_path / 'link'}")
        with (tmp_path / "large").open("wb") as file:
            file.truncate(1 << 40)
        assert "more than" in self.refused(f"--flagfile={tmp_path / 'large'}")

    def test_flags_comments_and_nested_files_are_read(self, tmp_path):
        (tmp_path / "inner").write_text("--batch_size=7\n")
        (tmp_path / "outer").write_text(
            f"# a comment\n// another\r\n\n  --seed=1  \n--flagfile={tmp_path / 'inner'}\n--keep=3"
        )
        parsed = options.parse(["--seed=5", f"--flagfile={tmp_path / 'outer'}", "--keep=4"], RunConfig)
        assert (parsed["seed"], parsed["batch_size"], parsed["keep"]) == (1, 7, 4)
        assert options.parse(["--flagfile", str(tmp_path / "inner")], RunConfig)["batch_size"] == 7
