"""A serving run from the command line: JSON by its schema, HDF5 that xarray opens, errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import xarray
from click.testing import CliRunner, Result

from archsim.cli.serve import serve as command
from archsim.config import load_model, load_system
from archsim.errors import UsageError
from archsim.report.json_text import json_text
from archsim.report.schemas import result_schema
from archsim.report.serving_files import write_serving_hdf5
from archsim.serving import AffineOracle, serve
from archsim.workload.traces import make_trace

TRACE = "arrival_s,prompt_tokens,output_tokens\n0,64,8\n0.01,128,4\n0.5,32,16\n"


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["dgx-a100", "llama2-7b", *arguments], catch_exceptions=True)


@pytest.fixture
def trace_file(tmp_path: Path) -> str:
    path = tmp_path / "three.csv"
    path.write_text(TRACE, encoding="utf-8")
    return str(path)


def test_json_and_hdf5_say_the_same(tmp_path: Path, trace_file: str) -> None:
    result = _invoke("--requests", trace_file, "--policy", "orca", "--json", "--hdf5", str(tmp_path / "r.h5"))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    jsonschema.validate(document, result_schema("serving"))
    assert document["counts"] == {
        "requests": 3, "completed": 3, "rejected": 0, "prompt_tokens": 224, "output_tokens": 28, "preemptions": 0,
        "iterations": document["counts"]["iterations"], "displaced": 0, "unserved": 0,
    }  # fmt: skip
    assert document["cost"]["usd_per_million_output_tokens"] > 0
    busy = {use["unit"]: use["busy_fraction"] for use in document["units"]}
    assert set(busy) == {"gpu", "nvlink"}
    assert sum(busy.values()) == pytest.approx(document["busy_fraction"])  # nothing overlaps on this machine
    with xarray.open_dataset(tmp_path / "r.h5", group="requests", engine="h5netcdf") as table:
        assert table.sizes == {"request": 3}
        latency = (table["completed_s"] - table["arrival_s"]).to_numpy()
        assert table["completed_s"].attrs["units"] == "s"
    assert document["latency_s"]["p50"] == np.quantile(latency, 0.5)
    with xarray.open_dataset(tmp_path / "r.h5", group="summary", engine="h5netcdf") as summary:
        assert float(summary["throughput.output_tokens_per_s"][0]) == document["throughput"]["output_tokens_per_s"]


def test_tables_for_the_terminal(trace_file: str) -> None:
    result = _invoke("--requests", trace_file, "--set", "policy.max_batch=1")
    assert result.exit_code == 0, result.output
    for text in ("llama2-7b on dgx-a100", "time to first token", "3 of 3 requests", "per million output tokens"):
        assert text in result.stdout


def test_first_token_is_no_earlier_than_the_prompt_alone(trace_file: str) -> None:
    """The oracle made for a system bounds what the simulator may promise."""
    report = serve(load_system("dgx-a100"), load_model("llama2-7b"), make_trace("one", [0.0], [512], [2]), "vllm")
    assert report.ttft_s is not None
    assert report.tpot_s is not None
    assert 0 < report.tpot_s.mean < report.ttft_s.mean


@pytest.mark.parametrize("option", ["policy.max_batch", "policy.=3", "policy.max_bath=3"])
def test_bad_policy_options_are_usage_errors(trace_file: str, option: str) -> None:
    result = _invoke("--requests", trace_file, "--set", option)
    assert isinstance(result.exception, UsageError)
    assert "\n" not in str(result.exception)


def test_rejected_requests_are_empty_cells(tmp_path: Path) -> None:
    trace = make_trace("mixed", [0.0, 0.1], [100, 5000], [10, 10])
    report = serve(AffineOracle(0.01, max_tokens=2000), None, trace, "vllm")
    json_text(report)  # has no NaN
    write_serving_hdf5(tmp_path / "r.h5", report)
    with xarray.open_dataset(tmp_path / "r.h5", group="requests", engine="h5netcdf") as table:
        assert np.isnan(table["completed_s"].to_numpy()).tolist() == [False, True]


def test_a_timeline_holds_all_batches(tmp_path: Path, trace_file: str) -> None:
    path = tmp_path / "t.json"
    arguments = ["vidur-llama2-7b", "llama2-7b", "--requests", trace_file, "--policy", "sarathi", "--instances", "2",
                 "--slo-ttft", "1", "--perfetto", str(path), "--hdf5", str(tmp_path / "t.h5"), "--json"]  # fmt: skip
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    jsonschema.validate(report, result_schema("serving"))
    assert report["slo"]["attainment"] == 1.0
    assert [use["role"] for use in report["instances"]] == ["serve", "serve"]
    slices = [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]
    busy_s = sum(event["dur"] for event in slices) * 1e-6
    assert busy_s == pytest.approx(2 * report["busy_fraction"] * report["duration_s"])
    with xarray.open_dataset(tmp_path / "t.h5", group="batches", engine="h5netcdf") as batches:
        assert batches.sizes == {"batch": len(slices)}
