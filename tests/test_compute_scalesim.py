"""SCALE-Sim's counts: by hand, against a walk over every cycle and word, and against the peer's own runs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scalesim_oracle import run

from archsim.compute.scalesim import NOT_MODELLED, simulate_gemms
from archsim.errors import UsageError
from archsim.validation import validate
from archsim.validation.systolic_gemm import simulate_rows

# Rows of SCALE-Sim v2 (git main 22f88b1), run unmodified; the reference folder `systolic` has all of them.
SAMPLE = Path(__file__).parent / "data" / "scalesim_v2_sample.csv"
LIMITED = ("total_cycles", "stall_cycles", "ifmap_dram_reads_words", "filter_dram_reads_words")


def values(report, *names):
    """The named fields of a report of one product."""
    return tuple(getattr(report, name).item() for name in names)


def test_output_stationary_by_hand():
    # 2 x 2 cells, (3, 2) x (2, 3): 2 x 2 folds of 2 + 2 + 2 - 2 = 4 lines, so the last line is number 15.
    report = simulate_gemms(3, 3, 2, rows=2, columns=2, dataflow="os")
    assert values(report, "folds", "total_cycles", "stall_cycles") == (4, 15, 0)
    # Each of 2 column folds reads all 6 words of the ifmap, each of 2 row folds all 6 of the filter; 9 results and
    # the peer's 2 + 2 words a fold.
    assert values(report, "ifmap_sram_reads_words", "filter_sram_reads_words") == (12, 12)
    assert values(report, "ofmap_sram_writes_words") == (9 + 4 * 4,)
    # 9 results on 4 x 4 cells; 18 multiply-adds in 15 (peer) or 16 (folds) cycles of 4 cells.
    shares = values(report, "mapping_efficiency", "overall_utilisation", "compute_utilisation")
    assert shares == pytest.approx((9 / 16, 18 / (15 * 4), 18 / (16 * 4)))


def test_weight_and_input_stationary_by_hand():
    # 2 x 3 cells, (2, 3) x (3, 4): weights fold 2 x 2 times, 2 to load + 2 rows + 2 + 3 - 2 = 7 lines each.
    report = simulate_gemms(2, 4, 3, rows=2, columns=3, dataflow="weight-stationary")
    assert values(report, "folds", "total_cycles") == (4, 27)
    words = values(report, "ifmap_sram_reads_words", "filter_sram_reads_words", "ofmap_sram_writes_words")
    assert words == (2 * 3 * 2, 3 * 4, 2 * 4 * 2)
    shares = values(report, "mapping_efficiency", "compute_utilisation")
    assert shares == pytest.approx((12 / (4 * 6), 24 / (4 * 6 * (7 + 2))))
    # The transposed product with inputs held is the same machine.
    other = simulate_gemms(4, 2, 3, rows=2, columns=3, dataflow="input-stationary")
    assert values(other, "folds", "total_cycles", "ofmap_sram_writes_words") == (4, 27, 16)
    assert values(other, "ifmap_sram_reads_words", "filter_sram_reads_words") == words[1::-1]


def test_stalls_by_hand():
    # One cell, 8 steps, buffers of 4 words, so 2 can be read and each move of 2 takes 2 / 1 + 1 = 3 cycles from
    # cycle -1 on: words 2, 4, 6 are there in cycles 2, 5, 8 and wanted in 2, 4, 6; a word needs 1 cycle. Word 4 is
    # in time, word 6 a cycle late.
    sizes = {"ifmap_sram_words": 4, "filter_sram_words": 4, "ofmap_sram_words": 4}
    report = simulate_gemms(1, 1, 8, rows=1, columns=1, dataflow="os", **sizes, bandwidth_words_per_cycle=1)
    assert values(report, *LIMITED) == (7 + 1, 1, 2 + 3 * 2, 2 + 3 * 2)
    assert values(report, "ofmap_dram_writes_words") == (1,)


def random_case(random: np.random.Generator):
    """A small product on a small array; every third has tiny buffers, some have ones larger than their operands."""
    sides = [int(side) for side in (*random.integers(1, 9, 2), *random.integers(1, 21, 3))]
    sizes = random.integers(2, random.choice([10, 60, 300]), 3) * random.choice([1, 1, 1, 40])
    flow = ("os", "ws", "is")[random.integers(3)]
    return flow, *sides, tuple(int(size) for size in sizes), int(random.integers(1, random.choice([3, 12, 40])))


def test_every_cycle_and_word_of_small_arrays():
    random = np.random.default_rng(20240611)
    stalled = waited = 0
    for _ in range(160):
        flow, rows, columns, m, n, k, sizes, bandwidth = case = random_case(random)
        (last, stall, *dram), (*moved, waits) = run(*case)
        report = simulate_gemms(
            m, n, k, rows=rows, columns=columns, dataflow=flow, ifmap_sram_words=sizes[0], filter_sram_words=sizes[1],
            ofmap_sram_words=sizes[2], bandwidth_words_per_cycle=bandwidth,
        )  # fmt: skip
        assert values(report, *LIMITED, "ofmap_dram_writes_words") == (last, stall, *dram), case
        moved[2] += report.folds.item() * (rows + columns) if flow == "os" else 0
        sram = values(report, "ifmap_sram_reads_words", "filter_sram_reads_words", "ofmap_sram_writes_words")
        assert sram == tuple(moved), case
        stalled, waited = stalled + (stall > 0), waited + (waits > 0)
    assert stalled > 60  # the cases would prove nothing if nothing ever stalled
    assert waited > 5


def test_rows_of_the_peer():
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    report = simulate_rows(rows)
    for at, row in enumerate(rows):
        for name in (*LIMITED, "ifmap_sram_reads_words", "filter_sram_reads_words", "ofmap_sram_writes_words"):
            if row["bw_mode"] == "USER" or "dram" not in name:
                assert getattr(report, name)[at] == int(row[name]), (row["point"], name)
        for column, name in (("overall_util_pct", "overall_utilisation"), ("compute_util_pct", "compute_utilisation")):
            assert getattr(report, name)[at] * 100 == pytest.approx(float(row[column]), rel=1e-9)


def test_every_reference_row_and_column_is_exact(reference_dir):
    found = validate([reference_dir / "systolic"], kinds=["systolic-gemm"]).datasets[0]
    assert found.skipped == 0
    assert {name: column.exact for name, column in found.columns.items()} == dict.fromkeys(found.columns, found.rows)


def test_arrays_are_broadcast_and_agree_with_single_products():
    sides = np.array([8, 16, 128])
    sizes = {"ifmap_sram_words": 64, "filter_sram_words": 64, "ofmap_sram_words": 64}
    together = simulate_gemms(
        40, 30, 20, rows=sides[:, None], columns=sides, dataflow="ws", **sizes, bandwidth_words_per_cycle=[0, 2, 9]
    )
    assert together.total_cycles.shape == (3, 3)
    for i, rows in enumerate(sides):
        for j, (columns, bandwidth) in enumerate(zip(sides, (0, 2, 9), strict=True)):
            one = simulate_gemms(
                40, 30, 20, rows=rows, columns=columns, dataflow="ws", **sizes, bandwidth_words_per_cycle=bandwidth
            )
            for name in (*LIMITED, "overall_utilisation"):
                assert getattr(together, name)[i, j] == getattr(one, name).item()
    assert (together.ifmap_dram_reads_words[:, 0] == NOT_MODELLED).all()


def test_a_long_run_with_a_tiny_write_buffer_keeps_every_word():
    # Thousands of lines forced out half empty: the queue of them grows, and all results arrive in the end.
    report = simulate_gemms(
        5000, 8, 8, rows=8, columns=8, dataflow="ws", ifmap_sram_words=10**6, filter_sram_words=10**6,
        ofmap_sram_words=12, bandwidth_words_per_cycle=5,
    )  # fmt: skip
    assert report.ofmap_dram_writes_words.item() >= 5000 * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m": 0}, "m: found 0, expected 1 or more"),
        ({"rows": [8, -1]}, "rows: found -1, expected 1 or more"),
        ({"k": 2.5}, "k: found 2.5, expected whole numbers"),
        ({"n": "many"}, "n: found 'many', expected whole numbers"),
        ({"dataflow": "wieght-stationary"}, "did you mean 'weight-stationary'"),
        ({"dataflow": ["os", "rs"]}, "'rs'"),
        ({"bandwidth_words_per_cycle": 4}, "ifmap_sram_words: found 0, expected 2 or more where a bandwidth is given"),
        ({"m": 2**61, "n": 2}, "overflows"),
        ({"m": [1, 2], "n": [1, 2, 3]}, "do not fit together: dataflow ()"),
    ],
)
def test_bad_input_is_one_line(change, message):
    arguments = {"m": 8, "n": 8, "k": 8, "rows": 4, "columns": 4, "dataflow": "os"} | change
    with pytest.raises(UsageError, match=r".") as raised:
        simulate_gemms(arguments.pop("m"), arguments.pop("n"), arguments.pop("k"), **arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
