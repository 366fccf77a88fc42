"""Measures the tables of the README and of docs/ again, one script after the other: `make bench-all`.

--list shows them with their commands and the days since their rows were measured, and measures nothing. What cannot run here,
for want of data, peers or links, is named at the end; its rows stay as they are. All of them take hours.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys

from step_tables import MORE, OF_SCRIPT

import tables

# Tables whose rows no script of their name measures.
WITHOUT_SCRIPT = {"digits": "convoy train --flagfile=recipes/digits.flags --seed=N, for each row"}


def age(name: str) -> str:
    """How old the newest rows of a table are."""
    dates = [row["date"] for row in tables.rows_of(name) if row.get("date")]
    if not dates:
        return "no date"
    days = (datetime.date.today() - datetime.date.fromisoformat(max(dates))).days
    return f"{days} days"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="show commands and ages, measure nothing")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="default: all")
    flags = parser.parse_args()
    if unknown := [name for name in flags.tables if name not in tables.TABLES]:
        parser.error(f"there is no table {unknown[0]}; --list shows those there are")
    failed = []
    for name in flags.tables or tables.TABLES:
        rows, more = OF_SCRIPT.get(name, name), MORE.get(name, [])
        script = tables.HERE / f"{rows}.py"
        command = " ".join(["python", f"benchmarks/{rows}.py", *more]) if script.exists() else WITHOUT_SCRIPT[name]
        if flags.list:
            print(f"{name:<18}{age(rows):>10}  {command}")
        elif script.exists():
            print(f"== {command}", flush=True)
            if subprocess.run([sys.executable, script, *more], check=False, cwd=tables.ROOT).returncode:
                failed.append(name)
    if not flags.list:
        for page in tables.PAGES:
            page.write_text(tables.filled(page))
    if failed:
        print(f"These could not be measured here, and have their rows of before: {', '.join(failed)}.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
