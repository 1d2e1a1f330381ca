"""The cost kinds of `archsim validate` against the published models they follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.validation import validate

DATA = Path(__file__).parent / "data" / "tco"


@pytest.fixture(params=["sample", "all"])
def tco_dir(request: pytest.FixtureRequest) -> Path:
    """The sampled rows beside the tests; all rows where the reference data is present."""
    return DATA if request.param == "sample" else request.getfixturevalue("reference_dir") / "tco"


def test_every_truth_column_of_every_cost_model_is_met(tco_dir: Path) -> None:
    report = validate([tco_dir])
    assert {dataset.kind for dataset in report.datasets} == {"die-cost", "die-area", "server-tco", "embodied-carbon"}
    for dataset in report.datasets:
        assert dataset.rows > 0
        assert dataset.skipped == 0
        assert dataset.columns
        for column, found in dataset.columns.items():
            assert found.max_ape_pct is not None, (dataset.kind, column)
            assert found.max_ape_pct < 1e-6, (dataset.kind, column)


def test_a_row_the_models_cannot_answer_is_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(
        "name: odd\nsource: by hand\ndatasets:\n"
        "  - {kind: embodied-carbon, results: rows.csv}\n"
        "  - {kind: die-cost, model: chiplet-actuary, results: dies.csv, truth: [die_yield]}\n"
    )
    (tmp_path / "rows.csv").write_text(
        "node,gas_abatement,fab_location,fab_yield,area_mm2,n_ics,die_kgCO2,cpa_gCO2_per_cm2\n"
        "7nm,GPA97,atlantis,0.875,100,1,1,1\n"
    )
    (tmp_path / "dies.csv").write_text("node_nm,die_area_mm2,n_dies,package,die_yield\n6.5,100,1,OS,0.9\n")
    carbon, die = validate([tmp_path]).datasets
    assert carbon.skipped == die.skipped == 1
    assert "atlantis" in next(iter(carbon.reasons))
    assert "6.5nm" in next(iter(die.reasons))
