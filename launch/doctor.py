"""`convoy launch doctor`: what of a place for jobs is ready, and how to mend the rest."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import platform
import re
from collections.abc import Callable, Iterator

from convoy import exits, options
from convoy.launch import shell
from convoy.launch.job import GANGS, POLICIES
from convoy.launch.targets import open_target
from convoy.launch.where import Where
from convoy.options import option
from convoy.store import open_store

USAGE = """usage: convoy launch doctor [--flag=value ...]

Looks at a place for jobs and says of each thing that they need whether it is there, and how to mend what is not. Changes
nothing. Exit code 0 if all is well, else 78."""

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_GROUP = "What the job would use"
# Without these there is nothing more to be seen of a place.
_GROUND = ("client", "kubeconfig", "cluster", "credentials")

# (what is looked at, a function that returns what was found or raises a sentence)
Look = tuple[str, Callable[[], str]]


@dataclasses.dataclass(frozen=True)
class DoctorOptions:
    """What is looked at beside the place itself."""

    run_dir: str = option("", "its run directory.", group=_GROUP)
    image: str = option("", "k8s: its image.", group=_GROUP)
    gang: str = option("jobset", "k8s: as for submit.", group=_GROUP, choices=GANGS)
    queue: str = option("", "k8s: its Kueue queue.", group=_GROUP)
    service_account: str = option("", "k8s: whom its pods act as.", group=_GROUP)
    network_policy: str = option("on", "k8s: as for submit.", group=_GROUP, choices=POLICIES)


def doctor(argv: list[str]) -> int:
    """The verb."""
    if options.wants_help(argv):
        print(options.help_text(USAGE, DoctorOptions, Where))
        return exits.OK
    parsed = options.parse(argv, DoctorOptions, Where)
    given, where = DoctorOptions(**options.take(DoctorOptions, parsed)), Where(**options.take(Where, parsed))
    code = exits.OK
    for looks in (_place(where, given), _common(given)):
        for what, look in looks:
            try:
                print(f"ok     {what}: {look()}", flush=True)
            except exits.ConvoyError as error:
                print(f"wrong  {what}: {error}", flush=True)
                code = exits.CANNOT_RUN
                if what in _GROUND:
                    break
    return code


def _place(where: Where, given: DoctorOptions) -> Iterator[Look]:
    if where.target == "k8s":
        yield "client", lambda: _client("kubernetes", "kubernetes")
        from convoy.launch.targets.kubernetes import doctor

        yield from doctor.looks(where, given.gang, given.queue, given.service_account, given.network_policy)
    elif where.target == "tpu-vm":
        yield "client", lambda: _client("tpu_vm", "google-cloud-tpu")
        yield "credentials", _credentials
        yield "Cloud TPU", lambda: _jobs(where)
    else:
        yield "Python", platform.python_version
        yield "engine", _engine
        yield "jobs", lambda: _jobs(where)


def _common(given: DoctorOptions) -> Iterator[Look]:
    if given.image:
        yield "image", lambda: _image(given.image)
    if given.run_dir:
        yield "run directory", lambda: _run_dir(given.run_dir)


def _client(target: str, package: str) -> str:
    importlib.import_module(f"convoy.launch.targets.{target}")  # says so if a package is missing
    return f"{package} {importlib.metadata.version(package)}"


def _credentials() -> str:
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials, _ = google.auth.default()
    except GoogleAuthError:
        raise exits.CannotRun("Google Cloud has none here; run `gcloud auth application-default login`.") from None
    return str(getattr(credentials, "service_account_email", "") or "those of a person")


def _engine() -> str:
    here = [name for name in ("tensorflow", "jax") if importlib.util.find_spec(name)]
    if not here:
        raise exits.CannotRun("neither TensorFlow nor JAX is installed; run `pip install keras-convoy`.")
    return " and ".join(here)


def _jobs(where: Where) -> str:
    count = len(open_target(where).jobs())
    return f"{count} job{'s' * (count != 1)} there"


def _image(image: str) -> str:
    if not _DIGEST.fullmatch(image):
        look = shell.line(["docker", "buildx", "imagetools", "inspect", image])
        raise exits.CannotRun(
            f"{image} is not named by its digest, so it may be another one after a restart; `{look}` tells the digest, give"
            " REF@sha256:..."
        )
    return image


def _run_dir(url: str) -> str:
    found = open_store(url).first_entry()
    return f"{url} can be read by you{', and is not empty' if found else ', and is empty'}; the job's own account is not tried"
