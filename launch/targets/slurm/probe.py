"""What the nodes see of this machine's folders: a file that stands in each for seconds, looked for by srun.

This process holds a lock on the file. A node that sees the file and gets the lock as well does not share locks: two runs could
write to one run directory there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from convoy import exits
from convoy.launch.targets.slurm import api
from convoy.outside import printable

IMMEDIATE_SECONDS = 60  # until a node is free
SEEN, UNSEEN, UNLOCKED = "seen", "unseen", "unlocked"
# Arguments: the Python, then files. Prints: the node, a word for each file, what the Python says.
_LOOK = """\
PATH=$PATH:/usr/bin:/bin; python=$1; shift; words=
for file; do
  if [ ! -e "$file" ]; then words="$words unseen"
  elif flock --nonblock "$file" true; then words="$words unlocked"
  else words="$words seen"; fi
done
said=$("$python" -P -c 'import convoy.launch.worker; print("convoy")' 2>&1 | tail -n 1)
printf 'convoy-probe %s%s | %s\\n' "${SLURMD_NODENAME:-?}" "$words" "$said"
"""
_LINE = re.compile(r"convoy-probe (\S{1,255})((?: (?:seen|unseen|unlocked))*) \| (.{0,500}).*")


class Node(NamedTuple):
    """A node that looked."""

    name: str
    places: dict[Path, str]  # SEEN, UNSEEN or UNLOCKED
    python: str  # "convoy", or what its Python said


def look(count: int, asked: Sequence[str], places: Sequence[Path], python: str = "") -> list[Node]:
    """Has nodes look for files in folders of this machine.

    Args:
      count: how many nodes, 1 or more.
      asked: flags for srun, such as --partition=NAME.
      places: folders; of one that is not there, its nearest parent that is.
      python: of the nodes; empty: this one.

    Raises:
      exits.CannotRun: Slurm refuses; exits.TryAgain: no node was free.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_locked_file(place)) for place in places]
        argv = [f"--immediate={IMMEDIATE_SECONDS}", f"--nodes={count}", "--ntasks-per-node=1", "--time=2"]
        argv += ["--job-name=convoy-doctor", "--export=NONE", "--input=none", *asked]
        try:
            said = api.run(
                "srun",
                *argv,
                "/bin/bash",
                "-c",
                _LOOK,
                "look",
                python or sys.executable,
                *map(str, files),
                seconds=180.0,
            )
        except exits.CannotRun as error:
            if "Unable to allocate resources" in str(error) or "not available immediately" in str(error):
                raise exits.TryAgain(
                    f"no node was free within {IMMEDIATE_SECONDS} s, so what nodes see is not known; try it again."
                ) from error
            raise
    nodes = []
    for match in filter(None, map(_LINE.fullmatch, said.splitlines()[:1000])):
        words = match[2].split()
        if len(words) == len(places):
            nodes.append(Node(printable(match[1]), dict(zip(places, words, strict=True)), printable(match[3])))
    if not nodes:
        raise exits.BadData(f"srun printed {printable(said[:200])!r}, which is not what a node was asked.")
    return nodes


def shared(nodes: Sequence[Node], place: Path, flag: str) -> str:
    """What `convoy launch doctor` says of a folder; CannotRun if a node does not share it, or not its locks."""
    for node in nodes:
        if node.places[place] == UNSEEN:
            raise exits.CannotRun(
                f"{node.name} does not see what this machine writes to {_parent(place)}; set {flag} to a folder"
                " of a file system that all nodes share."
            )
        if node.places[place] == UNLOCKED:
            raise exits.CannotRun(
                f"{node.name} takes a lock in {_parent(place)} that this machine holds, so two copies of a run could write"
                f" there at once; set {flag} to a folder of a file system that shares locks."
            )
    return f"{place} is shared by this machine and {listed(nodes)}, and so are its locks"


def listed(nodes: Sequence[Node]) -> str:
    return " and ".join(sorted(node.name for node in nodes))


def _parent(place: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


@contextlib.contextmanager
def _locked_file(place: Path) -> Iterator[Path]:
    """A new file in a folder, locked by this process and removed at the end."""
    file = _parent(place) / f".convoy-doctor-{uuid.uuid4().hex}"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise exits.CannotRun(f"cannot write to {file.parent}: {exits.reason(error)}; give another folder.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fsync(descriptor)
        yield file
    finally:
        os.close(descriptor)
        file.unlink(missing_ok=True)
