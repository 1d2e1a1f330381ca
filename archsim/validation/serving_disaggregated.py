"""Kind `serving-disaggregated`: DistServe's simulator, prefill and decode instances or vLLM-like ones.

Rows are requests; `summary.csv` of the same folder names backend, parallel degrees and model. The peer's time model is
affine in tokens, squared prompt lengths, contexts and batch; its coefficients (ms, A100-80G) are below. What it
does not model is switched off here: caches move in no time and memory does not bind. All O output tokens are made by
decodes there (none by the prompt) and its time per token divides by O: here the prompt makes one token more.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.serving.metrics import tpot_s
from archsim.serving.oracle import AffineOracle, AffineTerms
from archsim.serving.results import RequestTable
from archsim.serving.run import Deployment, serve
from archsim.validation.manifest import read_rows
from archsim.validation.registry import KINDS
from archsim.workload.traces import make_trace

Row = dict[str, str]
Terms = tuple[float, float, float]
LARGE_BATCH = 95
STAGE_MS, OVERHEAD_MS, OVERHEAD_MS_PER_TOKEN = 1.0, 2.0, 1e-4  # a pipeline stage; the runtime, at the first stage
MOST_PROMPT_TOKENS = 66_144
DECODES: dict[str, Any] = {"max_decode_tokens": 50_000, "batch_order": True}  # a constant of the peer, and its queue
UNLIMITED_TOKENS, UNLIMITED_BATCH = 2**30, 4096
# (model, tensor parallel) -> prefill (1, tokens, tokens^2), decode (1, context, batch) below and from LARGE_BATCH, ms
# simdistserve 82831f1: profiles of its own engine, prefill x 1.1; profiles of vLLM, prefill x 1.4, decode x 1.2
DISTSERVE: dict[tuple[str, int], tuple[Terms, Terms, Terms]] = {
    ("opt-13b", 1): ((18.102546, 0.101912257, 7.1222643e-6), (19.934703, 6.2693565e-4, 0.038506977),
                     (7.1661889, 5.7980004e-4, 0.15831096)),
    ("opt-13b", 2): ((14.742974, 0.068577208, 2.4495727e-6), (13.294796, 3.410922e-4, 0.062963932),
                     (10.638742, 3.118337e-4, 0.085629136)),
    ("opt-13b", 4): ((12.062297, 0.0380814, 5.226250e-7), (10.256232, 1.8786702e-4, 0.032692736),
                     (10.483515, 1.7120889e-4, 0.045666485)),
    ("opt-66b", 2): ((43.058813, 0.2742293, 2.2478043e-5), (48.288015, 9.4243435e-4, 0.1275502),
                     (28.727694, 4.7448475e-4, 0.29617792)),
    ("opt-66b", 3): ((32.998229, 0.19568257, 1.2205249e-5), (35.801544, 5.8450048e-4, 0.095266976),
                     (22.653862, 5.3584892e-4, 0.20851444)),
    ("opt-66b", 4): ((29.441636, 0.15135218, 8.3174508e-6), (30.760285, 4.519476e-4, 0.063284196),
                     (27.470821, 4.0468455e-4, 0.12480668)),
    ("opt-66b", 8): ((25.490662, 0.10659178, 3.3910502e-6), (23.155111, 2.2691488e-4, 0.048006384),
                     (21.717728, 3.7580897e-4, 0.089786142)),
}  # fmt: skip
VLLM: dict[tuple[str, int], tuple[Terms, Terms, Terms]] = {
    ("opt-13b", 1): ((22.052205, 0.140509239, 8.0765848e-6), (23.475041, 5.9293447e-4, 0.060726861),
                     (20.206358, 4.9077270e-4, 0.12000314)),
    ("opt-13b", 2): ((27.440806, 0.090545327, 8.4520543e-6), (24.540584, 2.2440145e-4, 0.087157873),
                     (17.947867, 4.5708515e-4, 0.11179071)),
}  # fmt: skip


@KINDS.register("serving-disaggregated")
class ServingDisaggregated:
    """Time to first token and per output token of every request."""

    truth = ("first_token_latency_ms", "tpot_ms")
    sample_by = ("results",)
    describe = ("req_id", "prefill_lens", "output_lens")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions of one run, all requests together."""
        path = folder / dataset["results"]
        summary = _summaries(path.parent).get(path.stem)
        profile = None if summary is None else _profile(summary)
        if summary is None or profile is None:
            return {}, ["no row in summary.csv" if summary is None else "no time model of this setup"] * len(rows)
        order = np.argsort([float(row["arrival_ms"]) for row in rows], kind="stable")
        table = simulate([rows[index] for index in order], summary)
        ttft, tpot = np.zeros(len(rows)), np.zeros(len(rows))
        ttft[order] = (table.first_token_s - table.arrival_s) * 1e3
        tpot[order] = tpot_s(table) * 1e3
        return {"first_token_latency_ms": ttft.tolist(), "tpot_ms": tpot.tolist()}, [None] * len(rows)


def simulate(rows: list[Row], summary: Row) -> RequestTable:
    """Run the requests of `rows`, in order of arrival, as `summary` says."""

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(row[name]) for row in rows])

    outputs = column("output_lens").astype(np.int64) + 1
    trace = make_trace("reference", column("arrival_ms") / 1e3, column("prefill_lens").astype(np.int64), outputs)
    profile = _profile(summary)
    assert profile is not None
    limits: dict[str, Any] = {"max_batch": UNLIMITED_BATCH, "max_batch_tokens": MOST_PROMPT_TOKENS, **DECODES}
    if summary["backend"] == "vllm":
        report = serve(profile[0], None, trace, "vllm", padded=False, **limits)
    else:
        where = Deployment(instances=2, decode_system=profile[1])
        report = serve(profile[0], None, trace, "distserve", deployment=where, waiting_share=1.0, **limits)
    assert report.requests is not None
    return report.requests


def _profile(summary: Row) -> tuple[AffineOracle, AffineOracle] | None:
    """Oracles of the prefill and the decode instance; None for a setup the coefficients above do not cover."""
    if (summary["pp_prefill"], summary["pp_decode"]) not in (("1", "0"), ("1", "1")):
        return None
    model, prefill_tp = summary["model"], int(summary["tp_prefill"])
    table = VLLM if summary["backend"] == "vllm" else DISTSERVE
    prefill = table.get((model, prefill_tp))
    decode = table.get((model, int(summary["tp_decode"]) or prefill_tp))
    return None if prefill is None or decode is None else (oracle(prefill), oracle(decode))


def oracle(coefficients: tuple[Terms, Terms, Terms]) -> AffineOracle:
    """The peer's time model in our terms, seconds; prompts are paired with themselves, hence the factor 2."""
    (base, token, square), small, large = coefficients
    prompts = AffineTerms(
        (base + STAGE_MS + OVERHEAD_MS) / 1e3, 0.0, (token + OVERHEAD_MS_PER_TOKEN) / 1e3, 2 * square / 1e3
    )
    # the overhead counts a context before the step, the model after it
    decodes = tuple(
        AffineTerms(
            (base + OVERHEAD_MS) / 1e3, (batch - OVERHEAD_MS_PER_TOKEN) / 1e3, 0.0, 0.0,
            (context + OVERHEAD_MS_PER_TOKEN) / 1e3, from_decodes,
        )
        for (base, context, batch), from_decodes in ((small, 0), (large, LARGE_BATCH))
    )  # fmt: skip
    return AffineOracle(prompts.base_s, prompts=(prompts,), decodes=decodes, max_tokens=UNLIMITED_TOKENS)


@cache
def _summaries(folder: Path) -> dict[str, Row]:
    path = folder / "summary.csv"
    if not path.is_file():
        return {}
    _, rows = read_rows(path)
    return {
        f"{row['backend']}_tpP{row['tp_prefill']}_tpD{row['tp_decode']}_r{row['rate_per_gpu_req_per_s']}": row
        for row in rows
    }
