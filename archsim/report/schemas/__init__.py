"""Published JSON schemas of result documents: NAME-VERSION.json, one file for each version of a contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archsim.errors import UsageError, unknown_name

_FOLDER = Path(__file__).parent


def result_schema_names() -> list[str]:
    """Names such as `report`; each stands for its highest version."""
    return sorted({path.stem.rpartition("-")[0] for path in _FOLDER.glob("*-*.json")})


def result_schema(name: str) -> dict[str, Any]:
    """The schema called `name`, its highest version. Raises UsageError for an unknown name."""
    files = sorted(_FOLDER.glob(f"{name}-[0-9]*.json"), key=lambda path: int(path.stem.rpartition("-")[2]))
    if name not in result_schema_names() or not files:
        raise UsageError(unknown_name("result", name, result_schema_names()))
    document: dict[str, Any] = json.loads(files[-1].read_text(encoding="utf-8"))
    return document
