"""Parsed description files, remembered as JSON in the user's cache folder.

The YAML reader is strict but slow (0.1 ms a line), and a machine is a dozen files. An entry is found by a hash of the
text and of the reader's source, so it can never be stale; one that is damaged or cannot be written counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from archsim import cachedir

Parsed = tuple[Any, list[tuple[list[str | int], int]]]  # the plain value; (key path, line) of everything in it


@cache
def _folder() -> Path:
    reader = (Path(__file__).parent / "yaml_reader.py").read_bytes()
    return cachedir.base_folder() / "yaml" / hashlib.sha256(reader).hexdigest()[:16]


def _entry(text: str) -> Path:
    return _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def recall(text: str) -> Parsed | None:
    """What `text` was parsed to before, or None."""
    try:
        value, marks = json.loads(_entry(text).read_text(encoding="utf-8"))
        return value, [(list(path), int(line)) for path, line in marks]
    except (OSError, ValueError, TypeError):
        return None


def keep(text: str, parsed: Parsed) -> None:
    """Remember what `text` was parsed to."""
    entry = _entry(text)
    with contextlib.suppress(OSError):  # a cache that cannot be written is no cache
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, delete=False, encoding="utf-8") as file:
            json.dump(parsed, file)
        os.replace(file.name, entry)
