"""Are the packages that Python found really ours?

Convoy's import names (data, trainer, launch) are generic, and a folder of the same name in the current directory wins
when Python is started with `-m`. Training somebody else's code by accident is the worst way to find out.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from convoy import exits

FLOORS = ("data", "trainer", "launch")


def check_siblings() -> None:
    """Raises CannotRun if one of the floors would be imported from outside this installation."""
    home = Path(__file__).resolve().parent.parent
    for name in FLOORS:
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in spec.submodule_search_locations or ()] if spec else []
        if places != [home / name]:
            found = str(places[0]) if places else "nowhere"
            raise exits.CannotRun(
                f"the package `{name}` was found at {found}, not beside Convoy in {home}; start Convoy by its console"
                f" script `convoy`, or from a directory that holds no folder or module named {name}."
            )
