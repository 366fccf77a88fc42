"""Data and weights of the submitting machine: refused before a job is sent that no worker of it could begin."""

from __future__ import annotations

import pytest

from convoy import exits
from convoy.launch.command_line import from_argv

NAMED = ["--name=cats", "--image=ref"]
KUBERNETES = ["--target=k8s", *NAMED]
CLOUD_TPU = ["--target=tpu-vm", *NAMED, "--project=p", "--zone=z", "--accelerator=v5e-8"]
RUN = ["--", "--run_dir=gs://b/r", "--backend=jax"]
PACK = (
    r"`convoy data pack '?--dataset={}'? --out=gs://BUCKET/PATH` and give --dataset=records:gs://BUCKET/PATH after --"
)
HERE = [
    ("--dataset=folder:photos", PACK.format("folder:photos")),
    ("--dataset=folder:/data/it's", PACK.format(r"""folder:/data/it'"'"'s""")),
    ("--dataset=folder:~/photos", PACK.format("folder:~/photos")),
    ("--dataset=csv:list.csv", PACK.format("csv:list.csv")),
    ("--dataset=records:packed", PACK.format(r"\.\.\.")),
    ("--pretrained=runs/other", "copy it into a bucket and give --pretrained=gs://BUCKET/PATH after --"),
    ("--pretrained=/weights/model.safetensors", "copy it into a bucket"),
    ("--data_dir=tfds", "give --data_dir=/tmp, where each worker prepares or copies what it reads"),
    ("--data_dir=/tmp/../home/me", "give --data_dir=/tmp"),
]  # fmt: skip


@pytest.mark.parametrize("target", [KUBERNETES, CLOUD_TPU], ids=["k8s", "tpu-vm"])
@pytest.mark.parametrize(("flag", "remedy"), HERE, ids=[flag for flag, _ in HERE])
def test_a_place_on_this_machine_is_refused_with_what_to_do(target, flag, remedy):
    with pytest.raises(exits.CannotRun, match=f"is no place that all workers see; .*{remedy}") as raised:
        from_argv([*target, *RUN, flag])
    assert str(raised.value).startswith(flag)
    assert ("or name a volume that has it with --volume=CLAIM:/PATH" in str(raised.value)) == (target is KUBERNETES)


@pytest.mark.parametrize("target", [KUBERNETES, CLOUD_TPU], ids=["k8s", "tpu-vm"])
@pytest.mark.parametrize(
    "flag",
    [
        "--dataset=cifar10",
        "--dataset=synthetic:8x8x3:2:64",
        "--dataset=records:gs://b/packed",
        "--pretrained=gs://b/weights.safetensors",
        "--pretrained=imagenet",
        "--data_dir=/tmp",
        "--data_dir=/tmp/records/",
        "--data_dir=gs://b/tfds",
    ],
)
def test_a_place_that_workers_have_is_not(target, flag):
    from_argv([*target, *RUN, flag])


@pytest.mark.parametrize(
    ("volume", "flag", "seen"),
    [
        ("photos:/data", "--dataset=folder:/data", True),
        ("photos:/data/", "--dataset=csv:/data/cats/list.csv", True),
        ("photos:/data,/weights", "--pretrained=/weights/model.safetensors", True),
        ("/data", "--data_dir=/data/tfds", True),
        ("photos:/data", "--dataset=folder:/database", False),
        ("photos:/data", "--dataset=folder:/data/../etc", False),
        ("photos:/data", "--dataset=folder:data", False),
    ],
)
def test_a_volume_is_a_place_that_workers_have(volume, flag, seen):
    argv = [*KUBERNETES, f"--volume={volume}", *RUN, flag]
    if seen:
        from_argv(argv)
        return
    with pytest.raises(exits.CannotRun, match="no place that all workers see"):
        from_argv(argv)


def test_a_rehearsal_runs_on_this_machine():
    for flag, _ in HERE:
        from_argv(["--name=cats", "--", "--run_dir=run", flag])
