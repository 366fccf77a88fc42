"""5,000 hostile inputs for each reader, one process a reader: `python benchmarks/hostile.py`. A minute or two.

The inputs are those of tests/security, drawn from one seed. A reader that raises another error than a typed one, or touches a
file outside its root, fails its test and has no row. Writes results/hostile.csv.
"""

from __future__ import annotations

import re
import subprocess
import sys

from rows import HERE, describe, write

RESULTS = HERE / "results" / "hostile.csv"
READERS = {
    "names": "test_names.py::test_any_name_lies_inside_or_is_refused[5000]",
    "manifests of packed records": "test_records.py::test_any_manifest_is_right_or_a_typed_error[5000]",
    "indices of packed records, npz headers": "test_records.py::test_any_index_is_right_or_damaged[5000]",
    "checkpoints": "test_checkpoints.py::test_any_checkpoint_is_refused_or_read_bit_for_bit[5000]",
    **{
        name: f"test_run_directory.py::test_any_file_of_a_run_is_read_or_refused_in_a_sentence[5000-{name}]"
        for name in ("config.json", "result.json", "metrics.jsonl", "events.jsonl", "bad_images.jsonl")
    },
    "job folders": "test_job_folder.py::test_any_job_folder_is_read_or_refused_in_a_sentence[5000]",
}


def main() -> None:
    rows = []
    for reader, test in READERS.items():
        node = HERE.parent / "tests" / "security" / test
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", "--durations=0", "-p", "no:xdist", node]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout)
        seconds = float(re.search(r"([0-9.]+)s call", done.stdout)[1])
        rows.append({"reader": reader, "inputs": 5000, "seconds": seconds, **describe()})
        print(f"{reader}: {seconds:.1f} s", flush=True)
    write(RESULTS, rows)


if __name__ == "__main__":
    main()
