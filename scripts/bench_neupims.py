#!/usr/bin/env python3
"""Seconds per simulated NeuPIMs layer, warm, beside the CPU seconds of the public simulator.

Usage: bench_neupims.py [REFERENCE_DIR]  (default: ../shared/reference/neupims, with run_time.csv and traces.csv)
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

from archsim.validation.neupims_attention import peer_device, read_traces
from archsim.validation.neupims_layer import simulate_run


def main() -> None:
    """Print one line per whole-layer run."""
    default = Path(__file__).resolve().parents[2] / "shared" / "reference" / "neupims"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    traces, device = read_traces(folder, {}), peer_device()
    with (folder / "stage_cycles.csv").open(newline="", encoding="utf-8") as file:
        stages = list(csv.DictReader(file))
    with (folder / "run_time.csv").open(newline="", encoding="utf-8") as file:
        runs = list(csv.DictReader(file))
    warm = [row for row in stages if row["run"] == runs[-1]["run"]]
    simulate_run(device, warm, traces)
    print(f"{'run':32} {'cycles':>9} {'seconds':>8} {'peer CPU s':>10} {'ratio':>6}")
    for run in runs:
        rows = [row for row in stages if row["run"] == run["run"] and row["variant"] == run["variant"]]
        begin = time.process_time()
        found = simulate_run(device, rows, traces)
        seconds = time.process_time() - begin
        peer = float(run["host_cpu_s"])
        print(f"{run['run']:32} {found.cycles:9d} {seconds:8.2f} {peer:10.2f} {peer / seconds:6.1f}")


if __name__ == "__main__":
    main()
