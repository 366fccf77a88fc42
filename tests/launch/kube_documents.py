"""Documents for Kubernetes: their parts, and what a cluster reads in them."""

from __future__ import annotations

from typing import Any

import yaml

from convoy.launch.targets.kubernetes import documents
from convoy.launch.targets.kubernetes.lints import lint
from crds import JOBSET_VERSIONS, jobset_errors

KUBERNETES_VERSIONS = ("1.29", "1.33", "1.37")


def read(text: str) -> list[Any]:
    """YAML -> its documents, by libyaml where PyYAML has it: ten times as fast."""
    return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def owner(rendered: list[dict]) -> dict[str, Any]:
    """The JobSet or Job of the documents."""
    return rendered[-1]


def container(rendered: list[dict]) -> dict[str, Any]:
    return documents.job_spec(owner(rendered))["template"]["spec"]["containers"][0]


def assert_valid(rendered: list[dict], versions: tuple[str, ...] = KUBERNETES_VERSIONS) -> None:
    """By the schemas of Kubernetes and of JobSet, strictly, and by our lints."""
    from kube_schemas import errors

    assert lint(rendered) == []
    jobsets = [thing for thing in rendered if thing["kind"] == "JobSet"]
    known = [thing for thing in rendered if thing["kind"] != "JobSet"]
    for thing in jobsets:
        metadata = {"name": "child"}
        known.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": documents.job_spec(thing)})
    for thing in known:
        for version in versions:
            assert errors(thing, version) == []
    # The last, since these are skipped where there are no definitions.
    for thing in jobsets:
        for jobset_version in JOBSET_VERSIONS:
            assert jobset_errors(jobset_version, thing) == []


def expanded(text: str, variables: dict[str, str]) -> str:
    """What Kubernetes makes of $(NAME) and $$ in commands and variables (third_party/forked/golang/expansion)."""
    result, rest = "", text
    while "$" in rest:
        before, _, rest = rest.partition("$")
        result += before
        if rest.startswith("$"):
            result, rest = result + "$", rest[1:]
        elif rest.startswith("(") and ")" in rest:
            name, _, rest = rest[1:].partition(")")
            result += variables.get(name, f"$({name})")
        else:
            result += "$" + rest[:1]
            rest = rest[1:]
    return result + rest
