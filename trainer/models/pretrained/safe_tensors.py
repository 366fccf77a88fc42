"""Tensors of a .safetensors file that anybody may have written."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize

from convoy import exits
from convoy.outside import printable

# What weights and counters are stored in; the format has others.
_TYPES: dict[str, type] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
}


def tensors(data: bytes, place: str) -> dict[str, np.ndarray]:
    """name -> tensor. The library checks that names, shapes and types account for every byte, once.

    Raises:
      exits.BadData: it is no such file, or has a type that weights do not have.
    """
    try:
        stored = deserialize(data)
    except (SafetensorError, ValueError, OverflowError, MemoryError) as error:
        raise exits.BadData(f"{place} is no sound .safetensors file: {printable(str(error))[:200]}.") from error
    by_name: dict[str, np.ndarray] = {}
    for name, tensor in stored:
        kind = _TYPES.get(tensor["dtype"])
        if kind is None:
            raise exits.BadData(
                f"{place} has a tensor {printable(name)[:100]} of type {printable(str(tensor['dtype']))[:20]}, which no weights"
                " that are read here have; convert it to F32."
            )
        by_name[name] = np.frombuffer(tensor["data"], kind).reshape(tensor["shape"])
    return by_name
