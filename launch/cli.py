"""`convoy launch VERB`: submits runs to this machine, Kubernetes, Slurm or Cloud TPU VMs, and looks after them."""

from __future__ import annotations

from convoy.table import Entry, Table
from convoy.verbs import Command

USAGE = """usage: convoy launch VERB [--flag=value ...] [-- flags of `convoy train`]

Submits runs to clusters. Every target can be rehearsed on this machine first: --target=local runs the same command in the same
environment, one process for each worker, and restarts them by the same rules.

{verbs}

convoy launch VERB --help lists the flags of a verb.

  convoy launch submit --name=try --workers=2 --wait -- --run_dir=runs/try
  convoy launch submit --name=rn50 --target=k8s --accelerator=l4x4 --workers=4 --image=REF@sha256:... \\
    -- --dataset=records:gs://b/imagenet --model=resnet50 --batch_size=1024 --run_dir=gs://b/rn50"""

LAUNCH = Command(
    "convoy launch",
    USAGE,
    Table(
        "verb",
        {
            "submit": Entry(
                "convoy.launch.submit:submit", "begin a job, or a sweep of them; --dry_run says what that would do"
            ),
            "render": Entry(
                "convoy.launch.render:render", "print a job's documents for Kubernetes, or its script for Slurm"
            ),
            "status": Entry("convoy.launch.watch:status", "what a job is doing, and why it waits"),
            "logs": Entry("convoy.launch.watch:logs", "what a worker printed"),
            "wait": Entry("convoy.launch.watch:wait", "until a job ends; the exit code is the job's"),
            "cancel": Entry("convoy.launch.watch:cancel", "end a job; its run is saved first if it can be"),
            "list": Entry("convoy.launch.watch:jobs", "every job there"),
            "gc": Entry("convoy.launch.watch:collect", "remove jobs that have ended, and what they left"),
            "doctor": Entry("convoy.launch.doctor:doctor", "what of a place is ready, and how to mend the rest"),
            "accelerators": Entry(
                "convoy.launch.prices:accelerators", "chips, machines, memory, peak speed, list price"
            ),
            "cost": Entry("convoy.launch.prices:cost", "what a job costs per hour and per epoch"),
        },
    ),
)
