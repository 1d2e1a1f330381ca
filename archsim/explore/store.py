"""The folder of a run: one small file per finished point, so that a killed run loses nothing."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.errors import UsageError
from archsim.explore.point import ERROR
from archsim.report.atomic import write_text
from archsim.report.json_text import json_text

if TYPE_CHECKING:
    from archsim.config.schemas.space import Space

SCHEMA = "archsim.explore/1"
_PER_FOLDER = 1000


class Store:
    """OUT/run.json says what is explored, OUT/points/NNNN/NNNNNNN.json holds one point each."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one process; the lock goes with the process, however it ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / ".lock").open("w")
        except OSError as error:
            raise UsageError(f"cannot write {self.folder}: {error.strerror}") from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(f"{self.folder} is in use by another run") from None
            yield

    def begin(self, identity: dict[str, Any], resume: bool) -> None:
        """Claim an empty folder, or continue one that holds the same run.

        Raises UsageError if the folder holds a run and `resume` is off, another run, or something else.
        """
        manifest = self.folder / "run.json"
        mine = {"schema": SCHEMA, "hash": digest(identity), **identity}
        if manifest.is_file():
            self._check_same(manifest, mine, resume)
        elif any(path.name != ".lock" for path in self.folder.iterdir()):
            raise UsageError(f"{self.folder} is not empty and holds no exploration; choose another --out")
        else:
            write_text(manifest, json_text(mine))
        for leftover in self.folder.rglob(".*.part"):  # of a killed write
            leftover.unlink(missing_ok=True)

    def _check_same(self, manifest: Path, mine: dict[str, Any], resume: bool) -> None:
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
            differing = sorted(key for key in mine.keys() | found.keys() if mine.get(key) != found.get(key))
        except (ValueError, AttributeError):
            raise UsageError(f"{manifest} is damaged; choose another --out") from None
        if "hash" in differing:
            names = ", ".join(key for key in differing if key != "hash")
            raise UsageError(f"{self.folder} holds another exploration (differs in {names}); choose another --out")
        if not resume:
            raise UsageError(f"{self.folder} already holds this exploration; --resume continues it")

    def path(self, index: int) -> Path:
        """The file of one point."""
        return self.folder / "points" / f"{index // _PER_FOLDER:04d}" / f"{index:07d}.json"

    def write(self, record: dict[str, Any]) -> None:
        """Store one finished point, whole or not at all."""
        path = self.path(record["index"])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json_text(record, indent=None))

    def read(self, index: int) -> dict[str, Any] | None:
        """The record of a finished point; None if it is absent or unreadable, so that it is evaluated again."""
        try:
            record: dict[str, Any] = json.loads(self.path(index).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("index") == index else None

    def missing(self, size: int) -> list[int]:
        """Points to evaluate: not finished, or ended by an error, which may have been a passing one."""
        found = ((index, self.read(index)) for index in range(size))
        return [index for index, record in found if record is None or record["status"] == ERROR]

    def records(self, size: int) -> list[dict[str, Any]]:
        """All records in the order of the points. Raises UsageError if one is missing."""
        found = [self.read(index) for index in range(size)]
        if any(record is None for record in found):
            raise UsageError(f"{self.folder}: point {found.index(None)} is missing; --resume evaluates it")
        return [record for record in found if record is not None]


def digest(identity: dict[str, Any]) -> str:
    """Hex digest of what defines a run."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def identify(space: Space, evaluate: str, documents: dict[str, Any], version: str) -> dict[str, Any]:
    """What must be equal for two runs to give equal points: the space, the descriptions it names, the program."""
    content = space.model_dump(mode="json", by_alias=True, exclude={"description", "sources", "not_modelled"})
    return {"space": content, "evaluate": evaluate, "descriptions": digest(documents), "archsim_version": version}
