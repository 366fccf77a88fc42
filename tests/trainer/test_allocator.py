"""A process keeps the memory that it frees, unless the person has set glibc's allocator."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import concurrent.futures
import resource
import sys
from convoy.trainer.engines import allocator

one_heap, in_thread = (bool(int(word)) for word in sys.argv[1:])
kept = allocator.keep_freed_memory(one_heap)
def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 2**26  # larger than what glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
with concurrent.futures.ThreadPoolExecutor(1) as threads:
    faults = [threads.submit(page_faults).result() if in_thread else page_faults() for _ in range(2)][1]
print(kept, faults)
"""


def allocated(one_heap: bool = False, in_thread: bool = False, **environment: str) -> tuple[str, int]:
    """Whether memory is kept, and the page faults of 64 MiB that were used before."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    argv = [sys.executable, "-c", PROGRAM, str(int(one_heap)), str(int(in_thread))]
    done = subprocess.run(argv, env={**clean, **environment}, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_was_used_before_costs_no_page_faults():
    kept, faults = allocated()
    assert kept == "True"
    assert faults < 20  # of the interpreter itself
    for own in ({"MALLOC_ARENA_TEST": "8"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_test=8"}):
        kept, faults = allocated(**own)
        assert kept == "False"
        assert faults > 20  # 16,384 pages, or 32 huge ones


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("one_heap", [False, True])
def test_memory_of_a_thread_is_kept_where_all_share_one_heap(one_heap):
    kept, faults = allocated(one_heap, in_thread=True)
    assert kept == "True"
    assert (faults < 20) == one_heap
