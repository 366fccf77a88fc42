"""Jobs for a cluster, and how a call is refused."""

from __future__ import annotations

import pytest

from convoy import exits
from convoy.launch.command_line import from_argv
from convoy.launch.job import JobSpec
from kube_server import TOKEN

IMAGE = f"registry.example.com/convoy@sha256:{'0' * 64}"
SPEC = ["--target=k8s", "--name=rn50", f"--image={IMAGE}", "--workers=2"]
RUN = ["--", "--dataset=cifar10", "--run_dir=gs://b/r"]


def spec(*flags: str, run: list[str] = RUN) -> JobSpec:
    return from_argv([*SPEC, *flags, *run])


def refusal(call, kind: type[exits.ConvoyError] = exits.CannotRun) -> str:
    """The sentence that a call ends with."""
    with pytest.raises(kind) as raised:
        call()
    assert type(raised.value) is kind
    assert TOKEN not in str(raised.value)
    return str(raised.value)
