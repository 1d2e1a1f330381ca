"""Orca and vLLM against the schedules of Vidur (7d47513), which ran its own policies on the same affine times."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from archsim.serving import AffineOracle, serve
from archsim.workload.traces import make_trace

# ms: 8.0 + prompts (0.012 + 0.055 n + 2e-6 n (p + n/2)) + decodes (0.012 + 3.2e-4 c)
BLOCK_TOKENS, BLOCKS = 16, 7424
POLICY_OPTIONS = {"orca": {"max_length": 4096, "max_batch": 29}, "vllm": {"max_batch": 128}}
RUNS = ("orca_conv_q2", "orca_conv_q5", "vllm_conv_q4", "vllm_conv_q5", "vllm_tightmem_conv_q4", "vllm_arxiv_q3")


def _oracle(blocks: int) -> AffineOracle:
    return AffineOracle(8e-3, 1.2e-5, 5.5e-5, 2e-9, 3.2e-7, max_tokens=blocks * BLOCK_TOKENS)


@pytest.mark.parametrize("run", RUNS)
def test_every_time_and_restart_is_the_reference(reference_dir: Path, run: str) -> None:
    folder = reference_dir / "serving" / "vidur_schedulers"
    with (folder / "summary.csv").open(encoding="utf-8") as file:
        summary = next(row for row in csv.DictReader(file) if row["run"] == run)
    with (folder / f"{run}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(row[name]) for row in rows])

    trace = make_trace(
        run, column("arrival_s"), column("prompt_tokens").astype(int), column("output_tokens").astype(int)
    )
    policy = summary["scheduler"]
    report = serve(_oracle(int(summary["num_blocks"] or BLOCKS)), None, trace, policy, **POLICY_OPTIONS[policy])
    table = report.requests
    assert table is not None
    # the reference is rounded to 1e-6 s, arrivals included
    for ours, theirs in (
        (table.first_scheduled_s, "first_scheduled_s"), (table.first_token_s, "prefill_done_s"),
        (table.completed_s, "completed_s"),
    ):  # fmt: skip
        np.testing.assert_allclose(ours, column(theirs), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(table.preemptions, column("restarts"))
    assert report.counts.iterations == int(summary["iterations"])
    assert report.ttft_s is not None
    assert report.ttft_s.p50 == pytest.approx(float(summary["ttft_p50_s"]), abs=2e-6)
    assert report.ttft_s.p90 == pytest.approx(float(summary["ttft_p90_s"]), abs=2e-6)
    assert report.ttft_s.p99 == pytest.approx(float(summary["ttft_p99_s"]), abs=2e-6)
    assert report.normalised_latency_s is not None
    assert report.normalised_latency_s.p99 == pytest.approx(float(summary["normlat_p99_s_per_token"]), abs=2e-6)
    assert report.latency_s is not None
    assert report.latency_s.p50 == pytest.approx(float(summary["e2e_p50_s"]), abs=2e-6)
