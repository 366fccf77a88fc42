"""Cloud TPU VMs as a launch target: their flags, their rules, how a zone is opened and checked."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from convoy import exits
from convoy.launch.flags import JobOptions, TargetOptions
from convoy.launch.job import JobSpec
from convoy.launch.places import check_bucket, check_inputs
from convoy.launch.targets.base import Check, Platform, Target, count_jobs
from convoy.launch.targets.tpu_vm import chips
from convoy.launch.targets.tpu_vm.options import TpuVmOptions, TpuVmPlace


class TpuVm(Platform):
    """See Platform. The official client is imported once a zone is opened."""

    target_options = TpuVmPlace
    job_options = TpuVmOptions

    def check(self, spec: JobSpec) -> None:
        _place(spec.options)
        chips.check(spec)
        check_bucket(spec)
        check_inputs(spec)

    def warnings(self, options: JobOptions) -> Iterator[str]:
        if not options.service_account:
            yield (
                "without --service_account the machines act as Compute Engine's default account, and whatever runs on them"
                " gets its token with the scope https://www.googleapis.com/auth/cloud-platform: all that this account may do"
                " in the project; give an account that may use the bucket and delete TPU nodes, and no more."
            )

    def open(self, options: TargetOptions, chaos: str = "") -> Target:
        place = _place(options)
        from convoy.launch.targets.tpu_vm.target import TpuVmTarget

        return TpuVmTarget(place.project, place.zone)

    def doctor(self, options: TargetOptions) -> Iterator[Check]:
        _place(options)
        yield Check("client", _client, essential=True)
        yield Check("credentials", _credentials, essential=True)
        yield Check("Cloud TPU", lambda: count_jobs(self.open(options)))


def _place(options: TargetOptions) -> TpuVmPlace:
    """The zone; CannotRun if a flag is missing."""
    place = options.narrowed(TpuVmPlace)
    for flag in ("project", "zone"):
        if not getattr(place, flag):
            raise exits.CannotRun(f"--{flag} is missing, which --target=tpu-vm needs.")
    return place


def _client() -> str:
    from convoy.launch.targets.tpu_vm.target import TpuVmTarget  # noqa: F401 - raises if a package is missing

    return f"google-cloud-tpu {importlib.metadata.version('google-cloud-tpu')}"


def _credentials() -> str:
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials, _ = google.auth.default()
    except GoogleAuthError:
        raise exits.CannotRun("Google Cloud has none here; run `gcloud auth application-default login`.") from None
    return str(getattr(credentials, "service_account_email", "") or "those of a person")
