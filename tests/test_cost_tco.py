"""Lifetime cost and carbon against the published models they follow."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.config import load
from archsim.config.schemas.economics import Carbon, Economics, Facility, Server
from archsim.cost.carbon import carbon_per_area_g_per_cm2, die_embodied_kg, gas_g_per_cm2
from archsim.cost.tco import YEAR_S, lifetime_cost, loan_interest_usd, tokens_over_life

DATA = Path(__file__).parent / "data" / "tco"
J_PER_KWH = 3.6e6


@pytest.fixture(params=["sample", "all"])
def tco_dir(request: pytest.FixtureRequest) -> Path:
    """The sampled rows beside the tests; all rows where the reference data is present."""
    return DATA if request.param == "sample" else request.getfixturevalue("reference_dir") / "tco"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def server(**changes: float) -> Server:
    values = {"life": 4 * YEAR_S, "utilisation": 1.0, "idle_power_fraction": 0.0, "interest": 0.08, "upkeep": 0.05}
    return Server(**(values | {"markup": 1.0} | changes))


def facility(row: dict[str, str]) -> Facility:
    return Facility(
        construction_usd_per_w=float(row["dc_capex_usd_per_W"]),
        amortisation=float(row["dc_amort_years"]) * YEAR_S,
        upkeep_usd_per_w_month=float(row["dc_opex_usd_per_W_month"]),
        pue=float(row["pue"]),
        electricity=float(row["electricity_usd_per_kWh"]) / J_PER_KWH,
        hours_per_month=720,
    )


def test_lifetime_cost_of_asic_cloud(tco_dir: Path) -> None:
    columns = {
        "datacentre_amortisation": "DCAmortization_usd", "datacentre_interest": "DCInterest_usd",
        "datacentre_upkeep": "DCOpex_usd", "energy": "SrvPower_usd", "pue_overhead": "PUEOverhead_usd",
        "server_amortisation": "SrvAmortization_usd", "server_upkeep": "SrvOpex_usd",
        "server_interest": "SrvInterest_usd",
    }  # fmt: skip
    for row in rows(tco_dir / "asic_cloud_tco.csv"):
        owner = server(
            life=float(row["server_life_years"]) * YEAR_S, interest=float(row["interest_rate"]),
            upkeep=float(row["server_opex_rate"]),
        )  # fmt: skip
        power_w = float(row["server_power_W"])
        average_w = power_w * float(row["avg_power_fraction"])
        cost = lifetime_cost(float(row["server_price_usd"]), power_w, average_w, owner, facility(row))
        for ours, theirs in columns.items():
            assert cost.parts()[ours] == pytest.approx(float(row[theirs]), rel=1e-10), ours
        assert cost.total_usd == pytest.approx(float(row["life_time_tco_usd"]), rel=1e-12)


@given(st.floats(1, 1e6), st.floats(0.001, 0.5), st.floats(0.1, 30))
def test_interest_matches_paying_the_loan_month_by_month(principal: float, rate: float, years: float) -> None:
    months = max(round(12 * years), 1)
    total = principal + loan_interest_usd(principal, rate, months / 12)
    balance = principal
    for _ in range(months):
        balance = balance * (1 + rate / 12) - total / months
    assert balance == pytest.approx(0, abs=1e-6 * total * (1 + rate / 12) ** months)


def test_a_free_loan_costs_nothing() -> None:
    assert loan_interest_usd(1000.0, 0.0, 4) == 0.0
    assert loan_interest_usd(1000.0, 1e-9, 4) == pytest.approx(0, abs=1e-5)


def test_tokens_of_a_life() -> None:
    assert tokens_over_life(10.0, server(utilisation=0.5)) == pytest.approx(10 * 3600 * 24 * 365.25 * 4 * 0.5)


def test_embodied_carbon_of_act(tco_dir: Path) -> None:
    economics: Economics = load("economics", "datacentre")
    for row in rows(tco_dir / "act_logic_carbon.csv"):
        process = economics.process(row["node"])
        changes = {
            "fab_yield": float(row["fab_yield"]),
            "gas_abatement_percent": float(row["gas_abatement"].removeprefix("GPA")),
        }
        carbon = Carbon(**(economics.carbon.model_dump() | changes))
        assert gas_g_per_cm2(process, carbon.gas_abatement_percent) == float(row["gas_gCO2_per_cm2"])
        per_area = carbon_per_area_g_per_cm2(process, carbon, float(row["fab_yield"]))
        assert per_area == pytest.approx(float(row["cpa_gCO2_per_cm2"]), rel=1e-12)
        die_kg = die_embodied_kg(float(row["area_mm2"]), process, carbon, die_yield=0.1)
        assert die_kg + carbon.package * int(row["n_ics"]) == pytest.approx(float(row["die_kgCO2"]), rel=1e-12)


def test_without_a_fab_yield_the_yield_of_the_die_counts() -> None:
    economics: Economics = load("economics", "datacentre", ["carbon.fab_yield=null"])
    process = economics.process("7nm")
    half = die_embodied_kg(800, process, economics.carbon, die_yield=0.5)
    assert half == pytest.approx(2 * die_embodied_kg(800, process, economics.carbon, die_yield=1.0))
