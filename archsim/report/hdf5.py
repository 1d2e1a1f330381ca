"""HDF5 layout v1: every result table is a group of columns that xarray opens with a named dimension.

Root attributes: schema_version, result_schema, archsim_version, seed, created_utc, configuration (JSON text).
A group holds one dimension scale and 1-D columns attached to it, each with `units` and `long_name`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim import __version__
from archsim.report.atomic import replacing
from archsim.report.json_text import json_text, plain
from archsim.results import REPORT_SCHEMA, OperatorResult, Report, Timeline

SCHEMA_VERSION = "1.0"
CHUNK_ROWS = 65_536
Column = tuple[ArrayLike, str, str]

_OPERATOR_COLUMNS = {
    "phase": ("", "phase of the request"),
    "name": ("", "operator"),
    "unit": ("", "unit that runs it"),
    "count": ("1", "runs in the step"),
    "seconds": ("s", "busy time of all runs"),
    "overlap_s": ("s", "part of the busy time hidden behind other work"),
    "joules": ("J", "energy of all runs"),
    "flop": ("FLOP", "floating-point operations of all runs"),
    "bytes": ("byte", "bytes moved by all runs"),
    "bound": ("", "resource that sets the time"),
}
_TIMELINE_COLUMNS = {
    "name": ("", "task"),
    "resource": ("", "resource that runs it"),
    "phase": ("", "phase of the request"),
    "layer": ("1", "layer of the model, -1 outside the layers"),
    "start_s": ("s", "start"),
    "end_s": ("s", "end"),
}


def write_columns(group: h5py.Group, columns: Mapping[str, Column], dimension: str) -> None:
    """Write `columns` (name -> (1-D values, units, long name)) of equal length along one named dimension.

    Text becomes fixed-length UTF-8, because HDF5 cannot compress or check variable-length text. Every column has
    gzip-1, shuffle, fletcher32 and chunks of 64 Ki rows. Raises ValueError if lengths differ.
    """
    arrays = {name: _storable(values) for name, (values, _, _) in columns.items()}
    lengths = {array.size for array in arrays.values()}
    if len(lengths) > 1 or any(array.ndim != 1 for array in arrays.values()):
        raise ValueError(f"columns of {group.name} differ in length: {sorted(lengths)}")
    rows = lengths.pop() if lengths else 0
    scale = _dataset(group, dimension, np.arange(rows, dtype=np.int64), "1", f"index of {dimension}")
    scale.make_scale(dimension)
    for name, (_, units, long_name) in columns.items():
        if name == dimension:
            raise ValueError(f"column {name!r} has the name of its dimension")
        _dataset(group, name, arrays[name], units, long_name).dims[0].attach_scale(scale)


def _dataset(group: h5py.Group, name: str, array: NDArray[Any], units: str, long_name: str) -> h5py.Dataset:
    stored: dict[str, Any] = {}
    if array.size:
        stored = {
            "chunks": (min(array.size, CHUNK_ROWS),),
            "compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True,
        }  # fmt: skip
    dataset = group.create_dataset(name, data=array, **stored)
    dataset.attrs["units"] = units
    dataset.attrs["long_name"] = long_name
    return dataset


def _storable(values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "UO":
        return array
    encoded = [str(item).encode("utf-8") for item in array.ravel()]
    width = max((len(item) for item in encoded), default=1) or 1
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", width)).reshape(array.shape)


@contextmanager
def new_file(
    path: Path, result_schema: str, configuration: Mapping[str, Any], seed: int | None = None
) -> Iterator[h5py.File]:
    """An HDF5 file with the root attributes of layout v1 that replaces `path` when the block ends well."""
    # attributes above 64 KiB, which a resolved configuration can be, need the object headers of HDF5 1.8
    with replacing(Path(path)) as temporary, h5py.File(temporary, "w", libver=("v108", "v110")) as file:
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["result_schema"] = result_schema
        file.attrs["archsim_version"] = __version__
        file.attrs["seed"] = -1 if seed is None else int(seed)
        file.attrs["created_utc"] = _now().strftime("%Y-%m-%dT%H:%M:%SZ")
        file.attrs["configuration"] = json_text(dict(configuration), indent=None)
        yield file


def _now() -> datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)


def write_hdf5(path: Path, report: Report) -> None:
    """Write a report: /summary (one column per number, named by its JSON path), /operators and /timeline."""
    with new_file(path, REPORT_SCHEMA, report.configuration) as file:
        write_summary(file.create_group("summary"), _without_operators(report))
        _write_table(file.create_group("operators"), report.operators, _OPERATOR_COLUMNS)
        if report.timeline is not None:
            write_timeline(file.create_group("timeline"), report.timeline)


def write_summary(group: h5py.Group, document: Mapping[str, Any]) -> None:
    """Every number, text and flag of a nested document as a column of one row, named by its dotted path."""
    columns = {key: ([value], unit_of(key), key.replace("_", " ")) for key, value in flatten(document).items()}
    write_columns(group, columns, "run")


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists -> {dotted path: scalar}; None is left out."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        path = prefix + str(key).replace("/", "_").replace(".", "_")  # a slash would open a group
        if isinstance(value, list):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, Mapping):
            flat |= flatten(value, path + ".")
        elif value is not None:
            flat[path] = value
    return flat


_SUFFIX_UNITS = (
    ("tokens_per_s", "1/s"), ("requests_per_s", "1/s"), ("_per_s", "1/s"), ("usd_per_million_tokens", "USD"),
    ("usd_per_year", "USD/year"), ("kgco2e_per_year", "kg/year"), ("kgco2e", "kg"), ("j_per_token", "J"),
    ("_pct", "%"), ("_bytes", "byte"), ("_usd", "USD"), ("_ns", "ns"), ("_ps", "ps"), ("_s", "s"), ("_j", "J"),
    ("_w", "W"),
)  # fmt: skip
_PARENT_UNITS = {
    "latency.breakdown": "s", "energy.breakdown": "J", "cost.breakdown": "USD",
    "cost.capex_breakdown": "USD", "contents": "byte",
}  # fmt: skip


def unit_of(path: str) -> str:
    """Unit of a dotted result path: of its breakdown if it stands in one, else what its last name says."""
    for parent, unit in _PARENT_UNITS.items():
        if f"{parent}." in path:
            return unit
    name = "_" + path.rpartition(".")[2]
    return next((unit for suffix, unit in _SUFFIX_UNITS if name.endswith(suffix)), "1")


def _without_operators(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = plain(report)
    del document["operators"]
    return document


def _write_table(group: h5py.Group, rows: tuple[OperatorResult, ...], columns: dict[str, tuple[str, str]]) -> None:
    table = {
        key: (_typed([getattr(row, key) for row in rows], unit), unit, name) for key, (unit, name) in columns.items()
    }
    write_columns(group, table, "operator")


def write_timeline(group: h5py.Group, timeline: Timeline) -> None:
    table = {key: (_typed(getattr(timeline, key), unit), unit, name) for key, (unit, name) in _TIMELINE_COLUMNS.items()}
    write_columns(group, table, "task")


def _typed(values: Any, unit: str) -> NDArray[Any]:
    """A column keeps its type when it is empty: text has no unit, counts have unit 1."""
    return np.asarray(values, dtype={"": np.str_, "1": np.int64}.get(unit, np.float64))
