"""Carbon of making and running a machine, after ACT (Gupta et al., "ACT", ISCA 2022). Kilograms of CO2 equivalent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim.config.schemas.economics import Carbon, Process

_J_PER_KWH = 3.6e6


def gas_g_per_cm2(process: Process, abatement_percent: float) -> float:
    """Process gases, linear between ACT's tables for 95 and 99 % abatement (97 % is their mean)."""
    share = (abatement_percent - 95) / 4
    return process.gases_95_g_per_cm2 * (1 - share) + process.gases_99_g_per_cm2 * share


def carbon_per_area_g_per_cm2(process: Process, carbon: Carbon, fab_yield: float) -> float:
    """ACT's CPA: (CI_fab EPA + GPA + MPA) / yield, per cm2 of good silicon."""
    energy_g = carbon.fab_grid * 1e3 * _J_PER_KWH * process.fab_kwh_per_cm2
    gas_g = gas_g_per_cm2(process, carbon.gas_abatement_percent)
    return (energy_g + gas_g + process.materials_g_per_cm2) / fab_yield


def die_embodied_kg(area_mm2: float, process: Process, carbon: Carbon, die_yield: float) -> float:
    """Making one good die, without its package; `die_yield` counts where `carbon` names no fab yield."""
    fab_yield = die_yield if carbon.fab_yield is None else carbon.fab_yield
    return carbon_per_area_g_per_cm2(process, carbon, fab_yield) * area_mm2 / 100 / 1000


def operational_kg(energy_j: float, carbon: Carbon) -> float:
    """Running: carbon intensity of the grid times energy drawn from it."""
    return carbon.grid * energy_j
