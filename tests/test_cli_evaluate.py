"""`archsim evaluate` and `archsim compare` from the command line to the files they write."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest
import xarray
from report_samples import check_against_schema

from archsim.cli import main as cli

SMALL = ["dgx-a100", "llama2-7b", "--batch", "4", "--input-len", "64", "--output-len", "32"]
Captured = pytest.CaptureFixture[str]


def json_of(arguments: list[str], capsys: Captured) -> dict[str, dict[str, float]]:
    assert cli.run([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    document: dict[str, dict[str, float]] = json.loads(captured.out)
    return document


def test_json_follows_the_schema_and_repeats_exactly(capsys: Captured) -> None:
    first = json_of(["evaluate", *SMALL], capsys)
    check_against_schema(first, "report")
    assert first["request"] == {"batch": 4, "input_len": 64, "output_len": 32}
    assert json_of(["evaluate", *SMALL], capsys) == first


def test_files_hold_what_json_says(tmp_path: Path, capsys: Captured) -> None:
    targets = ["--hdf5", str(tmp_path / "r.h5"), "--perfetto", str(tmp_path / "r.json")]
    document = json_of(["evaluate", *SMALL, *targets], capsys)
    with xarray.open_dataset(tmp_path / "r.h5", group="summary", engine="h5netcdf") as summary:
        assert dict(summary.sizes) == {"run": 1}
        assert summary["latency.tpot_s"].item() == document["latency"]["tpot_s"]
        assert summary["latency.tpot_s"].attrs["units"] == "s"
    with xarray.open_dataset(tmp_path / "r.h5", group="operators", engine="h5netcdf") as operators:
        assert operators["seconds"].values.tolist() == [row["seconds"] for row in document["operators"]]  # type: ignore[index]
    with h5py.File(tmp_path / "r.h5") as file:
        assert {"system", "model"} <= set(json.loads(file.attrs["configuration"]))
    events = json.loads((tmp_path / "r.json").read_text())["traceEvents"]
    assert any(event["ph"] == "X" for event in events)


def test_saved_results_become_pages(tmp_path: Path, capsys: Captured) -> None:
    pytest.importorskip("plotly")
    document = json_of(["evaluate", *SMALL, "--hdf5", str(tmp_path / "r.h5")], capsys)
    (tmp_path / "r.json").write_text(json.dumps(document))
    for name in ("r.h5", "r.json"):
        assert cli.run(["report", str(tmp_path / name), "-o", str(tmp_path / "page.html")]) == 0
        assert "llama2-7b on dgx-a100" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert cli.run(["report", str(tmp_path / "page.html"), "-o", str(tmp_path / "x.html")]) == 4
    assert "neither HDF5 nor JSON" in capsys.readouterr().err


def test_table_names_the_phases_and_units(capsys: Captured) -> None:
    assert cli.run(["evaluate", *SMALL]) == 0
    text = capsys.readouterr().out
    for part in ("time to first token", "tokens/s", "per million tokens", "largest batch", "prefill", "decode", "qkv"):
        assert part in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_overrides_reach_system_and_workload(capsys: Captured) -> None:
    plain = json_of(["evaluate", *SMALL], capsys)
    slower = json_of(["evaluate", *SMALL, "--set", "units.gpu.device.memory_bandwidth=1 TB/s"], capsys)
    assert slower["latency"]["tpot_s"] > plain["latency"]["tpot_s"]
    smaller = json_of(["evaluate", *SMALL, "--set", "workload.kv_dtype=int8"], capsys)
    assert smaller["capacity"]["required_bytes"] < plain["capacity"]["required_bytes"]


def test_what_does_not_fit_ends_with_3_and_writes_nothing(tmp_path: Path, capsys: Captured) -> None:
    arguments = ["evaluate", "dgx-a100", "gpt3-175b", "--batch", "32", "--hdf5", str(tmp_path / "r.h5")]
    assert cli.run(arguments) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "short" in captured.err
    assert list(tmp_path.iterdir()) == []


def test_results_are_not_written_where_that_is_impossible(tmp_path: Path, capsys: Captured) -> None:
    assert cli.run(["evaluate", *SMALL, "--hdf5", str(tmp_path / "absent" / "r.h5")]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_compare_takes_each_at_its_largest_batch(capsys: Captured) -> None:
    lengths = ["--input-len", "64", "--output-len", "32"]
    document = json_of(["compare", "llama2-7b", "dgx-h100", "dgx-a100", *lengths], capsys)
    assert document["baseline"] == "dgx-a100"
    for entry in document["systems"]:
        report = entry["report"]  # type: ignore[index]
        check_against_schema(report, "report")
        assert report["request"]["batch"] == report["capacity"]["max_batch"]
        assert json_of(["evaluate", report["system"], "llama2-7b", *lengths], capsys) == report
    assert set(document["systems"][1]["ratios"].values()) == {1.0}  # type: ignore[index]


def test_compare_shows_the_others_if_one_does_not_fit(capsys: Captured) -> None:
    arguments = ["compare", "gpt3-175b", "dgx-a100", "dgx-a100-large", "--batch", "32"]
    assert cli.run([*arguments, "--json"]) == 3
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [entry["report"] is None for entry in document["systems"]] == [True, False]
    assert captured.err.count("\n") == 1
