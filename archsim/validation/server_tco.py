"""Kind `server-tco`: lifetime cost of ownership of one server by part, in the form of Barroso and Hoelzle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.config.schemas.economics import Facility, Server
from archsim.cost.tco import YEAR_S, lifetime_cost
from archsim.validation.die_cost import by_row
from archsim.validation.registry import KINDS

_J_PER_KWH = 3.6e6
_HOURS_PER_MONTH = 720.0  # of the published code
_PARTS = {
    "datacentre_amortisation": "DCAmortization_usd", "datacentre_interest": "DCInterest_usd",
    "datacentre_upkeep": "DCOpex_usd", "energy": "SrvPower_usd", "pue_overhead": "PUEOverhead_usd",
    "server_amortisation": "SrvAmortization_usd", "server_upkeep": "SrvOpex_usd",
    "server_interest": "SrvInterest_usd",
}  # fmt: skip
_TOTAL = "life_time_tco_usd"


def tco_row(row: Mapping[str, str]) -> dict[str, float]:
    """Parts and total of one row, USD."""
    server = Server(
        life=float(row["server_life_years"]) * YEAR_S, utilisation=1.0, idle_power_fraction=0.0,
        interest=float(row["interest_rate"]), upkeep=float(row["server_opex_rate"]), markup=1.0,
    )  # fmt: skip
    facility = Facility(
        construction_usd_per_w=float(row["dc_capex_usd_per_W"]), amortisation=float(row["dc_amort_years"]) * YEAR_S,
        upkeep_usd_per_w_month=float(row["dc_opex_usd_per_W_month"]), pue=float(row["pue"]),
        electricity=float(row["electricity_usd_per_kWh"]) / _J_PER_KWH, hours_per_month=_HOURS_PER_MONTH,
    )  # fmt: skip
    power_w = float(row["server_power_W"])
    average_w = power_w * float(row["avg_power_fraction"])
    cost = lifetime_cost(float(row["server_price_usd"]), power_w, average_w, server, facility)
    parts = cost.parts()
    return {column: parts[part] for part, column in _PARTS.items()} | {_TOTAL: cost.total_usd}


@KINDS.register("server-tco")
class ServerTco:
    """Amortisation, interest, operation and energy of a server and of its share of the data centre."""

    truth = (*_PARTS.values(), _TOTAL)
    describe = ("server_power_W", "server_price_usd", "server_life_years", "electricity_usd_per_kWh", "pue")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        return by_row(rows, dataset["truth"], tco_row)
