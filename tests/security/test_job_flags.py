"""Flags of a job and of its run: invisible characters, and images that no registry has, are refused."""

from __future__ import annotations

import pytest

from clusters import TPU, TPU_RUN
from convoy import exits, options
from convoy.launch.command_line import from_argv
from convoy.launch.targets.options import job_options
from convoy.trainer.config import RunConfig
from kube_jobs import RUN, SPEC

INVISIBLE = "\n\r\0\x0b\x0c\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066\u200b\ufeff\udcff"


def text_options(*classes: type) -> list[str]:
    return [field.name for field in options.fields(*classes) if isinstance(field.default, str)]


def refused(words: list[str]) -> exits.ConvoyError:
    """The error that a command line ends with."""
    with pytest.raises((exits.CannotRun, exits.UsageError)) as error:
        from_argv(words)
    return error.value


@pytest.mark.parametrize("flag", text_options(job_options()))
def test_no_flag_of_a_job_takes_an_invisible_character(flag):
    """In comments, commands and requests it would begin a line of its own, or hide part of a line."""
    code = exits.USAGE if flag in ("target", "gang", "network_policy") else exits.CANNOT_RUN
    for character in INVISIBLE:
        for job, run in ((SPEC, RUN), (TPU, TPU_RUN)):
            others = [word for word in job if not word.startswith(f"--{flag}=")]
            assert refused([*others, f"--{flag}=gs://a{character}b", *run]).code == code, ascii(character)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["one each", "every"])
def test_no_flag_of_a_run_takes_an_invisible_character(every):
    for index, flag in enumerate(text_options(RunConfig)):
        for character in INVISIBLE if every else INVISIBLE[index % len(INVISIBLE)]:
            error = refused([*SPEC, *RUN, f"--{flag}=gs://a{character}b"])
            assert error.code in (exits.USAGE, exits.CANNOT_RUN), (flag, ascii(character))


@pytest.mark.parametrize(
    "image",
    ["Convoy:1", "a/B", "my image", "-a", "a/-b", "a//b", "a/", "/a", "a:", "a:b:c", "a:-b", f"a:{'t' * 129}", "a@", "a@b",
     "a@sha256:0", f"a@sha256:{'A' * 64}", f"a@md5:{'0' * 64}", f"a@sha256:{'0' * 64}@sha256:{'0' * 64}", "x" * 256, "0" * 64,
     "a_.b", "a._b", "a/../b", "http://a/b", "a:1 --privileged", "a;b", "$(a)", "é", "a:é", "[zz]/a", "a..b/c"],
)  # fmt: skip
def test_an_image_that_no_registry_can_have_is_refused(image):
    error = refused([*SPEC[:2], f"--image={image}", *RUN])
    assert type(error) is exits.CannotRun
    assert str(error).startswith(f"--image={image}")


@pytest.mark.parametrize(
    "image",
    ["a", "a:1", "localhost:5000/a", "a.b-c.example:5000/d/e_f/g__h--i.j:Tag_1.0-x", f"a@sha256:{'0' * 64}", "[::1]:80/a",
     f"a:1@sha512:{'f' * 128}", f"a:{'t' * 128}", "x" * 255, "UPPER.example/a", "us-docker.pkg.dev/p/q/r@sha256:" + "ab" * 32],
)  # fmt: skip
def test_an_image_that_a_registry_can_have_is_accepted(image):
    assert from_argv([*SPEC[:2], f"--image={image}", *RUN]).options.image == image
