"""Saved results of any format, told apart by their first bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from archsim.errors import InputError

MAX_JSON_BYTES = 256 * 2**20
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_result(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, NDArray[Any]]]]:
    """The result document and its further tables (HDF5 only). Raises InputError in one sentence."""
    try:
        with path.open("rb") as file:
            signature = file.read(8)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if signature == _HDF5_SIGNATURE:
        from archsim.report.hdf5_reader import read_document

        return read_document(path)
    return _json_document(path), {}


def _json_document(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path}: larger than {MAX_JSON_BYTES:,} bytes")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise InputError(f"{path}: neither HDF5 nor JSON") from None
    if isinstance(document, list) and document and all(isinstance(one, dict) for one in document):
        document = _together(document)
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith("archsim."):
        raise InputError(f"{path}: no result of archsim (its `schema` is {schema!r})")
    found: dict[str, Any] = document
    return found


def _together(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Results of one kind in a list, such as those of `archsim capacity`, as one document."""
    names = {key: ", ".join(dict.fromkeys(str(one.get(key)) for one in documents)) for key in ("system", "model")}
    schemas = {one.get("schema") for one in documents}
    return {"schema": schemas.pop() if len(schemas) == 1 else None, **names, "results": documents}
