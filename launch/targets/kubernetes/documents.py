"""Objects of Kubernetes as YAML: read from k8s/base, and written so that every parser reads the same values."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

import convoy.launch

# An object of Kubernetes as parsed YAML or JSON has it.
Object = dict[str, Any]
BASE = Path(convoy.launch.__file__).parent / "k8s" / "base"  # in a checkout through a link
_WIDTH = 120
_TEXT = "tag:yaml.org,2002:str"
_PLAIN = re.compile(r"[A-Za-z/][-\w./:@=+]+", re.ASCII)


def base(name: str) -> Object:
    """A file of k8s/base, parsed: a copy, which the caller may edit."""
    return copy.deepcopy(_parsed(name))


@functools.cache
def _parsed(name: str) -> Object:
    return yaml.safe_load((BASE / name).read_text(encoding="utf-8"))


def job_specs(owner: Object) -> list[tuple[str, Object]]:
    """(prefix of the names of its pods, JobSpec) of a Job, or of each replicated job of a JobSet."""
    name = owner["metadata"]["name"]
    if owner["kind"] == "Job":
        return [(name, owner["spec"])]
    replicated = owner["spec"]["replicatedJobs"]
    return [(f"{name}-{job['name']}-0", job["template"]["spec"]) for job in replicated]


def job_spec(owner: Object) -> Object:
    """The JobSpec of a Job, or of the only replicated job of a JobSet of Convoy."""
    return job_specs(owner)[0][1]


def to_yaml(objects: Iterable[Object]) -> str:
    """Documents as text, formatted much as a person would write them."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=_WIDTH, explicit_start=True)


class _Dumper(yaml.SafeDumper):
    """Writes short collections on one line, and quotes text that another parser could read as a number or a boolean."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_mapping(self, *args: Any, **named: Any) -> yaml.MappingNode:
        node = super().represent_mapping(*args, **named)
        node.flow_style = _on_a_line([part for pair in node.value for part in pair])
        return node

    def represent_sequence(self, *args: Any, **named: Any) -> yaml.SequenceNode:
        node = super().represent_sequence(*args, **named)
        node.flow_style = _on_a_line(node.value)
        return node

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML would not quote 12e4567890123456, 0o17 and y, which the parser of Kubernetes does not read as text.
        plain = _PLAIN.fullmatch(data) and self.resolve(yaml.ScalarNode, data, (True, False)) == _TEXT
        return self.represent_scalar(_TEXT, data, style=None if plain else '"')


_Dumper.add_representer(str, _Dumper.represent_str)


def _on_a_line(nodes: list[yaml.Node]) -> bool:
    numbers = all(node.tag.endswith(":int") for node in nodes)
    scalars = all(isinstance(node, yaml.ScalarNode) for node in nodes)
    return numbers or (scalars and sum(len(node.value) + 4 for node in nodes) < _WIDTH - 40)
