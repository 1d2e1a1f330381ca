"""Built-in policies against schedules of other simulators: every time within 1e-6 s, restarts equal."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from archsim.validation.serving_disaggregated import ServingDisaggregated
from archsim.validation.serving_fairness import ServingFairness
from archsim.validation.serving_pools import ServingPools
from archsim.validation.serving_schedule import ServingSchedule

DATA = Path(__file__).parent / "data" / "serving"
SCHEDULES = (
    "orca_conv_q5", "faster_transformer_conv_q4", "vllm_tightmem_conv_q4", "vllm_arxiv_q3", "sarathi_tightmem_conv_q4",
    "sarathi_c128_conv_q4", "sarathi_conv_q5", "lightllm_conv_q4",
)  # fmt: skip
FAIR = ("weighted4_vtc", "poisson3_lcf", "overload2_fcfs", "onoff2_vtc")


def _check(kind: ServingSchedule | ServingFairness, path: Path, columns: tuple[str, ...]) -> None:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found, reasons = kind.predict(rows, path.parents[1], {"results": f"{path.parent.name}/{path.name}"})
    assert set(reasons) == {None}
    for column in columns:  # the reference is rounded to 1e-6 s, arrivals included
        theirs = np.array([float(row[column]) for row in rows])
        np.testing.assert_allclose(found[column], theirs, rtol=0, atol=0 if column == "restarts" else 1e-6)


@pytest.mark.parametrize("run", SCHEDULES)
def test_every_time_and_restart_is_vidurs(reference_dir: Path, run: str) -> None:
    path = reference_dir / "serving" / "vidur_schedulers" / f"{run}.csv"
    _check(ServingSchedule(), path, ServingSchedule.truth)


@pytest.mark.parametrize("run", FAIR)
def test_every_time_is_that_of_the_fair_queues(reference_dir: Path, run: str) -> None:
    _check(ServingFairness(), reference_dir / "serving" / "vtc_oracle" / f"{run}.csv", ServingFairness.truth)


@pytest.mark.parametrize("run", ["sarathi_sample", "weighted4_vtc"])
def test_samples_that_come_with_the_package(run: str) -> None:
    kind = ServingSchedule() if run.startswith("sarathi") else ServingFairness()
    _check(kind, DATA / run / f"{run}.csv", kind.truth)


@pytest.mark.parametrize("run", ["distserve_tpP2_tpD1_r2", "distserve_tpP1_tpD1_r1", "vllm_tpP1_tpD0_r3"])
def test_disaggregated_times_are_those_of_simdistserve(reference_dir: Path, run: str) -> None:
    path = reference_dir / "serving" / "simdistserve" / f"{run}.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kind = ServingDisaggregated()
    found, _ = kind.predict(rows, path.parents[1], {"results": f"simdistserve/{run}.csv"})
    for column in kind.truth:
        np.testing.assert_allclose(found[column], [float(row[column]) for row in rows], rtol=2e-4)


POOLS = ("conv_r5_splitwise_mixed_pool_a1h1", "code_r5_splitwise_mixed_pool_a0h2", "conv_r2_baseline_token_jsq_a0h2")


@pytest.mark.parametrize("run", POOLS)
def test_every_time_is_that_of_splitwise_sim(reference_dir: Path, run: str) -> None:
    path = reference_dir / "serving" / "splitwise" / f"{run}.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kind = ServingPools()
    found, _ = kind.predict(rows, path.parents[1], {"results": f"splitwise/{run}.csv"})
    for column in kind.truth:  # arrivals are rounded to 1e-6 s there, and who waits for others inherits it
        np.testing.assert_allclose(found[column], [float(row[column]) for row in rows], rtol=0, atol=3e-5)
