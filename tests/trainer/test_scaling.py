"""`convoy bench scaling`: what it measures in which order, its efficiencies, its forms, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest

from convoy import calling, exits
from convoy.trainer import scaling
from convoy.trainer.flags.device_counts import DeviceCounts
from convoy.trainer.verbs.scaling import VERB

# (--devices, batch) -> images a second of input and step together, and of the step alone
SPEEDS = {("gpu:1", 64): (100.0, 110.0), ("gpu:2", 128): (190.0, 220.0), ("gpu:4", 256): (300.0, 418.0),
          ("gpu:2", 64): (150.0, 160.0), ("gpu:4", 64): (160.0, 165.0)}  # fmt: skip


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """What `convoy` is called with; it answers as a machine with four GPUs would."""
    calls: list[list[str]] = []

    def call(argv, show):
        calls.append(argv)
        given = dict(word.removeprefix("--").split("=", 1) for word in argv if "=" in word)
        devices, batch = given["devices"].replace("auto", "gpu:1"), int(given["batch_size"])
        if int(devices.partition(":")[2]) > 4:
            raise exits.CannotRun(f"--devices={devices}, but TensorFlow sees 4 GPUs here.")
        together, step = SPEEDS[devices, batch]
        show("a line before")
        show(json.dumps({
            "devices": devices, "input_wait_fraction": None,
            "together": {"images_per_second": together, "least": together - 5, "most": together + 10},
            "step": {"images_per_second": step, "least": step, "most": step},
        }))  # fmt: skip

    monkeypatch.setattr(calling, "call", call)
    return calls


def bench(*argv: str) -> None:
    VERB.work(VERB.parse([*argv, "--batch_size=64", "--dataset=digits"]))


def devices_of(calls: list[list[str]]) -> list[tuple[str, str]]:
    return [
        tuple(word.partition("=")[2] for word in argv if word.startswith(("--devices", "--batch_size")))
        for argv in calls
    ]


def test_efficiency_is_speed_per_device_against_the_fewest(asked, capsys):
    bench("--devices=gpu:1,2,4", "--json")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["scaling"], row["devices"], row["batch_size"]) for row in rows] == [
        *(("weak", f"gpu:{count}", 64 * count) for count in (1, 2, 4)),
        *(("strong", f"gpu:{count}", 64) for count in (1, 2, 4)),
    ]
    assert [row["efficiency"] for row in rows] == pytest.approx([1, 0.95, 0.75, 1, 0.75, 0.4])
    assert [row["step_efficiency"] for row in rows] == pytest.approx([1, 1, 0.95, 1, 160 / 220, 165 / 440])
    assert (rows[1]["low"], rows[1]["images_per_second"], rows[1]["high"]) == (185, 190, 200)


def test_of_a_named_platform_the_most_devices_come_first_and_none_twice(asked):
    bench("--devices=gpu:1,2,4", "--augment=flip", "--rounds=7")
    assert devices_of(asked) == [("gpu:4", "64"), ("gpu:4", "256"), ("gpu:2", "64"), ("gpu:2", "128"), ("gpu:1", "64")]
    for argv in asked:
        assert argv[:2] == ["bench", "input"]
        assert {"--augment=flip", "--rounds=7", "--json"} <= set(argv)


def test_without_a_platform_it_is_that_of_the_engines_first_device(asked):
    bench("--devices=1,2,4", "--scaling=weak")
    assert devices_of(asked) == [("auto", "64"), ("gpu:4", "256"), ("gpu:2", "128")]
    assert "--strategy=one" in asked[0]
    assert "--strategy=one" not in asked[1]


def test_more_devices_than_there_are_end_it_before_anything_is_measured(asked):
    with pytest.raises(exits.CannotRun, match="sees 4 GPUs here"):
        bench("--devices=gpu:1,2,4,8")
    assert len(asked) == 1


def test_a_table_csv_and_a_picture(asked, capsys, tmp_path):
    picture = tmp_path / "scaling.png"
    bench("--devices=gpu:1,2,4", f"--plot={picture}")
    table = capsys.readouterr()
    assert table.out.splitlines()[0].split() == [
        "scaling",
        "devices",
        "batch",
        "images/s",
        "least",
        "most",
        "efficiency",
        "step",
        "alone",
        "waiting",
    ]
    assert table.out.splitlines()[3].split() == ["weak", "gpu:4", "256", "300", "295", "310", "75%", "95%"]
    assert "gpu:2, a batch of 128: 190 images/s" in table.err
    assert picture.read_bytes().startswith(b"\x89PNG")
    bench("--devices=gpu:1,2,4", "--csv")
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["devices"] for row in rows] == ["gpu:1", "gpu:2", "gpu:4"] * 2


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--devices=auto"], "--devices=auto is not possible: give numbers of devices that grow"),
        (["--devices=1"], "give numbers of devices that grow"),
        (["--devices=1,4,2"], "give numbers of devices that grow"),
        (["--devices=1,2,2"], "give numbers of devices that grow"),
        (["--devices=0,1"], "give numbers of devices that grow"),
        (["--devices=1," + "9" * 30], "give numbers of devices that grow"),
        (["--devices=1,2048"], "a process has at most 1,024 devices"),
        (["--devices=2,4"], "begin with 1, or name the platform, for example gpu:2,4,8"),
        (["--devices=1,3"], "--batch_size=64 cannot be shared evenly by 3 devices; give a multiple of 3, or --scaling=weak."),
        (["--devices=cpu:3,6"], "cannot be shared evenly by 3 devices; give a multiple of 3."),
        (["--devices=cpu:3,6", "--scaling=weak"], "cannot be shared evenly by 3 devices; give a multiple of 3."),
        (["--devices=tpu:1,8"], "--devices=tpu:8 is not possible: with TensorFlow give --strategy=tpu"),
        (["--devices=1,2", "--scaling=strange"], "--scaling=strange is not possible"),
        (["--devices=1,2", "--json", "--csv"], "two forms of the same"),
        (["--devices=1,2", "--plot=no/where.png"], "there is no folder no"),
    ],
)  # fmt: skip
def test_what_is_refused_before_a_process_starts(asked, flags, sentence):
    with pytest.raises(exits.ConvoyError) as refused:
        bench(*flags)
    assert sentence in str(refused.value)
    assert not asked


def test_a_batch_that_only_some_can_share_scales_weakly():
    counts = DeviceCounts.parse("cpu:2,3,5").counts
    scaling.check("weak", counts, 64)
    assert [point.batch_size for point in scaling.points("weak", counts, 64)] == [64, 96, 160]


@pytest.mark.thorough
def test_logical_devices_of_a_cpu(convoy):
    done = convoy("bench", "scaling", "--devices=1,2", "--scaling=strong", "--dataset=synthetic:8x8x3:3:200", "--batch_size=16",
                  "--rounds=1", "--seconds=0.2")  # fmt: skip
    assert done.code == 0, done
    _, first, second, note = done.out.splitlines()
    assert (first.split()[1], second.split()[1]) == ("cpu:1", "cpu:2")
    assert note.startswith("Logical devices share ")
