"""Kind `cxl-transfer`: time of a transfer or gather between devices on a CXL switch (CENT's model).

The link that the manifest names in `link` (cent-cxl3-x16), at the row's number of lanes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.config.schemas.link import Link
from archsim.errors import InputError, unknown_name
from archsim.network.collectives import gather_seconds, transfer_seconds
from archsim.validation.die_cost import by_row
from archsim.validation.registry import KINDS

LINK = "cent-cxl3-x16"
PRESET_LANES = 16
_ELEMENT_BYTES = 2.0
_OPERATIONS = ("p2p_send", "gather")


@cache
def _link(name: str, lanes: int) -> Link:
    whole: Link = load("link", name)
    return whole.model_copy(update={"bandwidth": whole.bandwidth * lanes / PRESET_LANES})


def transfer_ns(name: str, row: Mapping[str, str]) -> float:
    """Time of one row."""
    link, payload = _link(name, int(row["pcie_lanes"])), _ELEMENT_BYTES * int(row["elements_fp16"])
    if row["op"] not in _OPERATIONS:
        raise InputError(unknown_name("operation", row["op"], _OPERATIONS))
    if row["op"] == "gather":
        return gather_seconds(link, int(row["devices"]), payload) * 1e9
    return transfer_seconds(link, payload) * 1e9


@KINDS.register("cxl-transfer")
class CxlTransfer:
    """Time of point-to-point transfers and gathers over a CXL switch."""

    truth = ("latency_ns",)
    describe = ("op", "elements_fp16", "pcie_lanes", "devices")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        name = str(dataset.get("link", LINK))
        return by_row(rows, dataset["truth"], lambda row: {"latency_ns": transfer_ns(name, row)})
