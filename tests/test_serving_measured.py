"""Streams that vLLM 0.19 served on real GPUs, from operator timings of the same GPUs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from archsim.validation.serving_measured import ServingMeasured

DATA = Path(__file__).parent / "data" / "serving" / "vllm_measured"


@pytest.mark.parametrize("measured", [False, True], ids=["machine", "operators"])
@pytest.mark.parametrize("gpu", ["RTX4090", "RTXPRO6000"])
def test_means_of_measured_runs(gpu: str, measured: bool) -> None:
    name = f"{gpu}_Llama-3.1-8B_summary.csv"
    rows = list(csv.DictReader((DATA / name).open(encoding="utf-8")))
    oracles = {"oracles": {gpu: f"{gpu}_oracle.yaml"}} if measured else {}
    found, reasons = ServingMeasured().predict(rows, DATA, {"results": name} | oracles)
    assert set(reasons) == {None}
    errors = {(row["metric"], row["stat"]): ours / float(row["vllm_ms"]) - 1
              for row, ours in zip(rows, found["vllm_ms"], strict=True) if ours is not None}  # fmt: skip
    assert abs(errors["TPOT", "Mean"]) < 0.10
    assert abs(errors["TTFT", "Mean"]) < 0.25


def test_rows_that_cannot_be_served_say_why() -> None:
    row = {"hardware": "RTX4090", "model": "Llama-3.1-8B", "metric": "TTFT", "stat": "Mean"}
    rows = [row | {"hardware": "TPU"}, row | {"stat": "P1"}, row]
    _, reasons = ServingMeasured().predict(rows, DATA, {"results": "absent_summary.csv"})
    _, without = ServingMeasured().predict(
        rows[2:], DATA, {"results": "RTX4090_Llama-3.1-8B_summary.csv", "oracles": {}}
    )
    assert without == ["the dataset has no oracle for 'RTX4090'"]
    assert reasons == [
        "how 'Llama-3.1-8B' was served on 'TPU' is not known",
        "unknown stat 'P1'",
        "no absent_requests.csv beside it",
    ]
