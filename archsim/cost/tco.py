"""Lifetime cost of ownership of a server, in the form of Barroso and Hoelzle as the ASIC Cloud papers use it.

Barroso, Clidaras, Hoelzle, "The Datacenter as a Computer"; Magaki et al., "ASIC Clouds", ISCA 2016.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim.config.schemas.economics import Facility, Server

YEAR_S = 365.25 * 24 * 3600.0
_J_PER_KWH = 3.6e6


def loan_interest_usd(principal_usd: float, yearly_rate: float, years: float) -> float:
    """Interest paid in all on a loan repaid in equal monthly sums."""
    if yearly_rate == 0 or principal_usd == 0:
        return 0.0
    rate, months = yearly_rate / 12, 12 * years
    repaid = rate * months / -math.expm1(-months * math.log1p(rate))
    return principal_usd * (repaid - 1)


@dataclass(frozen=True)
class LifetimeCost:
    """USD over the life of the server, by cause."""

    server_amortisation: float
    server_interest: float
    server_upkeep: float
    datacentre_amortisation: float
    datacentre_interest: float
    datacentre_upkeep: float
    energy: float
    pue_overhead: float

    @property
    def total_usd(self) -> float:
        """The sum of the parts."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, float]:
        """Name -> USD."""
        return asdict(self)


def lifetime_cost(
    price_usd: float, provisioned_w: float, average_w: float, server: Server, facility: Facility
) -> LifetimeCost:
    """Cost of owning a server that is bought for `price_usd`, sized for `provisioned_w` and draws `average_w`.

    The building is paid for in proportion to the share of its life that the server occupies it.
    """
    years, months = server.life / YEAR_S, 12 * server.life / YEAR_S
    building_usd = facility.construction_usd_per_w * provisioned_w
    building_years = facility.amortisation / YEAR_S
    occupied = years / building_years
    energy_kwh = average_w / 1000 * facility.hours_per_month * months
    energy_usd = energy_kwh * facility.electricity * _J_PER_KWH
    return LifetimeCost(
        server_amortisation=price_usd,
        server_interest=loan_interest_usd(price_usd, server.interest, years),
        server_upkeep=server.upkeep * price_usd,
        datacentre_amortisation=building_usd * occupied,
        datacentre_interest=loan_interest_usd(building_usd, server.interest, building_years) * occupied,
        datacentre_upkeep=facility.upkeep_usd_per_w_month * months * provisioned_w,
        energy=energy_usd,
        pue_overhead=energy_usd * (facility.pue - 1),
    )


def tokens_over_life(tokens_per_s: float, server: Server) -> float:
    """Tokens made while the server is in use."""
    return tokens_per_s * server.life * server.utilisation
