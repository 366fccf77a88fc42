"""The grammar of references to container images, as registries and Kubernetes read them (distribution/reference).

[DOMAIN[:PORT]/]PATH[:TAG][@ALGORITHM:DIGEST]
"""

from __future__ import annotations

import re

MAX_PATH_CHARACTERS = 255
_COMPONENT = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_DOMAIN}/)?(?P<path>{_PART}(?:/{_PART})*)(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})?(?:@(?P<digest>[^@]*))?"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")  # of an image on a machine; registries have none


def why_not(reference: str) -> str:
    """Why no registry can have an image of that name, to follow "--image=X"; empty if one can."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return "is no image; give [REGISTRY/]NAME[:TAG][@sha256:DIGEST], with small letters in NAME"
    if match["digest"] is not None and not _DIGEST.fullmatch(match["digest"]):
        return "has no digest after @; give sha256: and 64 hexadecimal digits in small letters"
    if len(match["path"]) > MAX_PATH_CHARACTERS:
        return f"has a name of {len(match['path'])} characters, and registries take {MAX_PATH_CHARACTERS}; give a shorter one"
    if _IDENTIFIER.fullmatch(reference):
        return "is the identifier of an image on one machine; give the name that a registry has it by"
    return ""
