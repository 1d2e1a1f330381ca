"""The machine's price, its cost of ownership per million tokens, and its carbon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archsim.cost.bill import Purchase, UnitBill, fixed_w, price_unit, provisioned_w
from archsim.cost.carbon import operational_kg
from archsim.cost.tco import YEAR_S, LifetimeCost, lifetime_cost, tokens_over_life
from archsim.results import Cost

if TYPE_CHECKING:
    from archsim.config.schemas.economics import Economics

_J_PER_KWH = 3.6e6


def evaluate_cost(
    parts: Sequence[UnitBill], average_power_w: float, decode_tokens_per_s: float, economics: Economics
) -> Cost:
    """Dollars and carbon of a machine that makes `decode_tokens_per_s` while its devices draw `average_power_w`.

    capex_usd is the purchase price, the sum of capex_breakdown, whose keys (`gpu.price`, `pim.memory`, ...) say whether
    a selling price or a bill of materials was used. Everything else of the lifetime cost is opex:
    lifetime cost = capex_usd + opex_usd_per_year * life. Cost per token = lifetime cost over the tokens of the life.
    Raises ValueError unless both rates are finite and tokens are made.
    """
    if not (0 < decode_tokens_per_s < float("inf") and 0 <= average_power_w < float("inf")):
        raise ValueError(f"found {decode_tokens_per_s} tokens/s at {average_power_w} W, expected finite, more than 0")
    purchases = {unit.name: price_unit(unit, economics) for unit in parts}
    capex = _joined({name: purchase.usd for name, purchase in purchases.items()})
    provisioned, average = power_over_life_w(parts, average_power_w, economics)
    capex_usd = sum(capex.values())
    life = lifetime_cost(capex_usd, provisioned, average, economics.server, economics.facility)
    million_tokens = tokens_over_life(decode_tokens_per_s, economics.server) / 1e6
    breakdown = {part: usd / million_tokens for part, usd in life.parts().items()}
    yearly_j = average * economics.facility.hours_per_month * 12 * 3600.0 * economics.facility.pue
    return Cost(
        capex_usd=capex_usd,
        opex_usd_per_year=_yearly_usd(life, economics),
        usd_per_million_tokens=sum(breakdown.values()),
        embodied_kgco2e=sum(sum(purchase.embodied_kg.values()) for purchase in purchases.values()),
        operational_kgco2e_per_year=operational_kg(yearly_j, economics.carbon),
        breakdown=breakdown,
        capex_breakdown=capex,
        assumptions=_assumptions(purchases, provisioned, average, economics),
    )


def usd_per_hour(parts: Sequence[UnitBill], average_power_w: float, economics: Economics) -> float:
    """Lifetime cost of the machine per hour of use."""
    capex_usd = sum(sum(price_unit(unit, economics).usd.values()) for unit in parts)
    provisioned, average = power_over_life_w(parts, average_power_w, economics)
    life = lifetime_cost(capex_usd, provisioned, average, economics.server, economics.facility)
    return life.total_usd / (economics.server.life * economics.server.utilisation / 3600.0)


def _yearly_usd(life: LifetimeCost, economics: Economics) -> float:
    return (life.total_usd - life.server_amortisation) * YEAR_S / economics.server.life


def _joined(parts: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{unit}.{part}": usd for unit, found in parts.items() for part, usd in found.items()}


def power_over_life_w(parts: Sequence[UnitBill], average_power_w: float, economics: Economics) -> tuple[float, float]:
    """(provisioned, mean over the life) watts; provisioned is never below what the machine draws while it works."""
    working = average_power_w + fixed_w(parts)
    provisioned = max(provisioned_w(parts), working)
    server = economics.server
    idle = server.idle_power_fraction * provisioned
    return provisioned, server.utilisation * working + (1 - server.utilisation) * idle


def _assumptions(
    purchases: dict[str, Purchase], provisioned: float, average: float, economics: Economics
) -> dict[str, float | str]:
    """What the numbers rest on, for the reader of the result."""
    names: dict[str, list[str]] = {"price": [], "bill": [], "none": []}
    for name, purchase in purchases.items():
        names[purchase.basis].append(name)
    return {
        "economics": economics.name,
        "at_selling_price": ", ".join(names["price"]),
        "at_bill_of_materials": ", ".join(names["bill"]),
        "without_bill": ", ".join(names["none"]),
        "markup_on_bill": economics.server.markup,
        "life_years": economics.server.life / YEAR_S,
        "utilisation": economics.server.utilisation,
        "pue": economics.facility.pue,
        "usd_per_kwh": economics.facility.electricity * _J_PER_KWH,
        "grid_g_per_kwh": economics.carbon.grid * _J_PER_KWH * 1000,
        "provisioned_w": provisioned,
        "average_w": average,
    }
