"""Kind `serving-measured`: latencies of a real vLLM server over a request stream, from operators of its GPU.

The rows are those of `GPU_MODEL_summary.csv`, a statistic of TTFT, TPOT or latency each; the requests stand in
`GPU_MODEL_requests.csv` beside it. They are served under `vllm-v1` on a machine whose kernels are fitted to operator
timings of that GPU alone, or, where the dataset has `oracles` (GPU -> file of kind oracle), on that; nothing of the
served run enters. The error of LLMServingSim 2.0, which the source states in the same table, names the group of a row.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.config import load, load_model, load_system
from archsim.serving.described_oracle import oracle_of
from archsim.serving.oracle import LatencyOracle
from archsim.serving.run import serve
from archsim.serving.system_oracle import SystemOracle
from archsim.validation.registry import KINDS
from archsim.workload.traces import make_trace

Row = dict[str, str]
BATCH_TOKENS, BLOCK_TOKENS = 2048, 16
STATISTICS = {"Mean": None, "Median": 50, "P90": 90, "P95": 95, "P99": 99}


@dataclass(frozen=True)
class Server:
    """How a model was served; blocks: of the KV cache as the server stated them, None: what fits."""

    system: str
    model: str
    max_batch: int
    blocks: int | None = None


# vLLM 0.19 under LLMServingSim 2.0: GPUs (its validation page), max_num_seqs, and the KV blocks where they bind.
SERVERS = {
    ("RTXPRO6000", "Llama-3.1-8B"): Server("rtx-pro-6000-1", "llama3-8b", 128),
    ("RTXPRO6000", "Qwen3-32B"): Server("rtx-pro-6000-2", "qwen3-32b", 128),
    ("RTX4090", "Llama-3.1-8B"): Server("rtx4090-1", "llama3-8b", 256, 2588),
}


class _Machine(SystemOracle):
    """A machine with the stated number of KV blocks."""

    blocks: int | None = None

    @property
    def max_tokens(self) -> int:
        return super().max_tokens if self.blocks is None else self.blocks * BLOCK_TOKENS


@cache
def served_ms(requests: Path, hardware: str, model: str, oracle: Path | None = None) -> dict[str, NDArray[np.float64]]:
    """TTFT, TPOT (over the tokens after the first) and latency of each request, milliseconds, in order of arrival."""
    server = SERVERS[hardware, model]
    with requests.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    arrival = np.array([float(row["arrival_s"]) for row in rows])
    prompt, output = (np.array([int(row[f"{name}_tokens"]) for row in rows]) for name in ("prompt", "output"))
    machine = _machine(server) if oracle is None else oracle_of(load("oracle", str(oracle)), oracle.parent)
    report = serve(
        machine, None, make_trace(requests.stem, arrival, prompt, output), "vllm-v1",
        max_batch=server.max_batch, max_batch_tokens=BATCH_TOKENS, block_tokens=BLOCK_TOKENS,
    )  # fmt: skip
    table = report.requests
    assert table is not None
    return {
        "TTFT": (table.first_token_s - arrival) * 1e3,
        "TPOT": (table.completed_s - table.first_token_s) / np.maximum(output - 1, 1) * 1e3,
        "Latency": (table.completed_s - arrival) * 1e3,
    }


def _machine(server: Server) -> LatencyOracle:
    machine = _Machine(load_system(server.system), load_model(server.model))
    machine.blocks = server.blocks
    return machine


@KINDS.register("serving-measured")
class ServingMeasured:
    """Statistics of a served stream."""

    truth = ("vllm_ms",)
    describe = ("hardware", "model", "metric", "stat")

    @staticmethod
    def group_of(row: Row) -> dict[str, str]:
        """Mean TTFT and TPOT by themselves, each with the other simulator's error."""
        of = {"hardware": row["hardware"], "oracle": row["oracle"], "metric": row["metric"]}
        if row["stat"] != "Mean":
            return of | {"stat": "percentiles"}
        return of | {"stat": "Mean", "LLMServingSim": row["diff_pct"]}

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[float | None]], list[str | None]]:
        """Predictions and, per row, the reason why there is none."""
        path = folder / dataset["results"]
        requests = path.with_name(path.name.replace("_summary", "_requests"))
        oracles = dataset.get("oracles", {})
        reasons = [_unsupported(row, requests) or _no_oracle(row, dataset) for row in rows]
        found: list[float | None] = []
        for row, reason in zip(rows, reasons, strict=True):
            server = SERVERS.get((row["hardware"], row["model"]))
            of = folder / oracles[row["hardware"]] if row["hardware"] in oracles else None
            row["oracle"] = of.stem if of else server.system if server else ""
            if reason:
                found.append(None)
            else:
                times = served_ms(requests, row["hardware"], row["model"], of)
                found.append(_statistic(times[row["metric"]], row))
        return {"vllm_ms": found}, reasons


def _statistic(values: NDArray[np.float64], row: Row) -> float:
    rank = STATISTICS[row["stat"]]
    return float(values.mean() if rank is None else np.percentile(values, rank))


def _no_oracle(row: Row, dataset: dict[str, Any]) -> str | None:
    if "oracles" not in dataset or row["hardware"] in dataset["oracles"]:
        return None
    return f"the dataset has no oracle for {row['hardware']!r}"


def _unsupported(row: Row, requests: Path) -> str | None:
    if (row["hardware"], row["model"]) not in SERVERS:
        return f"how {row['model']!r} was served on {row['hardware']!r} is not known"
    if row["stat"] not in STATISTICS:
        return f"unknown stat {row['stat']!r}"
    if row["metric"] not in ("TTFT", "TPOT", "Latency"):
        return f"unknown metric {row['metric']!r}"
    return None if requests.is_file() else f"no {requests.name} beside it"
