"""One rule decides which exit codes are worth a restart, wherever it is written."""

from __future__ import annotations

import pytest

from convoy import exits, supervise
from convoy.launch.targets.kubernetes.documents import base, job_spec
from convoy.launch.targets.tpu_vm import boot

CODES = range(256)


def test_a_restart_helps_after_try_again_and_after_deaths_by_signals_but_not_after_a_person_stopped_it():
    assert {code for code in CODES if exits.worth_restarting(code)} == {42, *range(128, 256)} - {130}


@pytest.mark.parametrize("document", ["jobset/jobset.yaml", "indexed/job.yaml"])
def test_the_manifests_fail_a_job_for_all_other_codes(document):
    rules = [rule for rule in job_spec(base(document))["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert [(rule["action"], rule["onExitCodes"]["operator"]) for rule in rules] == [("FailJob", "NotIn")]
    restarted = set(rules[0]["onExitCodes"]["values"])
    assert restarted == {code for code in CODES if exits.worth_restarting(code)}


def test_tpu_machines_and_the_parent_of_a_run_decide_alike():
    restarted = {code for code in CODES if exits.worth_restarting(code)}
    assert {code for code in CODES if boot.worth_restarting(code)} == restarted
    assert {code for code in CODES if supervise.exit_code(code) == exits.TRY_AGAIN} == restarted
