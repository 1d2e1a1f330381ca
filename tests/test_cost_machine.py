"""The price, cost per token and carbon of whole machines: parts add up, and better machines are cheaper."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.config import load
from archsim.config.presets import preset_names
from archsim.config.schemas.economics import Economics
from archsim.cost import UnitBill, evaluate_cost, machine_bill, usd_per_hour
from archsim.cost.area import logic_area_mm2
from archsim.cost.bill import price_unit
from archsim.errors import ConfigError

GPU, PIM, NODE = load("cost", "a100-80gb"), load("cost", "attacc-pim"), load("cost", "dgx-a100-node")
MACHINE = [UnitBill("gpu", 8, GPU), UnitBill("pim", 8, PIM), UnitBill("node", 1, NODE)]


def economics(*overrides: str) -> Economics:
    found: Economics = load("economics", "datacentre", overrides)
    return found


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1e5), st.floats(1e-3, 1e7), st.sampled_from(["price", "bill"]), st.floats(0.01, 1))
def test_every_breakdown_adds_up(power_w: float, tokens_per_s: float, basis: str, utilisation: float) -> None:
    terms = economics(f"basis={basis}", f"server.utilisation={utilisation!r}")
    cost = evaluate_cost(MACHINE, power_w, tokens_per_s, terms)
    assert sum(cost.breakdown.values()) == pytest.approx(cost.usd_per_million_tokens, rel=1e-12)
    assert sum(cost.capex_breakdown.values()) == pytest.approx(cost.capex_usd, rel=1e-12)
    life_usd = cost.capex_usd + 4 * cost.opex_usd_per_year
    million_tokens = tokens_per_s * 3600 * 24 * 365.25 * 4 * utilisation / 1e6
    assert life_usd / million_tokens == pytest.approx(cost.usd_per_million_tokens, rel=1e-9)
    hourly = usd_per_hour(MACHINE, power_w, terms)
    assert hourly * 1e6 / (tokens_per_s * 3600) == pytest.approx(cost.usd_per_million_tokens, rel=1e-9)


def test_cost_falls_with_speed_and_rises_with_power_and_devices() -> None:
    base = evaluate_cost(MACHINE, 3000, 1000, economics())
    assert evaluate_cost(MACHINE, 3000, 2000, economics()).usd_per_million_tokens == pytest.approx(
        base.usd_per_million_tokens / 2
    )
    assert evaluate_cost(MACHINE, 4000, 1000, economics()).usd_per_million_tokens > base.usd_per_million_tokens
    more = [dataclasses.replace(unit, count=2 * unit.count) for unit in MACHINE]
    assert evaluate_cost(more, 3000, 1000, economics()).capex_usd == pytest.approx(2 * base.capex_usd)


def test_the_result_says_which_price_it_used() -> None:
    priced = evaluate_cost(MACHINE, 3000, 1000, economics())
    assert "gpu.price" in priced.capex_breakdown
    assert "pim.memory" in priced.capex_breakdown
    assert priced.assumptions["at_selling_price"] == "gpu"
    assert priced.assumptions["at_bill_of_materials"] == "pim, node"
    made = evaluate_cost(MACHINE, 3000, 1000, economics("basis=bill"))
    assert "gpu.price" not in made.capex_breakdown
    assert {"gpu.dies", "gpu.memory", "gpu.package"} <= set(made.capex_breakdown)


def test_a_unit_without_a_bill_is_free_and_named() -> None:
    cost = evaluate_cost([*MACHINE, UnitBill("cpu", 2, None)], 3000, 1000, economics())
    assert cost.capex_usd == evaluate_cost(MACHINE, 3000, 1000, economics()).capex_usd
    assert cost.assumptions["without_bill"] == "cpu"


@pytest.mark.parametrize("basis", ["price", "bill"])
def test_more_memory_costs_its_price_per_gigabyte(basis: str) -> None:
    terms = economics(f"basis={basis}", "server.markup=1")
    assert GPU.memory is not None
    plain, double = (
        sum(price_unit(UnitBill("gpu", 1, GPU, size), terms).usd.values())
        for size in (GPU.memory.capacity, 2 * GPU.memory.capacity)
    )
    assert double - plain == pytest.approx(GPU.memory.capacity / 1e9 * 7)


def test_llmcompass_die_in_the_bill() -> None:
    """LLMCompass's GA100 at 7 nm: 422.62 USD per good die (ttm-cas d98ac05)."""
    usd = price_unit(UnitBill("gpu", 1, GPU), economics("basis=bill")).usd
    assert usd["dies"] == pytest.approx(422.6216584874364, rel=1e-12)


def test_embodied_carbon_of_an_a100() -> None:
    """ACT's numbers: 2318.2 g/cm2 at 7 nm on 8.26 cm2, 150 g of package, 65 g/GB of memory."""
    kg = price_unit(UnitBill("gpu", 1, GPU), economics()).embodied_kg
    assert kg["dies"] + kg["package"] == pytest.approx(8.26 * 2.3182285714285713 + 0.15)
    assert kg["memory"] == pytest.approx(80 * 2**30 / 1e9 * 0.065)


def test_operational_carbon_is_grid_times_energy() -> None:
    terms = economics("facility.hours_per_month=730.5", "facility.pue=1.5", "carbon.grid=400 g/kWh")
    cost = evaluate_cost([UnitBill("gpu", 1, load("cost", "tpuv4"))], 1000, 1, terms)
    assert cost.operational_kgco2e_per_year == pytest.approx(1.0 * 1.5 * 8766 * 0.4)


def test_idle_time_draws_idle_power() -> None:
    half = evaluate_cost(MACHINE, 3000, 1000, economics("server.utilisation=0.5", "server.idle_power_fraction=0"))
    full = evaluate_cost(MACHINE, 3000, 1000, economics())
    assert half.breakdown["energy"] == pytest.approx(full.breakdown["energy"])  # same energy per token
    assert half.breakdown["server_amortisation"] == pytest.approx(2 * full.breakdown["server_amortisation"])


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_no_tokens_no_cost_per_token(bad: float) -> None:
    with pytest.raises(ValueError, match="tokens/s"):
        evaluate_cost(MACHINE, 3000, bad, economics())


def test_an_unpriced_process_is_named() -> None:
    strange = GPU.model_copy(update={"dies": (GPU.dies[0].model_copy(update={"process": "7mn"}),)})
    with pytest.raises(ConfigError, match=r"units\.gpu\.bill: unknown process '7mn'; did you mean '7nm'"):
        price_unit(UnitBill("gpu", 1, strange), economics("basis=bill"))


@pytest.mark.parametrize("terms", ["datacentre", "asic-cloud"])
@pytest.mark.parametrize("name", preset_names("cost"))
def test_every_bill_can_be_priced_and_has_sources(name: str, terms: str) -> None:
    bill = load("cost", name)
    found = price_unit(UnitBill("unit", 1, bill), load("economics", terms))
    assert sum(found.usd.values()) > 0
    assert all(value > 0 for value in found.usd.values())
    assert bill.sources


def test_logic_area_counts_every_die() -> None:
    assert logic_area_mm2(MACHINE) == pytest.approx({"gpu": 8 * 826, "pim": 8 * 100})


@pytest.mark.parametrize("name", preset_names("system"))
def test_every_shipped_machine_can_be_priced(name: str) -> None:
    system = load("system", name)
    cost = evaluate_cost(machine_bill(system), 1000, 100, system.cost.economics)
    assert cost.capex_usd > 0
    assert cost.embodied_kgco2e > 0


def test_twice_the_memory_of_a_dgx_costs_its_price() -> None:
    small, large = (
        evaluate_cost(machine_bill(system), 1000, 100, system.cost.economics)
        for system in (load("system", "dgx-a100"), load("system", "dgx-a100-large"))
    )
    added_usd = 8 * 80 * 2**30 / 1e9 * 15 * 2.0  # HBM3 per GB, with the maker's margin
    assert large.capex_usd - small.capex_usd == pytest.approx(added_usd)
