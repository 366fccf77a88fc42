"""Documents as text: every parser reads what was meant, and a run gets its flags as they were typed."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convoy import exits
from convoy.launch import worker
from convoy.launch.build import build
from convoy.launch.command_line import from_argv
from convoy.launch.job import JobSpec
from convoy.launch.targets.kubernetes import documents, manifest
from convoy.launch.targets.options import job_options
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig
from kube_documents import KUBERNETES_VERSIONS, assert_valid, container, expanded, read
from kube_jobs import IMAGE


def assert_same_command(job: JobSpec, documents: list[dict]) -> None:
    pod = container(documents)
    values = {variable["name"]: variable.get("value", "") for variable in pod["env"]}
    assert [expanded(word, values) for word in pod["command"]] == manifest.command(job)
    assert "args" not in pod
    python, flags = pod["command"][:4], manifest.command(job)[5:]
    assert python == ["python", "-P", "-m", worker.__name__]
    assert configuration.from_argv(flags) == job.run


NASTY = [
    "'; rm -rf / #",
    "\"double\" and 'single'",
    "$(HOME) $(CONVOY_JOB) ${HOME} $$(HOME) $$$ $( $",
    "{{ .Values }} {% x %} <% y %>",
    "--leading -- dashes",
    "a: b, [c], {d: e} &f *g !h | > % @ `",
    " spaces  at both ends ",
    "~ null true 0o17 1e3 12:30:45",
    "\u00e9\U0001f680\u00a0\u3000",
]


@pytest.mark.parametrize("text", NASTY)
def test_flags_arrive_as_they_were_given(text):
    job = from_argv(["--target=k8s", "--name=rn50", f"--image={IMAGE}", "--", f"--run_dir=gs://b/{text}"])
    rendered = manifest.render(job)
    again = list(yaml.safe_load_all(documents.to_yaml(rendered)))
    assert again == rendered
    assert_same_command(job, again)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.text(st.sampled_from("$()A{ '\""))
)
def test_any_flag_arrives_as_it_was_given(text, dollars):
    try:
        run = RunConfig(run_dir=f"gs://b/{text}{dollars}")
        job = build(job_options()(target="k8s", name="rn50", image=IMAGE), run)
    except exits.CannotRun:
        return
    rendered = manifest.render(job)
    again = read(documents.to_yaml(rendered))
    assert again == rendered
    assert_same_command(job, again)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["image", "queue", "priority", "service_account", "reservation", "namespace", "memory", "topology"]
    ),
    st.text(max_size=8) | st.text(st.sampled_from("aA0.-_/:@=\n\"'{}[],#&*!|>%$ \u2028\udc80"), max_size=70),
)
def test_any_option_is_refused_or_stays_one_value(name, text):
    """It is refused, or the documents are possible and read back as they were made: no option opens a key."""
    try:
        options = job_options()(**{"target": "k8s", "name": "rn50", "image": IMAGE, "accelerator": "l4x2", name: text})
        rendered = manifest.render(build(options, RunConfig(run_dir="gs://b/r")))
    except exits.CannotRun:
        return
    assert read(documents.to_yaml(rendered)) == rendered
    assert_valid(rendered, KUBERNETES_VERSIONS[-1:])


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abcy12.e/- ", min_size=1), inner),
        max_leaves=8,
    )
)
def test_yaml_reads_as_it_was_written(value):
    document = {"value": value}
    assert read(documents.to_yaml([document, document])) == [document, document]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here, whose parser would read the documents")
def test_the_parser_of_kubernetes_reads_what_we_meant(tmp_path):
    """Strings that YAML's parsers read differently: kubectl's takes them all for strings."""
    words = ["12e4567890123456", "0o17", "017", "y", "n", "on", "No", "~", "1_000", "0x1f", ".5", "1:30", "",
             "2026-11-25", "null", "inf", ".nan", "+1", *NASTY, *(f"--run_dir=gs://b/{text}" for text in NASTY)]  # fmt: skip
    document = {"apiVersion": "v1", "kind": "Kubernetes", "metadata": {"name": "x"}, "words": words}
    document |= {"map": {f"k{index}": word for index, word in enumerate(words)}}
    (tmp_path / "one.yaml").write_text(documents.to_yaml([document]))
    (tmp_path / "kustomization.yaml").write_text("resources: [one.yaml]\n")
    done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout) == document
