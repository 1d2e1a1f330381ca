"""Kind `serving-pools`: splitwise-sim, on pools of DGX machines with measured iteration times.

The peer interpolates medians of measured times over the tokens of an iteration, contexts aside; a mixed iteration takes
1.1 times as long as its tokens would as prompts. Times of the machines in MEASURED are medians of all samples, as the
peer takes them; of others they come from `measured_dgx_median.csv` beside the results. File names say how a run was
made: trace_rRATE_start_scheduler_a{A100}h{H100}. A slow token pool under overload is chaotic: 0.1 % in an iteration
time moves percentiles by several percent, so the medians have all the digits of the samples that matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.serving.oracle import LatencyOracle
from archsim.serving.run import Deployment, serve
from archsim.validation.manifest import read_rows
from archsim.validation.registry import KINDS
from archsim.validation.serving_schedule import Row
from archsim.workload.traces import make_trace

NAME = re.compile(r"(?P<trace>\w+?_r[\d.]+)_(?P<start>[a-z]+)_(?P<scheduler>\w+)_a(?P<a100>\d+)h(?P<h100>\d+)$")
MODEL, TENSOR_PARALLEL = "bloom-176b", 8
KV_BYTES_PER_TOKEN = 2 * 70 * 14336 * 2
WEIGHT_BYTES, MEMORY_BYTES = 329e9, 8 * 80 * 2**30
TRANSFER_BYTES_PER_S = 200 * 2**30
MIXED = 1.1
TOKENS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
# medians over all samples of as many tokens in splitwise-sim's data/perf_model.csv (8f99e7d, MIT; BLOOM-176B on eight
# GPUs, 5 to 45 samples a point), ms: prompt and token time by tokens of the iteration
MEASURED: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "a100-80gb": (
        (
            79.668437131,
            99.163994193,
            174.382301047,
            287.467345595,
            536.055457313,
            1332.643015077,
            3591.468118597,
            5782.002554042,
            11251.827955013,
        ),
        (
            47.612100488,
            47.706697895,
            49.312983617,
            49.442481044,
            50.188204091,
            51.631326583,
            54.273851959,
            65.380468319,
            96.582974533,
        ),
    ),
    "h100-80gb": (
        (
            48.284439021,
            51.179482951,
            76.141803991,
            132.216997008,
            251.964009483,
            649.598277028,
            1411.574580998,
            2521.909306,
            4996.45071401,
        ),
        (
            35.739242111,
            36.154480404,
            36.166175007,
            36.333880492,
            36.738943138,
            37.52989887,
            39.016441875,
            45.841567143,
            63.821342159,
        ),
    ),
}


@dataclass(frozen=True)
class TokenTimes:
    """Iteration time by the tokens in it: lines through measured points, the outer ones continued."""

    name: str
    tokens: tuple[float, ...]
    prompt_s: tuple[float, ...]
    token_s: tuple[float, ...]
    kv_bytes_per_token: float = KV_BYTES_PER_TOKEN
    kv_capacity_bytes: float = MEMORY_BYTES - WEIGHT_BYTES
    usd_per_hour: float | None = None

    @property
    def max_tokens(self) -> int:
        """Tokens that fit beside the weights."""
        return int(self.kv_capacity_bytes // self.kv_bytes_per_token)

    def iteration_s(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Seconds; contexts do not matter."""
        tokens = sum(new for new, _ in prefill_tokens) + len(decode_contexts)
        if not prefill_tokens:
            return _continued(self.tokens, self.token_s, tokens)
        return _continued(self.tokens, self.prompt_s, tokens) * (MIXED if decode_contexts else 1.0)


def _continued(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    at = int(np.clip(np.searchsorted(xs, x) - 1, 0, len(xs) - 2))
    return ys[at] + (x - xs[at]) * (ys[at + 1] - ys[at]) / (xs[at + 1] - xs[at])


@KINDS.register("serving-pools")
class ServingPools:
    """Time to first token, mean time between tokens and response time of every request."""

    truth = ("ttft_s", "tbt_mean_s", "response_s")
    sample_by = ("results",)
    describe = ("request_id", "arrival_s", "prompt_tokens", "output_tokens")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions of one run, all requests together."""
        path = folder / dataset["results"]
        found = NAME.fullmatch(path.stem)
        times = _times(path.parent)
        if found is None or (int(found["a100"]) and "a100-80gb" not in times):
            return {}, ["the file name does not say how it was run"] * len(rows)
        if found["start"] != "splitwise" and int(found["a100"]) and int(found["h100"]):
            return {}, ["two kinds of machines without pools"] * len(rows)
        arrival = np.array([float(row["arrival_s"]) for row in rows])
        order = np.argsort(arrival, kind="stable")
        columns = simulate([rows[index] for index in order], found.groupdict(), times)
        placed = {name: np.empty(len(rows)) for name in columns}
        for name, values in columns.items():
            placed[name][order] = values
        return {name: values.tolist() for name, values in placed.items()}, [None] * len(rows)


def simulate(rows: list[Row], run: dict[str, str], times: dict[str, TokenTimes]) -> dict[str, NDArray[np.float64]]:
    """Run the requests of `rows`, in order of arrival."""

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(row[name]) for row in rows])

    output = column("output_tokens").astype(np.int64)
    trace = make_trace("reference", column("arrival_s"), column("prompt_tokens").astype(np.int64), output)
    # prompts run on the faster machines
    machines: list[LatencyOracle] = [times["h100-80gb"]] * int(run["h100"])
    machines += [times["a100-80gb"]] * int(run["a100"])
    pools = run["start"] == "splitwise"
    options: dict[str, Any] = {
        "prompt_instances": len(machines) // 2 if pools else 0,
        "router": "round-robin" if run["scheduler"] == "round_robin" else "jsq-tokens",
        "transfer_s_per_token": KV_BYTES_PER_TOKEN / TRANSFER_BYTES_PER_S,
    }
    where = Deployment(instances=len(machines), decode_system=machines[-1] if pools else None)
    table = serve(machines[0], None, trace, "splitwise", deployment=where, **options).requests
    assert table is not None
    response = table.completed_s - table.arrival_s
    ttft = table.first_token_s - table.arrival_s
    return {"ttft_s": ttft, "tbt_mean_s": (response - ttft) / output, "response_s": response}


@cache
def _times(folder: Path) -> dict[str, TokenTimes]:
    found = {name: _make(name, TOKENS, *columns) for name, columns in MEASURED.items()}
    path = folder / "measured_dgx_median.csv"
    if path.is_file():
        _, rows = read_rows(path)
        mine = [r for r in rows if r["model"] == MODEL and int(r["tensor_parallel"]) == TENSOR_PARALLEL]
        for hardware in {row["hardware"] for row in mine} - set(MEASURED):
            found[hardware] = _medians(hardware, [row for row in mine if row["hardware"] == hardware])
    return found


def _medians(hardware: str, rows: list[Row]) -> TokenTimes:
    """Median of all samples with as many tokens, from the median of each setup taken as often as it was sampled."""
    samples: dict[int, list[Row]] = {}
    for row in rows:
        tokens = int(row["prompt_tokens"]) * int(row["batch_size"])
        samples.setdefault(tokens, []).extend([row] * int(row["samples"]))
    prompt, token = (
        [float(np.median([float(row[name]) for row in samples[count]])) for count in sorted(samples)]
        for name in ("prompt_time_ms", "token_time_ms")
    )
    return _make(hardware, sorted(samples), prompt, token)


def _make(name: str, tokens: Sequence[float], prompt_ms: Sequence[float], token_ms: Sequence[float]) -> TokenTimes:
    return TokenTimes(name, tuple(tokens), tuple(t / 1e3 for t in prompt_ms), tuple(t / 1e3 for t in token_ms))
