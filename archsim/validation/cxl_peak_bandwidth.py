"""Kind `cxl-peak-bandwidth`: payload rate of a saturated CXL link for a mix of reads and writes.

The link's event loop runs an overload through the expander that the manifest names in `device` (mess-cxl-x8).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.config.schemas.expander import Expander
from archsim.network.cxl import LinkMemory, LinkResult, overload, random_requests, simulate_link
from archsim.validation.die_cost import by_row
from archsim.validation.registry import KINDS

DEVICE = "mess-cxl-x8"
REQUESTS = 100_000
ACCESS_S = 50e-9  # of DRAM that is never the bottleneck; has no influence on the rate


@cache
def device(name: str) -> Expander:
    """The expander preset of that name."""
    found: Expander = load("expander", name)
    return found


@cache
def saturated(name: str, read_percent: float) -> LinkResult:
    """An overload of that share of reads on the link of an expander."""
    link, reads = device(name).link, read_percent / 100.0
    assert link.flit is not None
    offered = overload(link, reads)
    requests = random_requests(REQUESTS, reads, offered, link.flit.line, 0, seed=0)
    return simulate_link(link, requests, LinkMemory(access_s=ACCESS_S), offered_bytes_per_s=offered)


@KINDS.register("cxl-peak-bandwidth")
class CxlPeakBandwidth:
    """Peak bandwidth of a CXL link per share of reads."""

    truth = ("peak_bandwidth_MBps",)
    describe = ("read_percent",)

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        name = str(dataset.get("device", DEVICE))

        def answer(row: Mapping[str, str]) -> dict[str, float]:
            found = saturated(name, float(row["read_percent"]))
            return {
                "peak_bandwidth_MBps": found.bandwidth_bytes_per_s / 1e6,
                "latency_at_saturation_ns": found.read_latency.mean_s * 1e9,
            }

        return by_row(rows, dataset["truth"], answer)
