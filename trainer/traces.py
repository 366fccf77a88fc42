"""What a profile says of operations: the time that each took by itself. TensorFlow's and JAX's have the same form."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROFILES = "plugins/profile"  # below a folder of TensorBoard's
_KERNEL = re.compile(r"([\w.][\w.\-/ ]*):\w+")  # of TensorFlow on a CPU: name:type
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# They wait for others, or call them.
_NO_WORK = re.compile(
    r"(While|If|StatelessWhile|StatelessIf|PartitionedCall|StatefulPartitionedCall|_HostRecv|_Recv|_HostSend|_Send|LoopCond)"
)


def operation_seconds(folder: str, known: Mapping[str, str]) -> dict[str, float]:
    """Operation -> seconds on all threads or streams, without the operations within it; empty where nothing can be read.

    Args:
      folder: below which the profile of one process lies.
      known: an operation's name in the profile -> the one that counts; empty if the profile has that.
    """
    try:
        from tensorflow.tsl.profiler.protobuf import xplane_pb2  # no part of TensorFlow's public interface
    except ImportError:
        return {}
    seconds: dict[str, float] = defaultdict(float)
    for file in Path(folder, PROFILES).rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
        devices = [plane for plane in space.planes if plane.name.startswith(("/device:GPU", "/device:TPU"))]
        for plane in devices or [plane for plane in space.planes if plane.name.startswith("/host:CPU")]:
            for line in plane.lines:
                for name, duration in _alone(_operations(plane, line, known)):
                    seconds[name] += duration / 1e12
    return dict(seconds)


def _operations(plane: Any, line: Any, known: Mapping[str, str]) -> Iterator[tuple[int, int, str]]:
    """(begin, end, name) of a line's operations, in picoseconds."""
    for event in line.events:
        if name := _name(plane, event, known):
            yield event.offset_ps, event.offset_ps + event.duration_ps, name


def _name(plane: Any, event: Any, known: Mapping[str, str]) -> str:
    """The name of an event that is an operation, else ""."""
    metadata = plane.event_metadata[event.metadata_id]
    stats = {}
    for stat in [*metadata.stats, *event.stats]:
        value = plane.stat_metadata[stat.ref_value].name if stat.ref_value else stat.str_value
        stats[plane.stat_metadata[stat.metadata_id].name] = value
    if not known and plane.name.startswith("/host:CPU"):
        # A function that XLA compiled has the name of its caller, and its loops have no other.
        if "hlo_op" in stats:
            return ""
        if stats.get("kernel_type") in _CALLS:
            return stats.get("name", "")
    for of_operation in ("hlo_op", "tf_op"):
        if name := stats.get(of_operation):
            return known.get(name, "") if known else name.rpartition(":")[0] or name
    if known:
        return ""
    match = _KERNEL.fullmatch(metadata.name)
    return match[1] if match and not _NO_WORK.fullmatch(metadata.name.rpartition(":")[2]) else ""


def _alone(events: Iterator[tuple[int, int, str]]) -> Iterator[tuple[str, int]]:
    """Each event's time without that of the events within it."""
    stack: list[list[Any]] = []  # [end, name, time of its own]
    for begin, end, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while stack and stack[-1][0] <= begin:
            _, finished, own = stack.pop()
            yield finished, own
        if stack:
            stack[-1][2] -= end - begin
        stack.append([end, name, end - begin])
    for _, name, own in stack:
        yield name, max(own, 0)
