"""Decode steps of whole machines against the public AttAcc simulator (sample in tests/data)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from archsim.validation.attacc_system import decode_step

_FILE = Path(__file__).parent / "data" / "attacc_end_to_end_sample.csv"
_ROWS = list(csv.DictReader(line for line in _FILE.read_text().splitlines() if not line.startswith("#")))


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: "-".join(list(row.values())[:8]))
def test_decode_step_matches_the_attacc_simulator(row):
    step_s, step_j = decode_step(row)
    assert step_s * 1e3 == pytest.approx(float(row["gen_step_ms"]), rel=1e-3)
    # rows with PIM come from a cache made by older code, whose command counts differ for odd numbers of iterations
    tolerance = 1e-3 if row["attn_device"] in ("NONE", "CPU") else 2e-2
    assert step_j * 1e9 == pytest.approx(float(row["gen_step_energy_nJ"]), rel=tolerance)
