"""Results as JSON: one document, finite numbers only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any


def json_text(result: Any, indent: int | None = 2) -> str:
    """JSON text of a result (an object with `to_dict`, a dataclass or plain data).

    Raises ValueError naming the key of a NaN or an infinity: JSON has neither, so a result must not hold one.
    """
    return json.dumps(plain(result), indent=indent, allow_nan=False, ensure_ascii=False)


def plain(value: Any, path: str = "") -> Any:
    """Dicts, lists, text, finite numbers, booleans and None only; NumPy scalars and arrays become Python's."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path or 'result'} is {value}: not a finite number")
        return float(value)
    if hasattr(value, "to_dict"):
        return plain(value.to_dict(), path)
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value), path)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(item, f"{path}[{index}]") for index, item in enumerate(items)]
    if hasattr(value, "tolist"):  # NumPy scalar or array
        return plain(value.tolist(), path)
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"), path)
    return str(value)
