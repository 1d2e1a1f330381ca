#!/usr/bin/env python3
"""GEMMs per second of the NPU models, warm, and their ratio to the peers' CPU seconds on the same products.

Usage: bench_npu.py [REFERENCE_DIR]  (default: ../shared/reference, with systolic/ and neupims/)

`together` is one call for all rows, `alone` a call for each; `slowest row` is the lowest ratio of a single row.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path

from archsim.validation.npu_gemm import predict_row
from archsim.validation.systolic_gemm import simulate_rows

Rows = list[dict[str, str]]
REPEATS = 5


def read(path: Path) -> Rows:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cpu_s(run: Callable[[], object]) -> float:
    """Least process time of several runs, each long enough for the clock."""
    best = float("inf")
    for _ in range(REPEATS):
        count, spent = 0, 0.0
        begin = time.process_time()
        while spent < 0.02:
            run()
            count += 1
            spent = time.process_time() - begin
        best = min(best, spent / count)
    return best


def report(label: str, rows: Rows, peer: str, simulate: Callable[[Rows], object], *, together: bool) -> None:
    """One line: GEMMs a second and ratios to the column `peer`."""
    simulate(rows)
    peer_s = [float(row[peer]) for row in rows]
    alone_s = [cpu_s(lambda row=row: simulate([row])) for row in rows]
    all_s = cpu_s(lambda: simulate(rows)) if together else sum(alone_s)
    slowest = min(theirs / ours for theirs, ours in zip(peer_s, alone_s, strict=True))
    print(
        f"{label:28} {len(rows):5d} {len(rows) / all_s:12,.0f} {sum(peer_s) / all_s:12,.0f}x "
        f"{len(rows) / sum(alone_s):12,.0f} {sum(peer_s) / sum(alone_s):12,.0f}x {slowest:12,.0f}x"
    )


def main() -> None:
    """Print a line for each mode and peer."""
    default = Path(__file__).resolve().parents[2] / "shared" / "reference"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    rows = [row for row in read(folder / "systolic" / "scalesim_v2_dev.csv") if row["status"] == "ok"]
    print(f"{'':28} {'rows':>5} {'GEMM/s':>12} {'peer/ours':>13} {'GEMM/s':>12} {'peer/ours':>13} {'peer/ours':>13}")
    print(f"{'':28} {'':>5} {'together':>12} {'together':>13} {'alone':>12} {'alone':>13} {'slowest row':>13}")
    for mode in ("CALC", "USER"):
        chosen = [row for row in rows if row["bw_mode"] == mode]
        report(f"SCALE-Sim v2 {mode}", chosen, "cpu_s", simulate_rows, together=True)
    large = read(folder / "systolic" / "scalesim_v2_walltime.csv")
    sizes = {f"{of}_sram_kB": large[0]["sram_kB_each"] for of in ("ifmap", "filter", "ofmap")}
    report("SCALE-Sim v2 LLM layers", [row | sizes for row in large], "cpu_s", simulate_rows, together=True)
    gemms = read(folder / "neupims" / "onnxim_gemm.csv")
    report("ONNXim", gemms, "host_cpu_s", lambda some: [predict_row(row) for row in some], together=False)


if __name__ == "__main__":
    main()
