"""A command of several verbs: each opens a function, whose module is imported only then."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping

from convoy import exits
from convoy.table import near

# verb -> ("module:function" that takes argv and returns an exit code, what it does)
Verbs = Mapping[str, tuple[str, str]]


def table(verbs: Verbs) -> str:
    """A line for each verb, for --help."""
    width = max(map(len, verbs))
    return "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in verbs.items())


def dispatch(program: str, verbs: Verbs, argv: list[str], usage: str) -> int:
    """Calls the verb that argv begins with, or prints the usage; UsageError for a verb that is none."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage)
        return exits.OK
    verb, rest = argv[0], argv[1:]
    if verb not in verbs:
        hint = near(verb, verbs, shown=f"`{program} {{}}`")
        raise exits.UsageError(f"there is no `{program} {verb}`; {hint}")
    return pkgutil.resolve_name(verbs[verb][0])(rest)
