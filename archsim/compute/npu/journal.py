"""Results of searches and simulations kept on disk: one append-only file of JSON lines per set of circumstances.

A line is written by one `write` in append mode, so several processes may share a file. A damaged line counts as
absent; a folder that cannot be written means that results live in memory only.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path

from archsim.cachedir import base_folder

Numbers = list[float]


class Journal:
    """A mapping from text to a list of numbers that outlives the process.

    name           folder below archsim's cache folder
    circumstances  everything the results depend on besides their key; other circumstances, other file
    """

    def __init__(self, name: str, circumstances: str) -> None:
        self._name, self._circumstances = name, circumstances

    @cached_property
    def path(self) -> Path:
        """The file."""
        digest = hashlib.sha256(f"{_sources()} {self._circumstances}".encode()).hexdigest()[:24]
        return base_folder() / self._name / f"{digest}.jsonl"

    @cached_property
    def _known(self) -> dict[str, Numbers]:
        found: dict[str, Numbers] = {}
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return found
        for line in lines:
            try:
                key, values = json.loads(line)
            except (ValueError, TypeError):
                continue
            if isinstance(key, str) and isinstance(values, list) and all(type(v) in (int, float) for v in values):
                found[key] = values
        return found

    def get(self, key: str) -> Numbers | None:
        """What was put under `key`, by this or an earlier process."""
        return self._known.get(key)

    def put(self, key: str, values: Numbers) -> None:
        """Remember `values`."""
        self._known[key] = values
        line = json.dumps([key, values], allow_nan=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode("utf-8"))
            finally:
                os.close(descriptor)
        except OSError:
            return


_SOURCES = ("compute/npu/*.py", "compute/npu/*.csv", "memory/dram/*.py", "execution/npu/*.py")


def _sources() -> str:
    """A digest of the code behind the results, so that an edit starts new files."""
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(package.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
