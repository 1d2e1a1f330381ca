"""Reading a folder of reference data: its manifest.yaml and the CSV files it names."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archsim.config.yaml_reader import Document, parse_yaml, read_text
from archsim.errors import ConfigError, InputError, suggest

MAX_CSV_BYTES = 512 * 2**20
# `name` and `source` are prose to the end of their line: a colon inside, which YAML forbids, is common there.
_PROSE = re.compile(r"^(name|source): +([^\s'\"|>&*!#\[{].*?)(?: +#.*)? *$", re.MULTILINE)
_ROOT_KEYS = ("name", "source", "datasets")


@dataclass(frozen=True)
class Dataset:
    """One entry of a manifest. `options` holds its further keys, for the kind to read."""

    kind: str
    results: str | list[str]
    truth: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A folder of reference data."""

    name: str
    source: str
    folder: Path
    datasets: tuple[Dataset, ...]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder. Raises InputError if there is none and ConfigError, with the line, if it is wrong."""
    path = Path(folder) / "manifest.yaml"
    if not path.is_file():
        raise InputError(f"{folder}: no manifest.yaml there, so not a folder of reference data")
    document = parse_yaml(_PROSE.sub(_quoted, read_text(path)), str(path))
    root = _expect(document.value, dict, "a mapping", document, path, ())
    for key in root:
        if key not in _ROOT_KEYS:
            allowed = f"{suggest(key, _ROOT_KEYS)} (allowed: {', '.join(_ROOT_KEYS)})"
            raise _wrong(f"unknown key{allowed}", document, path, (key,))
    entries = _expect(root.get("datasets"), list, "a list of datasets", document, path, ("datasets",))
    datasets = tuple(_dataset(entry, index, document, path) for index, entry in enumerate(entries))
    return Manifest(str(root.get("name", Path(folder).name)), str(root.get("source", "")), Path(folder), datasets)


def _quoted(line: re.Match[str]) -> str:
    return f"{line[1]}: {json.dumps(line[2], ensure_ascii=False)}"


def _dataset(entry: Any, index: int, document: Document, path: Path) -> Dataset:
    where: tuple[str | int, ...] = ("datasets", index)
    entry = _expect(entry, dict, "a mapping", document, path, where)
    kind = _expect(entry.get("kind"), str, "the name of a kind", document, path, (*where, "kind"))
    results = entry.get("results")
    if not isinstance(results, str):
        _texts(results, "a file name or a list of them", document, path, (*where, "results"))
    truth = tuple(_texts(entry.get("truth", []), "a list of column names", document, path, (*where, "truth")))
    options = {key: value for key, value in entry.items() if key not in ("kind", "results", "truth")}
    return Dataset(kind, results, truth, options)


def _texts(value: Any, expected: str, document: Document, path: Path, where: tuple[str | int, ...]) -> list[str]:
    texts: list[str] = _expect(value, list, expected, document, path, where)
    for item in texts:
        _expect(item, str, expected, document, path, where)
    return texts


def _expect(value: Any, kind: type, expected: str, document: Document, path: Path, where: tuple[str | int, ...]) -> Any:
    if isinstance(value, kind):
        return value
    raise _wrong(f"found {value!r:.60}, expected {expected}", document, path, where)


def _wrong(problem: str, document: Document, path: Path, where: tuple[str | int, ...]) -> ConfigError:
    mark = document.mark(where)
    return ConfigError(problem, file=str(path), line=mark[1] if mark else None, key=".".join(map(str, where)) or None)


def result_files(manifest: Manifest, dataset: Dataset) -> list[Path]:
    """The files of a dataset, with patterns expanded, sorted. Raises InputError if one is missing or outside."""
    names = [dataset.results] if isinstance(dataset.results, str) else dataset.results
    found: list[Path] = []
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{manifest.folder}/manifest.yaml: {name!r} is outside the folder")
        matches = (
            sorted(manifest.folder.glob(name)) if any(sign in name for sign in "*?[") else [manifest.folder / name]
        )
        if not matches or not all(match.is_file() for match in matches):
            raise InputError(f"{manifest.folder / name}: no such file, but manifest.yaml names it")
        found += matches
    return found


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and rows of a CSV file. Raises InputError with the line for a ragged or unreadable one."""
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise InputError(f"{path}: larger than {MAX_CSV_BYTES:,} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if not header or len(set(header)) != len(header):
                raise InputError(f"{path}:1: no header, or a column name twice")
            rows = []
            for cells in reader:
                if len(cells) != len(header) and cells:
                    raise InputError(f"{path}:{reader.line_num}: {len(cells)} cells, the header has {len(header)}")
                if cells:
                    rows.append(dict(zip(header, cells, strict=True)))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except csv.Error as error:
        raise InputError(f"{path}: not readable as CSV: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return header, rows
