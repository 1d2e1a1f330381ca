"""One-time engineering, the cost roll-up and how cost scales with electricity, life, utilisation and volume."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.config import load, load_model, load_system
from archsim.config.presets import preset_names
from archsim.config.schemas.cost import Cost
from archsim.cost import UnitBill, evaluate_cost
from archsim.cost.bill import price_unit
from archsim.cost.engineering import chip_engineering_usd, engineering_usd
from archsim.cost.evaluation import evaluate
from archsim.cost.explain import explain_cost
from archsim.errors import ConfigError

DATA = Path(__file__).parent / "data" / "tco"
GPU, PIM, NODE = load("cost", "a100-80gb"), load("cost", "attacc-pim"), load("cost", "dgx-a100-node")
MACHINE = [UnitBill("gpu", 8, GPU), UnitBill("pim", 8, PIM), UnitBill("node", 1, NODE)]


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open() as file:
        return list(csv.DictReader(file))


def test_engineering_of_chiplet_actuary() -> None:
    """Chip and module of its single-die rows, and the package of its organic ones."""
    economics, checked = load("economics", "chiplet-actuary"), 0
    for row in rows("chiplet_actuary_cost.csv"):
        if row["n_dies"] != "1":
            continue
        area_mm2, process = float(row["die_area_mm2"]), f"{row['node_nm']}nm"
        chip = float(row["nre_chip_usd"]) + float(row["nre_module_usd"])
        assert chip_engineering_usd(area_mm2, process, economics) == pytest.approx(chip, rel=1e-9)
        if row["package"] == "OS":
            die = {"area": f"{area_mm2} mm2", "process": process}
            bill = Cost.model_validate({"name": "one", "dies": (die,), "package": {"technology": "organic"}})
            total = chip + float(row["nre_package_usd"])
            assert engineering_usd(bill, economics) == pytest.approx(total, rel=1e-9)
        checked += 1
    assert checked


def test_engineering_of_cents_controller_is_shared_over_its_volume() -> None:
    found = {row["quantity"]: float(row["value"]) for row in rows("cent_controller_cost.csv")}
    die = {"area": f"{found['die_area_mm2']} mm2", "process": "7nm"}
    bill = Cost.model_validate(
        {"name": "cent", "dies": (die,), "engineering": found["total_nre_usd"], "volume": found["volume_devices"]}
    )
    usd = price_unit(UnitBill("controller", 1, bill), load("economics", "datacentre", ["server.markup=1"])).usd
    assert usd["engineering"] == pytest.approx(found["nre_per_device_usd"], abs=0.005)
    assert usd["dies"] == pytest.approx(found["die_cost_usd"], abs=0.005)


def test_engineering_is_paid_once_whatever_the_number_of_devices() -> None:
    terms = ["engineering.volume=1000"]
    small = price_unit(UnitBill("pim", 8, PIM), load("economics", "datacentre", terms)).usd["engineering"]
    large = price_unit(UnitBill("pim", 8, PIM), load("economics", "datacentre", ["engineering.volume=8000"])).usd
    assert small == pytest.approx(8 * large["engineering"])
    assert small * 1000 / 8 == pytest.approx(engineering_usd(PIM, load("economics", "datacentre")))
    assert "engineering" not in price_unit(UnitBill("pim", 8, PIM), load("economics", "datacentre")).usd


def test_a_process_without_an_engineering_price_is_named() -> None:
    economics = load("economics", "datacentre", ["engineering.volume=1000", "processes.7nm.engineering=null"])
    with pytest.raises(ConfigError, match=r"7nm.*no engineering cost"):
        price_unit(UnitBill("pim", 1, PIM), economics)


@pytest.mark.parametrize("name", preset_names("system"))
def test_the_roll_up_adds_up_and_explains_every_line(name: str) -> None:
    found = explain_cost(load_system(name))
    assert sum(unit.usd for unit in found.units) == pytest.approx(found.capex_usd, rel=1e-12)
    for unit in found.units:
        assert sum(line.usd for line in unit.lines) == pytest.approx(unit.usd, rel=1e-12)
        assert all(line.how for line in unit.lines), unit
    hours = found.life_years * 8766 * float(found.assumptions["utilisation"])
    assert sum(found.lifetime_usd.values()) / hours == pytest.approx(found.usd_per_hour, rel=1e-9)
    kilograms = sum(sum(unit.embodied_kg.values()) for unit in found.units)
    assert kilograms == pytest.approx(found.embodied_kgco2e, rel=1e-12)


def test_the_roll_up_agrees_with_the_evaluation() -> None:
    system = load_system("dgx-a100")
    report = evaluate(system, load_model("llama2-7b"), 4, 128, 32)
    found = explain_cost(system, report)
    assert found.efficiency is not None
    assert found.capex_usd == pytest.approx(report.cost.capex_usd)
    assert found.efficiency.usd_per_million_tokens == pytest.approx(report.cost.usd_per_million_tokens, rel=1e-9)
    assert found.operational_kgco2e_per_year == pytest.approx(report.cost.operational_kgco2e_per_year, rel=1e-9)
    assert sum(found.efficiency.breakdown.values()) == pytest.approx(found.efficiency.usd_per_million_tokens)
    hourly = found.efficiency.usd_per_million_tokens * found.efficiency.tokens_per_s * 3600 / 1e6
    assert hourly == pytest.approx(found.usd_per_hour, rel=1e-9)


def cost_of(*overrides: str) -> dict[str, float]:
    return evaluate_cost(MACHINE, 3000, 1000, load("economics", "datacentre", overrides)).breakdown


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 10))
def test_only_energy_scales_with_the_price_of_electricity_and_linearly(factor: float) -> None:
    base, changed = cost_of(), cost_of(f"facility.electricity={0.067 * factor!r} USD/kWh")
    for part, usd in base.items():
        expected = usd * factor if part in ("energy", "pue_overhead") else usd
        assert changed[part] == pytest.approx(expected, rel=1e-9), part


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 4))
def test_a_longer_life_spreads_the_price_and_nothing_else_but_its_interest(factor: float) -> None:
    """Per token the price falls as 1 / life; building, upkeep and energy follow the years and stay."""
    base, changed = cost_of(), cost_of(f"server.life={4 * factor!r} year")
    for part, usd in base.items():
        if part == "server_interest":
            continue
        expected = usd / factor if part in ("server_amortisation", "server_upkeep") else usd
        assert changed[part] == pytest.approx(expected, rel=1e-9), part


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 1))
def test_utilisation_spreads_what_is_paid_anyway(share: float) -> None:
    idle = "server.idle_power_fraction=0"
    base, changed = cost_of(idle), cost_of(idle, f"server.utilisation={share!r}")
    for part, usd in base.items():
        expected = usd if part in ("energy", "pue_overhead") else usd / share
        assert changed[part] == pytest.approx(expected, rel=1e-9), part
