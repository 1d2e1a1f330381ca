"""Kind `serving-schedule`: every time of every request under Vidur's policies, on Vidur's event loop.

Columns and the affine iteration time: README beside the reference data. The policy and its settings stand in the
`summary.csv` of the same folder, one row a run. Quirks of the peer are options of our policies, switched on here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from archsim.serving.oracle import AffineOracle
from archsim.serving.results import RequestTable
from archsim.serving.run import serve
from archsim.validation.manifest import read_rows
from archsim.validation.registry import KINDS
from archsim.workload.traces import Trace, make_trace

Row = dict[str, str]
# ms: 8.0 + prompts (0.012 + 0.055 n + 2e-6 n (p + n/2)) + decodes (0.012 + 3.2e-4 c)
ITERATION = (8e-3, 1.2e-5, 5.5e-5, 2e-9, 3.2e-7)
BLOCK_TOKENS, BLOCKS, BATCH_CAP = 16, 7424, 128
RESERVED = {"max_length": 4096, "max_batch": 29}
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "orca": ("orca", RESERVED),
    "faster_transformer": ("fcfs-static", RESERVED),
    "vllm": ("vllm", {}),
    "lightllm": ("lightllm", {}),
    "sarathi": ("sarathi", {"skip_decodes": True, "truncate_restarts": True, "batch_order": True}),
}


@KINDS.register("serving-schedule")
class ServingSchedule:
    """First schedule, first token, completion and restarts of every request."""

    truth = ("first_scheduled_s", "prefill_done_s", "completed_s", "restarts")
    sample_by = ("results",)
    describe = ("request_id", "arrival_s")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions of one run, all requests together."""
        path = folder / dataset["results"]
        summary = run_summary(path.parent, path.stem)
        if summary is None or summary["scheduler"] not in POLICIES:
            reason = "no row in summary.csv" if summary is None else f"no policy {summary['scheduler']!r}"
            return {}, [reason] * len(rows)
        table = schedule(rows, summary)
        columns: dict[str, list[Any]] = {
            "first_scheduled_s": table.first_scheduled_s.tolist(), "prefill_done_s": table.first_token_s.tolist(),
            "completed_s": table.completed_s.tolist(), "restarts": table.preemptions.tolist(),
        }  # fmt: skip
        return columns, [None] * len(rows)


def schedule(rows: list[Row], summary: Row) -> RequestTable:
    """Run the requests of `rows` as `summary` says."""
    policy, options = POLICIES[summary["scheduler"]]
    options = {"max_batch": int(summary["batch_cap"] or BATCH_CAP), **options}
    if summary["scheduler"] == "sarathi":
        options["chunk_tokens"] = int(summary["chunk_tokens"] or 512)
    blocks = int(summary["num_blocks"] or BLOCKS)
    report = serve(AffineOracle(*ITERATION, blocks * BLOCK_TOKENS), None, trace_of(rows), policy, **options)
    assert report.requests is not None
    return report.requests


def trace_of(rows: list[Row], tenant: str | None = None) -> Trace:
    """The requests of a results file, with the tenants in the column of that name."""

    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([float(row[name]) for row in rows])

    tenants = [row[tenant] for row in rows] if tenant else None
    prompt, output = (column(name).astype(np.int64) for name in ("prompt_tokens", "output_tokens"))
    return make_trace("reference", column("arrival_s"), prompt, output, tenants)


def run_summary(folder: Path, run: str) -> Row | None:
    """The row of `summary.csv` that describes a run."""
    return _summaries(folder).get(run)


@cache
def _summaries(folder: Path) -> dict[str, Row]:
    path = folder / "summary.csv"
    if not path.is_file():
        return {}
    _, rows = read_rows(path)
    return {row.get("run") or f"{row['case']}_{row['scheduler']}": row for row in rows}
