"""HDF5 layout v1: what xarray sees, what survives a round trip, and which files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
from report_samples import sample_report

from archsim.errors import ArchsimError, InputError, UsageError
from archsim.report.hdf5 import CHUNK_ROWS, new_file, write_columns, write_hdf5
from archsim.report.hdf5_reader import open_result, read_document
from archsim.report.json_text import plain


def without_empty(node: Any) -> Any:
    """HDF5 has no place for an empty mapping or list."""
    if not isinstance(node, dict):
        return node
    return {key: without_empty(value) for key, value in node.items() if value not in ({}, [])}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "result.h5"
    write_hdf5(path, sample_report())
    return path


def test_root_attributes(saved: Path) -> None:
    with h5py.File(saved) as file:
        names = {"schema_version", "result_schema", "archsim_version", "seed", "created_utc", "configuration"}
        assert names <= set(file.attrs)
        assert json.loads(file.attrs["configuration"]) == sample_report().configuration
        assert set(file) == {"summary", "operators", "timeline"}


def test_every_column_is_checked_compressed_and_explained(saved: Path) -> None:
    def check(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            assert item.ndim == 1
            assert {"units", "long_name"} <= set(item.attrs)
            assert (item.compression, item.compression_opts, item.shuffle, item.fletcher32) == ("gzip", 1, True, True)
            assert item.is_scale or len(item.dims[0]) == 1

    with h5py.File(saved) as file:
        file.visititems(check)
        assert all(sum(item.is_scale for item in file[group].values()) == 1 for group in file)


@pytest.mark.parametrize(("group", "dimension", "rows"), [("operators", "operator", 4), ("timeline", "task", 2)])
def test_xarray_opens_groups_with_named_dimensions(saved: Path, group: str, dimension: str, rows: int) -> None:
    with xarray.open_dataset(saved, group=group, engine="h5netcdf") as data:
        assert dict(data.sizes) == {dimension: rows}
        assert all(variable.dims == (dimension,) for variable in data.variables.values())


def test_xarray_sees_values_and_units(saved: Path) -> None:
    with xarray.open_dataset(saved, group="operators", engine="h5netcdf") as data:
        assert data["seconds"].attrs["units"] == "s"
        np.testing.assert_array_equal(data["joules"], [20.0, 10.0, 2.0, 1.0])
        assert [name.decode() for name in data["unit"].values] == ["gpu", "gpu", "gpu", "pim"]


def test_document_survives(saved: Path) -> None:
    document, tables = read_document(saved)
    assert document == without_empty(plain(sample_report()))
    assert list(tables) == ["timeline"]
    np.testing.assert_array_equal(tables["timeline"]["end_s"], [0.004, 0.005])


def test_chunks_hold_64_ki_rows(tmp_path: Path) -> None:
    with new_file(tmp_path / "long.h5", "archsim.test/1", {}) as file:
        columns = {"value": (np.arange(CHUNK_ROWS + 5), "1", "value"), "text": (["é"] * (CHUNK_ROWS + 5), "", "text")}
        write_columns(file.create_group("rows"), columns, "row")
        assert file["rows/value"].chunks == (65_536,)
    with open_result(tmp_path / "long.h5") as file:
        assert file["rows/text"].asstr()[-1] == "é"


def test_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "empty.h5", sample_report(operators=()))
    with xarray.open_dataset(tmp_path / "empty.h5", group="operators", engine="h5netcdf") as data:
        assert dict(data.sizes) == {"operator": 0}
        assert data["seconds"].dtype == np.float64


def test_columns_of_different_length_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differ in length"), new_file(tmp_path / "x.h5", "archsim.test/1", {}) as file:
        write_columns(file.create_group("rows"), {"a": ([1], "1", "a"), "b": ([1, 2], "1", "b")}, "row")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(RuntimeError), new_file(saved, "archsim.test/1", {}):
        raise RuntimeError("midway")
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        write_hdf5(tmp_path / "absent" / "x.h5", sample_report())


def _newer(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = "2.0"


def _external_link(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["other"] = h5py.ExternalLink("/etc/hostname", "/")


def _soft_link(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["other"] = h5py.SoftLink("/operators")


def _external_data(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("other", (16,), "u1", external=[("/etc/hostname", 0, 16)])


def _absurd_extent(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("operators/huge", (2**50,), "f8", chunks=(1024,))


def _cycle(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["operators/again"] = file["/"]


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def _flipped(path: Path) -> None:
    with h5py.File(path) as file:
        offset = file["operators/seconds"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 8] ^= 0xFF
    path.write_bytes(bytes(content))


def _foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = [1, 2, 3]


def _text(path: Path) -> None:
    path.write_text("not HDF5 at all")


def _absent(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_newer, "newer than"), (_external_link, "link"), (_soft_link, "link"), (_external_data, "another file"),
        (_absurd_extent, "declares more than"), (_cycle, "objects"), (_truncated, "not a readable"),
        (_flipped, "not a readable"), (_foreign, "schema_version"), (_text, "not a readable"),
        (_absent, "no such file"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_in_one_sentence(saved: Path, damage: object, says: str) -> None:
    assert callable(damage)
    damage(saved)
    with pytest.raises(InputError, match=says) as caught:
        read_document(saved)
    assert isinstance(caught.value, ArchsimError)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
