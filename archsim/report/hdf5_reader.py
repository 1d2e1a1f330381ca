"""Reading HDF5 results back, from files that may be truncated, newer or hostile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.report.hdf5 import SCHEMA_VERSION

MAX_LOGICAL_BYTES = 4 * 2**30
MAX_OBJECTS = 100_000
_KINDS = "biufSO"  # booleans, integers, floats, text


@contextmanager
def open_result(path: Path) -> Iterator[h5py.File]:
    """A checked, read-only HDF5 result of layout v1.

    Raises InputError in one sentence for a file that is missing, damaged, of a higher major version, links to other
    files or objects, or declares more than MAX_LOGICAL_BYTES; damage met while reading is reported the same way.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            _check_version(file, path)
            _check_objects(file, path)
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a readable HDF5 result: {' '.join(str(error).split())[:150]}") from None


def _check_version(file: h5py.File, path: Path) -> None:
    version = file.attrs.get("schema_version")
    major = str(version).partition(".")[0]
    if not isinstance(version, str) or not major.isdigit():
        raise InputError(f"{path}: no archsim schema_version at its root; not a result of archsim")
    ours = SCHEMA_VERSION.partition(".")[0]
    if int(major) > int(ours):
        raise InputError(f"{path}: layout version {version} is newer than {SCHEMA_VERSION}; update archsim to read it")


def _check_objects(file: h5py.File, path: Path) -> None:
    """Walk hard links only, each object once, and add up what the datasets declare."""
    logical, seen, waiting = 0, {_address(file["/"])}, [file["/"]]
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InputError(f"{path}: {group.name}/{name} is a link to another object or file, which is refused")
            item = group[name]
            if _address(item) in seen or len(seen) > MAX_OBJECTS:
                raise InputError(f"{path}: objects linked twice, or more than {MAX_OBJECTS:,} objects")
            seen.add(_address(item))
            if isinstance(item, h5py.Dataset):
                _check_dataset(item, path)
                logical += item.size * item.dtype.itemsize
                if logical > MAX_LOGICAL_BYTES:
                    raise InputError(f"{path}: declares more than {MAX_LOGICAL_BYTES:,} bytes of data")
            elif isinstance(item, h5py.Group):
                waiting.append(item)


def _address(item: h5py.Group | h5py.Dataset) -> int:
    return int(h5py.h5o.get_info(item.id).addr)


def _check_dataset(dataset: h5py.Dataset, path: Path) -> None:
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{path}: {dataset.name} keeps its data in another file, which is refused")
    if dataset.shape is None or dataset.ndim > 1 or dataset.dtype.kind not in _KINDS:
        raise InputError(f"{path}: {dataset.name} is not a column of numbers or text")


def read_columns(group: h5py.Group) -> dict[str, NDArray[Any]]:
    """All columns of a group but its dimension scale; text as str objects. Raises ValueError if lengths differ."""
    columns = {
        name: _values(item) for name, item in group.items() if isinstance(item, h5py.Dataset) and not item.is_scale
    }
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError(f"columns of {group.name} differ in length")
    return columns


def _values(dataset: h5py.Dataset) -> NDArray[Any]:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[...])
    return np.asarray(dataset[...])


def read_document(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[Any]]]]:
    """A result as the nested document that `--json` prints (summary and operators), and its other tables by name."""
    with open_result(path) as file:
        document = _nested(read_columns(file["summary"])) if "summary" in file else {}
        document.setdefault("schema", str(file.attrs.get("result_schema", "")))
        tables = {name: read_columns(item) for name, item in file.items() if isinstance(item, h5py.Group)}
        tables.pop("summary", None)
    if "operators" in tables:
        table = tables.pop("operators")
        rows = len(next(iter(table.values()), ()))
        document["operators"] = [{key: column[row].item() if hasattr(column[row], "item") else column[row]
                                  for key, column in table.items()} for row in range(rows)]  # fmt: skip
    return document, tables


def _nested(columns: dict[str, NDArray[Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, values in columns.items():
        *parents, last = path.split(".")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path!r} is below a value")
        if len(values) != 1:
            raise ValueError(f"summary column {path!r} has {len(values)} rows, expected 1")
        node[last] = values[0].item() if hasattr(values[0], "item") else values[0]
    listed = _lists(tree)
    return listed if isinstance(listed, dict) else {}


def _lists(node: Any) -> Any:
    """Mappings whose keys are 0, 1, 2, ... become lists again."""
    if not isinstance(node, dict):
        return node
    values = {key: _lists(value) for key, value in node.items()}
    if values and all(key.isdigit() for key in values):
        return [values[key] for key in sorted(values, key=int)]
    return values
