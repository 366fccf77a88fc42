"""The weights within a .keras file that anybody may have written. Nothing is built of its configuration."""

from __future__ import annotations

import io
import zipfile
from typing import Any

from convoy import exits
from convoy.outside import parse_json, printable

_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_CONFIG_BYTES = 64 << 20
# Of Keras: a layer with Python code in the file. Safe mode refuses it as well.
_CODE = ("Lambda", "__lambda__")


def weights(data: bytes, place: str) -> bytes:
    """model.weights.h5 of a .keras file.

    Raises:
      exits.BadData: it is no such file, or is compressed, which Keras' are not.
      exits.CannotRun: it brings code.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            config = _member(file, _CONFIG, min(len(data), _CONFIG_BYTES), place)
            stored = _member(file, _WEIGHTS, len(data), place)
    except exits.ConvoyError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds for a damaged file
        raise exits.BadData(f"{place} is no sound .keras file: {printable(str(error))[:200]}.") from error
    if code := _code(parse_json(config, f"{place}:{_CONFIG}", finite=False)):
        raise exits.CannotRun(
            f"{place} holds Python code, a layer {code}, which Convoy does not run; save the network without it, or its weights"
            " alone with save_weights."
        )
    return stored


def _member(file: zipfile.ZipFile, name: str, limit: int, place: str) -> bytes:
    """A member that is stored as it is, so that it takes no more room than the file."""
    infos = [info for info in file.infolist() if info.filename == name]
    if len(infos) != 1:
        raise exits.BadData(f"{place} has {len(infos)} members {name}, and a .keras file has one.")
    info = infos[0]
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.file_size > limit:
        raise exits.BadData(f"{place} has a compressed {name}, which Keras does not write; save the network again.")
    return file.read(info)


def _code(config: Any) -> str:
    """The name of a class with code; "" if there is none. Without recursion: parse_json bounds no breadth."""
    pending = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if node.get("class_name") in _CODE:
                inner = node.get("config")
                name = inner.get("name") if isinstance(inner, dict) else None
                return printable(str(name or node["class_name"]))[:100]
            pending += node.values()
        elif isinstance(node, list):
            pending += node
    return ""
