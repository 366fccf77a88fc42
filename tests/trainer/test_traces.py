"""A profile -> the time of each operation by itself."""

from __future__ import annotations

import pytest

from convoy.trainer import traces


@pytest.fixture
def profile(tmp_path):
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    def write(events, hlo=False, calls=None):
        space = xplane_pb2.XSpace()
        plane = space.planes.add(name="/host:CPU")
        line = plane.lines.add(name="thread")
        for stat, name in enumerate(("hlo_op", "name", "kernel_type"), 1):
            plane.stat_metadata[stat].name = name
        for number, (name, begin, end) in enumerate(events, 1):
            plane.event_metadata[number].name = name
            event = line.events.add(metadata_id=number, offset_ps=begin, duration_ps=end - begin)
            if hlo:
                event.stats.add(metadata_id=1, str_value=name)
            if calls and name in calls:
                event.stats.add(metadata_id=2, str_value=calls[name])
                event.stats.add(metadata_id=3, str_value="PartitionedCall")
        folder = tmp_path / traces.PROFILES / "now"
        folder.mkdir(parents=True)
        (folder / "host.xplane.pb").write_bytes(space.SerializeToString())
        return str(tmp_path)

    return write


def test_an_operation_does_not_count_those_within_it(profile):
    folder = profile([("while/conv/Relu:Conv2D", 0, 10), ("while/add:Add", 2, 5), ("ParallelFor", 6, 9)])
    seconds = traces.operation_seconds(folder, {})
    assert seconds == {"while/conv/Relu": pytest.approx(7e-12), "while/add": pytest.approx(3e-12)}


def test_what_calls_others_is_no_operation(profile):
    folder = profile(
        [("while/body:While", 0, 10), ("loop/_1/_2:_HostRecv", 20, 30), ("ThreadpoolListener::Record", 0, 9)]
    )
    assert traces.operation_seconds(folder, {}) == {}


def test_names_of_a_program_stand_for_its_scopes(profile):
    folder = profile([("dot.1", 0, 4), ("while.3", 0, 9)], hlo=True)
    assert traces.operation_seconds(folder, {"dot.1": "jvp(dense)/dot"}) == {"jvp(dense)/dot": pytest.approx(4e-12)}


def test_a_loop_of_xla_counts_for_what_calls_it(profile):
    events = [("Process::Start", 0, 9), ("maximum_fusion", 1, 8)]
    folder = profile(events, calls={"Process::Start": "while/add/relu/PartitionedCall"})
    assert traces.operation_seconds(folder, {}) == {"while/add/relu/PartitionedCall": pytest.approx(9e-12)}


def test_a_loop_of_xla_has_no_name_of_its_own(profile):
    folder = profile([("maximum_fusion", 1, 8)], hlo=True)
    assert traces.operation_seconds(folder, {}) == {}
