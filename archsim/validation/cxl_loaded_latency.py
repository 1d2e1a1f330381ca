"""Kind `cxl-loaded-latency`: read latency of a CXL expander at a bandwidth and share of reads.

The expander that the manifest names in `device` (mess-cxl-x8) runs random requests at the row's rate, its link flit by
flit and its DRAM command by command. Rows within 1 % of what the link can carry are run as an overload: there the
latency is that of a full window, not of a rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.execution.expander import Load, simulate_expander
from archsim.network.links import memory_bandwidth
from archsim.validation.cxl_peak_bandwidth import DEVICE, device, saturated
from archsim.validation.die_cost import by_row
from archsim.validation.registry import KINDS

REQUESTS = 20_000
_PROBES = 0.01  # the latency is that of loads, so there are some in an all-write mix too
_SATURATED = 0.99


def latency_ns(name: str, read_percent: float, megabytes_per_s: float) -> float:
    """Mean read latency of an expander preset at a load."""
    reads, rate = max(read_percent / 100.0, _PROBES), megabytes_per_s * 1e6
    expander = device(name)
    if rate > _SATURATED * memory_bandwidth(expander.link, reads):
        return saturated(name, 100.0 * reads).read_latency.mean_s * 1e9
    return simulate_expander(expander, Load(reads, rate, REQUESTS)).link.read_latency.mean_s * 1e9


@KINDS.register("cxl-loaded-latency")
class CxlLoadedLatency:
    """Read latency under load of a CXL expander."""

    truth = ("latency_ns",)
    group_by = ("read_percent", "saturated")
    describe = ("read_percent", "bandwidth_MBps", "saturated")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        name = str(dataset.get("device", DEVICE))

        def answer(row: Mapping[str, str]) -> dict[str, float]:
            return {"latency_ns": latency_ns(name, float(row["read_percent"]), float(row["bandwidth_MBps"]))}

        return by_row(rows, dataset["truth"], answer)
