"""Calibrate the GPU kernel model to one GPU that scripts/measure_gpu.py measured.

    python scripts/fit_own_gpu.py OUT [--record FILE.yaml]

OUT is the folder of the measurements. Only the constants of the device are fitted, those of all GPUs stay. Prints the
error of every operator class before and after. FILE.yaml becomes a calibration record; a machine uses it by
`--set "units.gpu.device.timing={use: gpu-kernels/./FILE.yaml}"`. A class with fewer than two rows a constant is left
as it is. The launch of vector operators that are not measured alone is the gap between tiny kernels in a graph.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from archsim.config.schemas.gpu_library import GpuKernels
from archsim.config.schemas.launch import Launch
from archsim.errors import ArchsimError, InputError
from archsim.validation.gpu_launch import gap_seconds
from archsim.validation.silicon.fit import Block, Fit, summary
from archsim.validation.silicon.predict import calibrated_gpu
from archsim.validation.silicon.problems import MEASURED, Problem

ROWS_A_CONSTANT = 2
SINGLE_KERNELS = ("norm", "rope", "activation", "add")  # vector operators of one launch that are not measured alone


def facts(folder: Path) -> dict[str, Any]:
    """metadata.json of the measurements. Raises InputError where there is none."""
    path = folder / "metadata.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; expected a folder that measure_gpu.py wrote") from None
    return found


def blocks_of(problem: Problem, folder: Path) -> list[Block]:
    """The problem's rows in the folder, none where it has no such table."""
    try:
        return problem.blocks(folder)
    except FileNotFoundError:
        return []


def calibrate(folder: Path) -> list[tuple[Problem, Block]]:
    """Fit what the folder has rows for; the constants are left in the blocks."""
    fitted = []
    for problem in MEASURED:
        for block in blocks_of(problem, folder):
            before = summary(block.errors())
            if block.rows.size < ROWS_A_CONSTANT * len(problem.own):
                print(f"  {problem.name:20s} {block.rows.size:5d} rows  {before}  too few rows, left as it is")
                continue
            Fit([block], problem.own).search_widely(np.random.default_rng(0))
            print(f"  {problem.name:20s} {block.rows.size:5d} rows  {before}  fitted {summary(block.errors())}")
            fitted.append((problem, block))
    return fitted


def launches(folder: Path) -> dict[str, float]:
    """Mode -> seconds from one tiny kernel to the next, measured; the launch of `SINGLE_KERNELS` under "kernel"."""
    path = folder / "launch.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {row["mode"]: float(row["gap_us"]) * 1e-6 for row in rows}
    for row in rows:
        ours_s = gap_seconds(calibrated_gpu(row["gpu"], "gpu-silicon"), row["mode"], int(row["kernels"]))
        print(
            f"  launch gap, {row['mode']:8s} measured {float(row['gap_us']):.3g} us, as shipped {ours_s * 1e6:.3g} us"
        )
        if row["mode"] == "graph":  # a step pays the launch less the floor that is in operators measured alone
            launch = Launch()
            gap_s = found["graph"] - launch.graph_launch / int(row["kernels"])
            found["kernel"] = max(gap_s, 0.0) + launch.graph_floors.vector
    if "eager" in found:
        print(f"  for eager steps:     --set units.gpu.launch.eager_dispatch={found['eager'] * 1e6:.3g}us")
    return found


def check_dram(fitted: list[tuple[Problem, Block]]) -> None:
    """The DRAM rate of the largest copy beside the shares that the fits found."""
    shares = {problem.name: float(b.path["bandwidth_share"][0]) for problem, b in fitted
              if "bandwidth_share" in {constant.name for constant in problem.own}}  # fmt: skip
    for _, block in ((p, b) for p, b in fitted if p.section == ("vector", "copy")):
        moved = block.rows["rows"] * block.rows["width"] * block.rows["bytes_per_element"]
        at = int(moved.argmax())
        share = float(moved[at] / block.truth_s[at] / block.machine.device["bandwidth"][0])
        print(f"  DRAM: the largest copy moves {100 * share:.0f} % of the peak; fitted shares, per cent:")
        for name, found in shares.items():
            mark = "  more than 15 points away: its rows may not reach DRAM" if abs(found - share) > 0.15 else ""
            print(f"    {name:20s} {100 * found:.0f}{mark}")


def record(fitted: list[tuple[Problem, Block]], about: dict[str, Any], kernel_s: float | None) -> dict[str, Any]:
    """The calibration record of the fitted blocks; `kernel_s` is the measured launch of a tiny kernel."""
    kernels = fitted[0][1].machine.kernels
    assert isinstance(kernels, GpuKernels)
    made = "" if about["measured"] else ", made-up times of a dry run"
    document: dict[str, Any] = {
        "kind": "gpu-kernels", "extends": kernels.generation, "name": f"{about['gpu'].replace('_', '-')}.own",
        "description": f"{about['gpu']} as measured by measure_gpu.py{made}",
        "sources": {"default": f"measure_gpu.py on {about['device']}, {about['date_utc'][:10]}{made}"},
    }  # fmt: skip
    rows, errors = {}, {}
    for problem, block in fitted:
        section = document
        for key in problem.section:
            section = section.setdefault(key, {})
        for constant in problem.own:
            section[constant.name.removesuffix("_s")] = constant.text(constant.of(block), digits=6)
        label = "-".join(problem.section)
        rows[label] = int(block.rows.size)
        errors[label] = float(f"{100.0 * np.mean(np.abs(block.errors())):.3g}")
    if kernel_s is not None:
        vectors = document.setdefault("vector", {})
        for name in SINGLE_KERNELS:
            vectors.setdefault(name, {"launch": f"{kernel_s * 1e6:.6g} us"})
        rows["launch"] = 1
    document["calibration"] = {
        "data_set": "own" if about["measured"] else "dry-run",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), "rows": rows, "mape_pct": errors,
    }  # fmt: skip
    return document


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path, help="folder that measure_gpu.py wrote")
    parser.add_argument("--record", type=Path, help="write the calibration record to this file")
    chosen = parser.parse_args(arguments)
    try:
        about = facts(chosen.measured)
        print(f"{about['gpu']}: MAPE / bias / p95, per cent")
        fitted = calibrate(chosen.measured)
        measured = launches(chosen.measured)
        check_dram(fitted)
    except ArchsimError as error:
        print(f"fit_own_gpu.py: {error}", file=sys.stderr)
        return 4
    if chosen.record is not None:
        if not fitted:
            print("fit_own_gpu.py: no operator class has enough rows for a record", file=sys.stderr)
            return 1
        yaml = YAML()
        yaml.width = 4096
        with chosen.record.open("w", encoding="utf-8") as file:
            yaml.dump(record(fitted, about, measured.get("kernel")), file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
