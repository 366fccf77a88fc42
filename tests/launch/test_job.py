"""What is submitted: flags -> one job, the same job known again, and what cannot be."""

from __future__ import annotations

import pytest

from convoy import exits
from convoy.launch.build import from_dict
from convoy.launch.command_line import from_argv, split

CLUSTER = ["--target=k8s", "--image=ref", "--name=rn50"]
RUN = ["--", "--dataset=cifar10", "--run_dir=gs://b/r"]


def test_a_job_is_its_options_its_accelerator_and_its_run():
    spec = from_argv([*CLUSTER, "--accelerator=l4x4", "--workers=4", *RUN, "--batch_size=256"])
    assert (spec.name, spec.workers, spec.accelerator.kind, spec.accelerator.chips) == ("rn50", 4, "gpu", 4)
    assert spec.run.batch_size == 256
    assert spec.train_flags == ["--run_dir=gs://b/r", "--dataset=cifar10", "--batch_size=256"]


def test_flagfiles_are_inlined(tmp_path):
    (tmp_path / "some.flags").write_text("--seed=7\n--augment=article\n")
    spec = from_argv([*CLUSTER, *RUN, f"--flagfile={tmp_path}/some.flags"])
    assert {"--seed=7", "--augment=article"} <= set(spec.train_flags)
    assert not any("flagfile" in flag for flag in spec.train_flags)


def test_a_tpu_slice_says_how_many_workers_there_are():
    spec = from_argv([*CLUSTER, "--accelerator=v5e-16", *RUN, "--backend=jax"])
    assert spec.workers == spec.accelerator.hosts > 1
    with pytest.raises(exits.CannotRun, match=f"has {spec.workers} machines; leave --workers out"):
        from_argv([*CLUSTER, "--accelerator=v5e-16", "--workers=3", *RUN, "--backend=jax"])


def test_equal_specs_have_equal_digests_and_come_back_from_json():
    spec = from_argv([*CLUSTER, "--workers=2", *RUN])
    assert from_dict(spec.to_dict()) == spec
    assert from_argv(["--workers=2", *CLUSTER, *RUN]).digest == spec.digest
    assert from_argv([*CLUSTER, "--workers=2", *RUN, "--seed=1"]).digest != spec.digest
    assert from_argv([*CLUSTER, "--workers=4", *RUN]).digest != spec.digest
    # What somebody thinks it costs is no part of a job.
    assert from_argv([*CLUSTER, "--workers=2", "--price_per_hour=3", *RUN]).digest == spec.digest


@pytest.mark.parametrize(
    ("argv", "error", "words"),
    [
        (["--name=x", "--", "--bach_size=3"], exits.UsageError, "did you mean --batch_size"),
        (["--name=x", "--worker=2", *RUN], exits.UsageError, "did you mean --workers"),
        (["--name=x", "--dataset=digits"], exits.UsageError, "--dataset is a flag of `convoy train`; give it after --"),
        (["--name=x", *RUN, "--workers=2"], exits.UsageError, "--workers is a flag of the job.*before --"),
        (["--name=x", "--", "--batch_size=0", "--run_dir=r"], exits.CannotRun, "--batch_size=0"),
        (["--target=k8s", "--image=i", *RUN], exits.CannotRun, "--name is missing"),
        (["--name=Rn50", *RUN], exits.CannotRun, "--name=Rn50 is not possible"),
        (["--name=a-", *RUN], exits.CannotRun, "no dash last"),
        ([f"--name={'a' * 41}", *RUN], exits.CannotRun, "up to 40"),
        ([*CLUSTER], exits.CannotRun, "--run_dir is missing after --"),
        ([*CLUSTER, "--", "--run_dir=runs/x"], exits.CannotRun, "no place that all workers see"),
        (["--target=k8s", "--name=x", *RUN], exits.CannotRun, "--image is missing"),
        (["--target=tpu-vm", "--name=x", *RUN], exits.CannotRun, "--project is missing"),
        (
            ["--target=tpu-vm", "--project=p", "--zone=z", "--name=x", *RUN],
            exits.CannotRun,
            "--accelerator=cpu is no TPU",
        ),
        ([*CLUSTER, "--workers=3", *RUN], exits.CannotRun, "cannot be divided among them"),
        ([*CLUSTER, "--hours=0", *RUN], exits.CannotRun, "--hours=0"),
        ([*CLUSTER, "--namespace=a/b", *RUN], exits.CannotRun, "--namespace=a/b"),
        ([*CLUSTER, "--memory=lots", *RUN], exits.CannotRun, "--memory=lots"),
        (
            [*CLUSTER, "--scratch=1TB", *RUN],
            exits.CannotRun,
            "--scratch=1TB is not possible: give a number of Gi or Mi",
        ),
        ([*CLUSTER, "--network_policy=no", *RUN], exits.UsageError, "--network_policy=no"),
        ([*CLUSTER, "--max_restarts=-1", *RUN], exits.CannotRun, "--max_restarts=-1"),
        ([*CLUSTER, "--cpus=4", "--cpu_limit=2", *RUN], exits.CannotRun, "--cpu_limit=2 is less than --cpus=4"),
        ([*CLUSTER, "--volume=data", *RUN], exits.CannotRun, "`data` is neither CLAIM:/PATH nor /PATH"),
        ([*CLUSTER, "--volume=a:/d,b:/../d", *RUN], exits.CannotRun, "`b:/../d` is neither"),
        ([*CLUSTER, "--max_restarts=3", "--gang=indexed", *RUN], exits.CannotRun, "an Indexed Job does not restart"),
        ([*CLUSTER, "--accelerator=v5e-16", *RUN], exits.CannotRun, "v5e-16 has 4; give --backend=jax after --"),
        ([*CLUSTER, "--accelerator=v6e-1", *RUN], exits.CannotRun, "as new as v6e; give --backend=jax after --"),
    ],
)
def test_impossible_values_are_sentences(argv, error, words):
    with pytest.raises(error, match=words):
        from_argv(argv)


@pytest.mark.parametrize(
    ("run_dir", "name"),
    [
        ("runs/rn50", "rn50"),
        ("gs://b/My Runs_2/", "my-runs-2"),
        ("runs/20", "run-20"),
        ("..", "run"),
        (f"runs/{'a' * 39}-b", "a" * 39),
    ],
)
def test_a_rehearsal_is_called_as_its_run_directory(run_dir, name):
    assert from_argv(["--workers=2", "--", f"--run_dir={run_dir}"]).name == name


def test_a_rehearsal_without_a_run_directory_gets_one():
    spec = from_argv(["--workers=2"])
    assert spec.run.run_dir == f"runs/{spec.name}"
    assert spec.name.startswith("digits-")


def test_what_stands_after_the_dashes_is_the_runs():
    assert split(["--a", "--", "--b", "--", "--c"]) == (["--a"], ["--b", "--", "--c"])
    assert split(["--a"]) == (["--a"], [])
