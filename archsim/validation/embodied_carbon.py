"""Kind `embodied-carbon`: carbon of making a logic die, as ACT computes it, from its node, fab and area."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.config.schemas.economics import Carbon, Economics
from archsim.cost.carbon import carbon_per_area_g_per_cm2, die_embodied_kg, gas_g_per_cm2
from archsim.errors import ConfigError, unknown_name
from archsim.validation.die_cost import by_row
from archsim.validation.registry import KINDS

_J_PER_KWH = 3.6e6
# g CO2 per kWh; facebookresearch/ACT abc9fbb, carbon intensities of 2022
GRID_G_PER_KWH = {"taiwan": 583.0, "world": 301.0, "usa": 380.0, "us": 380.0, "korea": 430.0, "europe": 295.0}


@cache
def _economics() -> Economics:
    found: Economics = load("economics", "datacentre")
    return found


def carbon_row(row: Mapping[str, str]) -> dict[str, float]:
    """Carbon columns of one row."""
    location = row["fab_location"].lower()
    if location not in GRID_G_PER_KWH:
        raise ConfigError(unknown_name("fab location", location, GRID_G_PER_KWH))
    economics = _economics()
    process, fab_yield = economics.process(row["node"]), float(row["fab_yield"])
    grid = GRID_G_PER_KWH[location]
    changes = {
        "fab_grid": grid / 1e3 / _J_PER_KWH,
        "fab_yield": fab_yield,
        "gas_abatement_percent": float(row["gas_abatement"].removeprefix("GPA")),
    }
    carbon = Carbon(**(economics.carbon.model_dump() | changes))
    die_kg = die_embodied_kg(float(row["area_mm2"]), process, carbon, fab_yield)
    return {
        "energy_gCO2_per_cm2": grid * process.fab_kwh_per_cm2,
        "gas_gCO2_per_cm2": gas_g_per_cm2(process, carbon.gas_abatement_percent),
        "materials_gCO2_per_cm2": process.materials_g_per_cm2,
        "cpa_gCO2_per_cm2": carbon_per_area_g_per_cm2(process, carbon, fab_yield),
        "die_kgCO2": die_kg + carbon.package * int(row["n_ics"]),
    }


@KINDS.register("embodied-carbon")
class EmbodiedCarbon:
    """Carbon per area and per packaged die of ACT's logic model."""

    truth = ("die_kgCO2", "cpa_gCO2_per_cm2")
    describe = ("node", "gas_abatement", "fab_location", "fab_yield", "area_mm2")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        return by_row(rows, dataset["truth"], carbon_row)
