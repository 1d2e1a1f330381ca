"""Runs of Ramulator 2.1 and energies of DRAMsim3, sampled with a fixed seed; `archsim validate` runs them all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archsim
from archsim.memory.dram.result import MemoryResult
from archsim.validation import validate
from archsim.validation.memory_stream import answers, controller_of, device_of, stream_of


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(row: dict[str, str]) -> MemoryResult:
    device, controller = device_of(row["device"], Path(), {}), controller_of(row)
    stream, wrong = stream_of(row, device, controller)
    assert wrong is None
    return archsim.simulate_memory(device, stream, controller, explain=False)


def test_sampled_runs_are_equal_in_every_column(reference_dir: Path) -> None:
    rows = rows_of(reference_dir / "dram" / "ramulator21_dev.csv")
    chosen = np.random.default_rng(20).permutation(len(rows))[:48]
    wrong: list[Any] = []
    for row in (rows[k] for k in chosen):
        ours = answers(run(row))
        differ = {name: (value, row[name]) for name, value in ours.items() if name in row and float(row[name]) != value}
        if differ:
            wrong.append((row["run_id"], differ))
    assert wrong == []


def test_all_command_traces_are_equal(reference_dir: Path) -> None:
    report = validate([reference_dir / "dram"], ["memory-command-trace"])
    (dataset,) = report.datasets
    assert dataset.skipped == 0
    assert {name: column.rows - column.exact for name, column in dataset.columns.items()} == dict.fromkeys(
        dataset.columns, 0
    )


def test_energy_formulas_agree(reference_dir: Path) -> None:
    report = validate([reference_dir / "dram"], ["memory-energy"])
    (dataset,) = report.datasets
    assert dataset.skipped == 0
    assert all((column.max_ape_pct or 0.0) < 0.001 for column in dataset.columns.values())


def test_stream_hashes(reference_dir: Path) -> None:
    """Every generator, bit for bit: all patterns of one device and mapping, and a sample of the rest."""
    rows = rows_of(reference_dir / "dram" / "ramulator21_dev.csv")
    one_each = {row["pattern"]: row for row in rows}
    chosen = [*one_each.values(), *(rows[k] for k in np.random.default_rng(3).permutation(len(rows))[:60])]
    for row in chosen:
        _, wrong = stream_of(row, device_of(row["device"], Path(), {}), controller_of(row))
        assert wrong is None, row["run_id"]
    assert {row["pattern"] for row in chosen} == {row["pattern"] for row in rows}


def test_timing_tables_are_those_of_the_presets(reference_dir: Path) -> None:
    from archsim.config import load
    from archsim.memory.dram.geometry import geometry
    from archsim.validation.memory_stream import DEVICES

    tables = json.loads((reference_dir / "dram" / "timing_tables.json").read_text(encoding="utf-8"))
    for name, table in tables.items():
        device = load("memory", DEVICES[name])
        sizes = geometry(device)
        timing = {key: value for key, value in table["timing_CK"].items() if key not in ("rate", "tCK_ps")}
        assert {key: device.timing[key] for key in timing} == timing
        assert (sizes.tx_bytes, sizes.channel_bytes) == (table["transaction_bytes"], table["channel_capacity_bytes"])
        assert sizes.bursts_per_row == table["bursts_per_row"]
        assert device.tick_ps == table["tick_ps"]
        assert device.peak_bandwidth_bytes_per_s / 1e9 == pytest.approx(table["peak_pin_bandwidth_GBps_per_channel"])
