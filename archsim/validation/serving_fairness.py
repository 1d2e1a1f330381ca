"""Kind `serving-fairness`: every time of every request under VTC, LCF and FCFS, from the peer's own queue classes.

Loop, times and prices: README beside the reference data; weights and limits in the `summary.csv` of the same folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsim.serving.oracle import AffineOracle, AffineTerms
from archsim.serving.run import serve
from archsim.validation.registry import KINDS
from archsim.validation.serving_schedule import Row, run_summary, trace_of

PROMPTS, DECODES = AffineTerms(8e-3, 0.0, 2e-4), AffineTerms(20e-3, 2e-4, per_context_token_s=1.2e-6)
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "vtc": ("vtc", {}),
    "lcf": ("lcf", {}),
    "fcfs": ("lightllm", {"keep_looking": True, "newcomer_decodes": False}),
}


@KINDS.register("serving-fairness")
class ServingFairness:
    """First token and completion of every request."""

    truth = ("first_token_s", "completed_s")
    sample_by = ("results",)
    describe = ("request_id", "tenant", "arrival_s")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions of one run, all requests together."""
        path = folder / dataset["results"]
        summary = run_summary(path.parent, path.stem)
        if summary is None or summary["scheduler"] not in POLICIES:
            reason = "no row in summary.csv" if summary is None else f"no policy {summary['scheduler']!r}"
            return {}, [reason] * len(rows)
        policy, options = POLICIES[summary["scheduler"]]
        trace = trace_of(rows, "tenant")
        limits: dict[str, Any] = {
            "max_batch": int(summary["max_running"]),
            "max_batch_tokens": int(summary["batch_max_tokens"]),
        }
        shares: dict[str, Any] = _weights(summary, trace.tenants) if policy != "lightllm" else {}
        oracle = AffineOracle(20e-3, prompts=(PROMPTS,), decodes=(DECODES,), max_tokens=int(summary["total_tokens"]))
        table = serve(oracle, None, trace, policy, **options, **limits, **shares).requests
        assert table is not None
        columns: dict[str, list[Any]] = {
            "first_token_s": table.first_token_s.tolist(), "completed_s": table.completed_s.tolist()
        }  # fmt: skip
        return columns, [None] * len(rows)


def _weights(summary: Row, tenants: tuple[str, ...]) -> dict[str, Any]:
    """The weight of each tenant of the trace; one number in the summary is that of all."""
    names, values = summary["tenants"].split(), summary["weights"].split()
    if len(values) == 1:
        values = values * len(names)
    known = dict(zip(names, map(float, values), strict=True))
    return {"weights": tuple(known.get(tenant, 1.0) for tenant in tenants)}
