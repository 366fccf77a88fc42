"""What tests of clusters share: escape sequences, flags of a job on TPU VMs, an assertion about output."""

from __future__ import annotations

ESCAPES = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202e"
TPU = ["--target=tpu-vm", "--project=p", "--zone=z", "--name=rn50", "--accelerator=v5e-8"]
TPU_RUN = ["--", "--run_dir=gs://b/runs/rn50", "--backend=jax"]


def assert_printable(output: str) -> None:
    """No character of `output` but line breaks and tabs controls a terminal."""
    assert all(character.isprintable() or character in "\n\t" for character in output), ascii(output)
