"""Kubernetes as a launch target: its flags, its rules, how a cluster is opened and checked."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from convoy import exits
from convoy.launch.flags import JobOptions, TargetOptions
from convoy.launch.job import JobSpec
from convoy.launch.places import check_bucket, check_inputs
from convoy.launch.targets.base import Check, Platform, Target
from convoy.launch.targets.kubernetes.options import KubernetesDoctorOptions, KubernetesOptions, KubernetesPlace


class Kubernetes(Platform):
    """See Platform. The official client is imported once a cluster is opened."""

    target_options = KubernetesPlace
    job_options = KubernetesOptions
    doctor_options = KubernetesDoctorOptions

    def check(self, spec: JobSpec) -> None:
        check_bucket(spec)
        folders = [volume.folder for volume in spec.options.narrowed(KubernetesOptions).volumes]
        check_inputs(spec, folders, "name a volume that has it with --volume=CLAIM:/PATH")
        if not spec.options.image:
            raise exits.CannotRun("--image is missing; give the image that k8s/Dockerfile builds, best by digest.")
        check_gang(spec)

    def open(self, options: TargetOptions, chaos: str = "") -> Target:
        from convoy.launch.targets.kubernetes.target import KubernetesTarget

        place = options.narrowed(KubernetesPlace)
        return KubernetesTarget(place.namespace, place.context)

    def render(self, spec: JobSpec) -> str:
        from convoy.launch.targets.kubernetes import documents, manifest  # PyYAML

        return documents.to_yaml(manifest.render(spec))

    def doctor(self, options: TargetOptions) -> Iterator[Check]:
        yield Check("client", _client, essential=True)
        from convoy.launch.targets.kubernetes import doctor

        yield from doctor.checks(options.narrowed(KubernetesPlace), options.narrowed(KubernetesDoctorOptions))


def check_gang(spec: JobSpec) -> None:
    """CannotRun for --max_restarts of a job that does not restart."""
    indexed = spec.options.narrowed(KubernetesOptions).gang == "indexed"
    if indexed and spec.options.max_restarts not in (0, JobOptions.max_restarts):
        raise exits.CannotRun(
            f"--max_restarts={spec.options.max_restarts}: an Indexed Job does not restart; leave it out, or give --gang=jobset."
        )


def _client() -> str:
    from convoy.launch.targets.kubernetes.target import KubernetesTarget  # noqa: F401 - raises if a package is missing

    return f"kubernetes {importlib.metadata.version('kubernetes')}"
