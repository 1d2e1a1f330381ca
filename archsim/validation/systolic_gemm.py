"""Kind `systolic-gemm`: one product on one systolic array, counted as SCALE-Sim v2 counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsim.compute.scalesim import DATAFLOWS, ScaleSimReport, simulate_gemms
from archsim.errors import InputError
from archsim.validation.registry import KINDS

Row = dict[str, str]
FLOWS = dict(zip(("os", "ws", "is"), DATAFLOWS, strict=True))
COUNTS = (
    "total_cycles", "stall_cycles", "ifmap_sram_reads_words", "filter_sram_reads_words", "ofmap_sram_writes_words",
    "ifmap_dram_reads_words", "filter_dram_reads_words", "ofmap_dram_writes_words",
)  # fmt: skip
SHARES = {
    "overall_util_pct": "overall_utilisation",
    "mapping_eff_pct": "mapping_efficiency",
    "compute_util_pct": "compute_utilisation",
}
SRAM_RATES = {
    "ifmap_sram_bw_words_per_cycle": "ifmap_sram_reads_words",
    "filter_sram_bw_words_per_cycle": "filter_sram_reads_words",
    "ofmap_sram_bw_words_per_cycle": "ofmap_sram_writes_words",
}
_WORDS_PER_KB = 1024  # a word is a byte in the peer
_SHARE_DIGITS = 10


def simulate_rows(rows: list[Row]) -> ScaleSimReport:
    """The reports of rows as the reference folder's README documents them. Raises InputError for a strange one."""
    for row in rows:
        if row["dataflow"] not in FLOWS or row["bw_mode"] not in ("CALC", "USER"):
            found = f"dataflow {row['dataflow']!r} with bw_mode {row['bw_mode']!r}"
            raise InputError(f"found {found}, expected os, ws or is with CALC or USER")

    def column(name: str) -> list[int]:
        return [int(row[name]) for row in rows]

    sizes = {
        f"{of}_sram_words": [_WORDS_PER_KB * size for size in column(f"{of}_sram_kB")]
        for of in ("ifmap", "filter", "ofmap")
    }
    return simulate_gemms(
        column("M"), column("N"), column("K"), rows=column("array_rows"), columns=column("array_cols"),
        dataflow=[FLOWS[row["dataflow"]] for row in rows], **sizes,
        bandwidth_words_per_cycle=[
            int(row["user_bw_words_per_cycle"]) if row["bw_mode"] == "USER" else 0 for row in rows
        ],
    )  # fmt: skip


@KINDS.register("systolic-gemm")
class SystolicGemm:
    """Cycles, stalls, utilisation and words of every completed row, with (USER) and without (CALC) a bandwidth."""

    kind = "systolic-gemm"
    group_by = ("bw_mode", "dataflow")
    describe = ("point", "dataflow", "array_rows", "array_cols", "M", "N", "K", "bw_mode")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column; DRAM words only of USER rows."""
        reasons = [None if row.get("status", "ok") == "ok" else f"status {row['status']}" for row in rows]
        kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
        report = simulate_rows(kept)
        columns = {}
        for name in dataset["truth"]:
            values = iter(_column(report, name, kept))
            columns[name] = [None if reason else next(values) for reason in reasons]
        return columns, reasons


def _column(report: ScaleSimReport, name: str, rows: list[Row]) -> list[Any]:
    if name in SHARES:
        # Written like the reference, or 28.799999999999997 would differ from 28.8.
        return [float(f"{share * 100.0:.{_SHARE_DIGITS}g}") for share in getattr(report, SHARES[name]).tolist()]
    if name in SRAM_RATES:
        words = getattr(report, SRAM_RATES[name])
        return [float(count) / int(last) for count, last in zip(words, report.total_cycles, strict=True)]
    if name not in COUNTS:
        return [None] * len(rows)
    counts: list[Any] = getattr(report, name).tolist()
    if "dram" in name:
        return [None if row["bw_mode"] == "CALC" else count for row, count in zip(rows, counts, strict=True)]
    return counts
