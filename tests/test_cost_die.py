"""Dies, packages and wafers against published cost models and the laws of yield."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.config import load
from archsim.config.schemas.economics import Economics, Wafer
from archsim.cost.die import (
    die_cost,
    die_yield,
    dies_by_area,
    dies_by_packing,
    yield_exponential,
    yield_murphy,
    yield_negative_binomial,
    yield_poisson,
)
from archsim.cost.die_area import CoreShape, accelerator_mm2, core_mm2, sram_mm2
from archsim.cost.package import package_cost
from archsim.errors import ConfigError

DATA = Path(__file__).parent / "data" / "tco"


@pytest.fixture(params=["sample", "all"])
def tco_dir(request: pytest.FixtureRequest) -> Path:
    """The sampled rows beside the tests; all rows where the reference data is present."""
    return DATA if request.param == "sample" else request.getfixturevalue("reference_dir") / "tco"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def economics() -> Economics:
    return load("economics", "datacentre")


def test_die_cost_of_llmcompass(tco_dir: Path) -> None:
    for row in rows(tco_dir / "llmcompass_die_cost.csv"):
        wafer = Wafer(diameter_mm=float(row["wafer_diameter_mm"]), alpha=float(row["cluster_alpha"]))
        defects_per_cm2 = 100 * float(row["defect_density_per_mm2"])
        cost = die_cost(float(row["die_area_mm2"]), float(row["wafer_cost_usd"]), defects_per_cm2, wafer)
        assert cost.dies_per_wafer == pytest.approx(float(row["dies_per_wafer"]), rel=1e-12)
        assert cost.yield_ == pytest.approx(float(row["die_yield"]), rel=1e-12)
        assert cost.usd_per_die == pytest.approx(float(row["cost_per_die_usd"]), rel=1e-12)
        assert cost.usd_per_good_die == pytest.approx(float(row["cost_per_good_die_usd"]), rel=1e-12)


def test_die_cost_of_asic_cloud(tco_dir: Path) -> None:
    for row in rows(tco_dir / "asic_cloud_die_cost.csv"):
        wafer = Wafer(
            diameter_mm=float(row["wafer_diameter_mm"]), packing="squares", scribe_mm=float(row["dicing_gap_mm"]),
            alpha=float(row["alpha"]), test_share=0.01,
        )  # fmt: skip
        defects_per_cm2 = 100 * float(row["defect_density_per_mm2"])
        cost = die_cost(float(row["die_area_mm2"]), float(row["wafer_cost_usd"]), defects_per_cm2, wafer)
        assert cost.dies_per_wafer == int(row["dies_per_wafer"])
        assert cost.yield_ == pytest.approx(float(row["die_yield"]), rel=1e-12)
        assert cost.usd_per_good_die == pytest.approx(float(row["die_cost_with_test_usd"]), rel=1e-12)


def test_package_cost_of_chiplet_actuary(tco_dir: Path, economics: Economics) -> None:
    names = {"OS": "organic", "FO": "fan-out", "SI": "silicon-interposer"}
    defects_per_cm2 = {"28": 0.07, "14": 0.08, "7": 0.09, "5": 0.11}
    wafer_usd = {"28": 2891, "14": 3984, "7": 9346, "5": 16988}
    wafer = Wafer(scribe_mm=0.2, edge_mm=5, alpha=10)
    for row in rows(tco_dir / "chiplet_actuary_cost.csv"):
        node, dies, area_mm2 = row["node_nm"], int(row["n_dies"]), float(row["die_area_mm2"])
        die = die_cost(area_mm2, wafer_usd[node], defects_per_cm2[node], wafer)
        assert die.dies_per_wafer == pytest.approx(float(row["dies_per_wafer"]), rel=1e-12)
        assert die.yield_ == pytest.approx(float(row["die_yield"]), rel=1e-12)
        assert die.usd_per_good_die == pytest.approx(float(row["known_good_die_usd"]), rel=1e-12)
        package = economics.package(names[row["package"]])
        found = package_cost(package, [area_mm2] * dies, die.usd_per_good_die * dies, reference_bumps=True)
        assert found.material_usd == pytest.approx(float(row["re_raw_package_usd"]), rel=1e-12)
        assert found.defects_usd == pytest.approx(float(row["re_package_defects_usd"]), rel=1e-12)
        assert found.wasted_dies_usd == pytest.approx(float(row["re_wasted_kgd_usd"]), rel=1e-12)
        total_usd = found.total_usd + die.usd_per_good_die * dies
        assert total_usd == pytest.approx(float(row["re_total_usd"]), rel=1e-12)


def core_of(row: dict[str, str]) -> CoreShape:
    sizes = {key: int(row[key]) for key in row if row[key].isdigit()}
    return CoreShape(
        sublanes=sizes["sublanes"], vector_width=sizes["vector_width"],
        arithmetic={name: sizes[name] for name in ("int32", "fp16", "fp32", "fp64")},
        array_rows=sizes["sa_w"], array_columns=sizes["sa_h"], array_dtype=row["sa_type"], registers=sizes["regs"],
        register_bits=sizes["reg_bits"], register_ports=sizes["reg_ports"], register_files=sizes["reg_files"],
        sram_bytes=sizes["sram_KB"] * 1024.0,
    )  # fmt: skip


def test_die_area_of_llmcompass(tco_dir: Path) -> None:
    columns = {
        "control": "core_control_area_mm2", "arithmetic": "core_alu_area_mm2", "systolic_array": "core_sa_area_mm2",
        "register_files": "core_regfile_area_mm2", "sram": "core_local_buffer_area_mm2",
    }  # fmt: skip
    for row in rows(tco_dir / "llmcompass_area.csv"):
        core = core_of(row)
        for part, found in core_mm2(core, row["node"]).items():
            assert found == pytest.approx(float(row[columns[part]]), rel=1e-9), (row["config"], part)
        interfaces = {row["mem_protocol"]: int(row["mem_channels"]), row["link"]: int(row["links"])}
        buffer_bytes = float(row["glb_MB"]) * 2**20
        parts = accelerator_mm2(core, int(row["cores"]), row["node"], buffer_bytes, interfaces, row["io_node"])
        assert sum(parts.values()) == pytest.approx(float(row["sum_area_mm2"]), rel=1e-9), row["config"]


@given(st.floats(1, 1e9))
def test_more_sram_takes_more_area_than_its_cells(capacity_bytes: float) -> None:
    assert sram_mm2(capacity_bytes, "7nm") >= capacity_bytes * 8 * 1.7e-7
    assert sram_mm2(capacity_bytes + 2**19, "7nm") > sram_mm2(capacity_bytes, "7nm")


@given(st.floats(0, 20), st.floats(0.1, 100))
def test_yield_models_are_ordered(defects: float, alpha: float) -> None:
    """Clustered defects waste fewer dies; alpha bridges the Poisson and the exponential model."""
    poisson, murphy, seeds = yield_poisson(defects), yield_murphy(defects), yield_exponential(defects)
    assert 0 <= poisson <= murphy * (1 + 1e-12) <= seeds * (1 + 1e-9) <= 1 + 1e-9
    clustered = yield_negative_binomial(defects, alpha)
    assert poisson * (1 - 1e-9) <= clustered <= 1
    assert yield_negative_binomial(defects, 1.0) == pytest.approx(seeds)
    assert yield_negative_binomial(defects, 1e9) == pytest.approx(poisson, rel=1e-6)


@given(st.floats(1, 2000), st.floats(0.01, 2))
def test_no_defects_no_loss_and_larger_dies_yield_less(area_mm2: float, defects_per_cm2: float) -> None:
    for model in ("negative-binomial", "poisson", "murphy", "exponential"):
        assert die_yield(area_mm2, 0.0, model) == 1.0
        assert die_yield(2 * area_mm2, defects_per_cm2, model) < die_yield(area_mm2, defects_per_cm2, model)


@given(st.floats(1, 900))
def test_dies_never_cover_more_than_the_wafer(area_mm2: float) -> None:
    wafer_mm2 = math.pi * 150**2
    assert dies_by_packing(area_mm2, scribe_mm=0.0) * area_mm2 <= wafer_mm2
    assert dies_by_area(area_mm2) * area_mm2 <= wafer_mm2


def test_selling_defective_dies_lowers_the_cost_to_that_of_the_bare_die() -> None:
    wafer = Wafer()
    costs = [die_cost(800, 9346, 0.15, wafer, share).usd_per_good_die for share in (0.0, 0.5, 1.0)]
    assert costs[0] > costs[1] > costs[2]
    assert costs[2] == pytest.approx(die_cost(800, 9346, 0.15, wafer).usd_per_die)


def test_a_die_larger_than_the_wafer_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        die_cost(90_000, 9346, 0.15, Wafer())
