"""AttAcc attention against the public simulator: cycles and command counts are equal, not close."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from archsim.validation.attacc_attention import TRUTH, attention_row

SAMPLE = Path(__file__).parent / "data" / "attacc_attention.csv"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.parametrize("row", _rows(SAMPLE), ids=lambda row: "-".join(list(row.values())[:6]))
def test_sample_of_the_reference_is_equal(row: dict[str, str]) -> None:
    assert attention_row(row) == {name: int(row[name]) for name in TRUTH}


def test_random_rows_of_the_whole_reference_are_equal(reference_dir: Path) -> None:
    rows = _rows(reference_dir / "attacc" / "pim_attention_cycles_rerun.csv")
    for index in np.random.default_rng(5).choice(len(rows), 40, replace=False):
        assert attention_row(rows[index]) == {name: int(rows[index][name]) for name in TRUTH}
