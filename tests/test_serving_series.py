"""Time series, tables and definitions of a serving run: what the bins say adds up to what the run did."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from archsim.cli.serve import serve as command
from archsim.errors import UsageError
from archsim.serving import AffineOracle, Deployment, ServingReport, serve
from archsim.workload.traces import Trace, make_trace
from tests import serving_twins

assert serving_twins  # registers the twins
ORACLE = AffineOracle(5e-3, 1e-5, 4e-5, 1e-9, 3e-7, 4000, base_j=3.0, per_context_token_j=1e-3)


def _trace(count: int = 80) -> Trace:
    rng = np.random.default_rng(8)
    arrival = 3.0 + np.cumsum(rng.exponential(0.02, count))
    tenants = ["a" if x < 0.7 else "b" for x in rng.random(count)]
    return make_trace("t", arrival, rng.integers(1, 500, count), rng.integers(1, 200, count), tenants)


def _serve(policy: str, bin_s: float | None = 0.07, where: Deployment | None = None) -> ServingReport:
    return serve(ORACLE, None, _trace(), policy, deployment=where, timeline=True, bin_s=bin_s)


@pytest.mark.parametrize("policy", ["vllm", "sarathi", "orca", "vtc", "distserve", "twin-vllm"])
def test_bins_add_up_to_the_run(policy: str) -> None:
    report = _serve(policy, where=Deployment(instances=2) if policy == "distserve" else None)
    series, table = report.series, report.requests
    assert series is not None
    assert table is not None
    assert report.energy is not None
    total = {name: float(values.sum() * series.bin_s) for name, values in series.columns().items()}
    # Little's law: requests in the system, integrated, are the sum of what each one spent there
    assert total["in_system"] == pytest.approx((table.completed_s - table.arrival_s).sum())
    assert total["queued"] == pytest.approx((table.first_scheduled_s - table.arrival_s).sum())
    assert total["output_tokens_per_s"] == pytest.approx(report.counts.output_tokens)
    assert total["prompt_tokens_per_s"] >= report.counts.prompt_tokens - 1e-6
    assert total["power_w"] == pytest.approx(report.energy.joules)
    assert total["busy_fraction"] == pytest.approx(report.busy_fraction * report.duration_s)
    assert (series.kv_fraction <= 1.0 + 1e-9).all()
    assert (series.queued + series.running <= series.in_system + 1e-6).all()
    assert series.start_s[0] == table.arrival_s[0]


def test_a_policy_in_python_gives_the_same_series_and_timeline() -> None:
    ours, twin = _serve("vllm"), _serve("twin-vllm")
    assert ours.series is not None
    assert twin.series is not None
    for name, values in ours.series.columns().items():
        np.testing.assert_allclose(values, twin.series.columns()[name], rtol=2e-2, atol=2e-2, err_msg=name)
    assert ours.timeline is not None
    assert twin.timeline is not None
    assert ours.timeline["tokens"].sum() == twin.timeline["tokens"].sum() == ours.counts.output_tokens
    assert ours.timeline["steps"].sum() == len(twin.timeline)


def test_one_request_bin_by_bin() -> None:
    """100 ms of prompt, then 4 decodes of 100 ms; 2 J an iteration."""
    trace = make_trace("one", [0.0], [32], [5])
    report = serve(AffineOracle(0.1, base_j=2.0, max_tokens=64), None, trace, "vllm", bin_s=0.1, watermark=0.0)
    series = report.series
    assert series is not None
    np.testing.assert_allclose(series.running, np.ones(5))
    np.testing.assert_allclose(series.prompt_tokens_per_s, [320, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(series.output_tokens_per_s, np.full(5, 10.0))
    np.testing.assert_allclose(series.power_w, np.full(5, 20.0))
    assert report.to_dict()["series"]["bin_s"] == 0.1


def test_bins_are_even_unless_asked_and_never_too_many() -> None:
    report = _serve("vllm", bin_s=None)
    assert report.series is not None
    assert report.series.bin_s in (0.01, 0.02, 0.05, 0.1)
    assert 60 <= len(report.series.start_s) <= 201
    assert "series" not in report.to_dict()
    with pytest.raises(UsageError, match="take longer ones"):
        _serve("vllm", bin_s=1e-9)


def test_tpot_over_all_tokens_is_named() -> None:
    trace = make_trace("one", [0.0], [32], [5])
    further = serve(AffineOracle(0.1), None, trace, "vllm")
    over_all = serve(AffineOracle(0.1), None, trace, "vllm", tpot_over="all")
    assert further.tpot_s is not None
    assert over_all.tpot_s is not None
    assert (further.tpot_s.mean, over_all.tpot_s.mean) == (pytest.approx(0.1), pytest.approx(0.08))


def test_files_of_a_run(tmp_path: Path) -> None:
    trace = tmp_path / "two.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens,tenant_id\n0,64,8,x\n0.1,200000,4,y\n0.2,64,8,y\n", "utf-8")
    requests, series, h5 = tmp_path / "r.csv", tmp_path / "s.csv", tmp_path / "r.h5"
    arguments = ["vidur-llama2-7b", "llama2-7b", "--requests", str(trace), "--csv", str(requests),
                 "--series-csv", str(series), "--hdf5", str(h5), "--tpot-over", "all"]  # fmt: skip
    result = CliRunner(env={"COLUMNS": "140"}).invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for text in ("1 rejected", "Jain index", "x 5", "over all tokens", "time between tokens", "scheduling delay"):
        assert text in result.stdout
    with requests.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["completed_s"] == "" for row in rows] == [False, True, False]
    assert float(rows[0]["ttft_s"]) == float(rows[0]["first_token_s"])
    with series.open(encoding="utf-8") as file:
        bins = list(csv.DictReader(file))
    with xarray.open_dataset(h5, group="series", engine="h5netcdf") as stored:
        assert stored["power_w"].attrs["units"] == "W"
        assert stored["running"].to_numpy().tolist() == [float(row["running"]) for row in bins]
