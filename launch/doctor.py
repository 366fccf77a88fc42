"""`convoy launch doctor`: what of a place for jobs is ready, and how to mend the rest."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from convoy import exits
from convoy.launch import shell
from convoy.launch.flags import TargetOptions
from convoy.launch.targets.base import Check
from convoy.launch.targets.names import platform
from convoy.launch.targets.options import doctor_options
from convoy.options import option
from convoy.store import open_store
from convoy.verbs import verb

USAGE = """usage: convoy launch doctor [--flag=value ...]

Checks whether a target has what jobs need, and says how to mend what is missing. Changes nothing; under Slurm a command runs on
two nodes, for seconds. Exit code 0 if all is well, else 78."""

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_GROUP = "What the job would use"


@dataclasses.dataclass(frozen=True)
class DoctorOptions:
    """What is checked beside the target itself."""

    run_dir: str = option("", "its run directory.", group=_GROUP)
    image: str = option("", "k8s: its image.", group=_GROUP)


def _options() -> type[TargetOptions]:
    return doctor_options(DoctorOptions)


@verb(USAGE, _options)
def doctor(given: TargetOptions) -> int:
    """The verb."""
    target_passed = _passed(platform(given.target).doctor(given))
    common_passed = _passed(_common(given.narrowed(DoctorOptions)))
    return exits.OK if target_passed and common_passed else exits.CANNOT_RUN


def _passed(checks: Iterator[Check]) -> bool:
    """Prints the outcome of each check; whether all of them passed."""
    passed = True
    for subject, examine, essential in checks:
        try:
            print(f"ok     {subject}: {examine()}", flush=True)
        except exits.ConvoyError as error:
            print(f"wrong  {subject}: {error}", flush=True)
            passed = False
            if essential:
                break
    return passed


def _common(given: DoctorOptions) -> Iterator[Check]:
    if given.image:
        yield Check("image", lambda: _image(given.image))
    if given.run_dir:
        yield Check("run directory", lambda: _run_dir(given.run_dir))


def _image(image: str) -> str:
    if not _DIGEST.fullmatch(image):
        look = shell.line(["docker", "buildx", "imagetools", "inspect", image])
        raise exits.CannotRun(
            f"{image} is not named by its digest, so it may be another one after a restart; `{look}` tells the digest, give"
            " REF@sha256:..."
        )
    return image


def _run_dir(url: str) -> str:
    try:
        content = "is not empty" if open_store(url).first_entry() else "is empty"
    except FileNotFoundError:
        return f"{url} is not there yet; a run makes it"
    return f"{url} can be read by you, and {content}; the job's own account is not tried"
