"""Kind `collective`: measured collectives inside one node, on the link that the machine's name stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.config.schemas.collective import Primitive
from archsim.config.schemas.link import Link
from archsim.network import (
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    reduce_scatter_seconds,
    send_receive_seconds,
)
from archsim.validation.registry import KINDS

Row = dict[str, str]
SECONDS: dict[str, Callable[[Link, int, float], float]] = {
    "all-reduce": all_reduce_seconds,
    "all-gather": all_gather_seconds,
    "reduce-scatter": reduce_scatter_seconds,
    "all-to-all": all_to_all_seconds,
    "send-recv": send_receive_seconds,
}
LINKS = {  # machine or GPU, as the sources name it -> link preset
    "a100_sxm": "nvlink3", "h100_sxm": "nvlink4", "h200_sxm": "nvlink4", "h20_sxm": "nvlink4", "gh200": "nvlink4",
    "b200_sxm": "nvlink5", "b300_sxm": "nvlink5", "gb200": "nvlink5", "gb300": "nvlink5", "gb200_sxm": "nvlink5",
    "gb300_sxm": "nvlink5", "l40s": "pcie4-x16-l40s-server", "rtx_pro_6000_server": "pcie5-x16-rtx-pro-6000-server",
    "a100_dgx": "nvlink3-vidur", "h100_dgx": "nvlink4-vidur", "a100_pairwise_nvlink": "nvlink3-bridge-vidur",
    "h100_pairwise_nvlink": "nvlink4-bridge-vidur", "a40_pairwise_nvlink": "pcie4-peer-vidur",
    "MI200": "infinity-fabric-mi200-nnscaler", "4xA100": "nvlink3-mesh4",
}  # fmt: skip
_PRIMITIVES: dict[str, Primitive] = {"alltoall": "all-to-all"}
_COARSE_BYTES = 1e6  # below, Vidur's profile jumps by several times between neighbouring sizes


@dataclass(frozen=True)
class Measured:
    """One row in common terms; `bytes` as `archsim.network` counts them, `scale` turns seconds into the row's unit."""

    machine: str
    primitive: str
    ranks: int
    bytes: float
    truth: str
    scale: float
    ranks_per_node: int
    scope: str


def read_measured(row: Row) -> Measured | None:
    """A row of one of the four known layouts, told apart by its columns; None for any other."""
    if {"gpu", "op_name", "num_gpus", "message_size"} <= row.keys():
        ranks, primitive = int(row["num_gpus"]), _primitive(row["op_name"])
        bytes_ = 2.0 * float(row["message_size"])
        scope = "PCIe" if LINKS.get(row["gpu"], "").startswith("pcie") else "NVLink"
        return Measured(row["gpu"], primitive, ranks, bytes_, "latency_ms", 1e3, ranks, scope)
    if {"system", "collective", "num_workers", "devices_per_node", "size_bytes"} <= row.keys():
        ranks, bytes_, per_node = int(row["num_workers"]), float(row["size_bytes"]), int(row["devices_per_node"])
        scope = "inside a node, 1 MB and more" if bytes_ >= _COARSE_BYTES else "inside a node, below 1 MB"
        primitive = _primitive(row["collective"])
        return Measured(row["system"], primitive, ranks, bytes_, "median_ms", 1e3, per_node, scope)
    if {"device", "primitive", "num_gpus", "message_MiB"} <= row.keys():
        ranks, primitive = int(row["num_gpus"]), _primitive(row["primitive"])
        whole = float(row["message_MiB"]) * 2**20
        bytes_ = whole / ranks if primitive == "all-to-all" else whole
        return Measured(row["device"], primitive, ranks, bytes_, "time_s", 1.0, ranks, "inside a node")
    if {"size_bytes", "latency_us"} <= row.keys():
        return Measured("4xA100", "all-reduce", 4, float(row["size_bytes"]), "latency_us", 1e6, 4, "NVLink")
    return None


def _primitive(text: str) -> str:
    return _PRIMITIVES.get(text, text.replace("_", "-"))


@KINDS.register("collective")
class Collective:
    """Time of all-reduce, all-gather, reduce-scatter, all-to-all and send/recv.

    The option `link` of a dataset names the link preset or file to use instead of the one known for the machine.
    """

    kind = "collective"
    truth_any = ("latency_ms", "median_ms", "time_s", "latency_us")
    describe = ("gpu", "system", "device", "op_name", "collective", "primitive", "num_gpus", "num_workers",
                "message_size", "size_bytes", "message_MiB")  # fmt: skip

    @staticmethod
    def group_of(row: Row) -> dict[str, str]:
        """Rows are grouped by what they cross, not by machine."""
        found = read_measured(row)
        return {} if found is None else {"scope": found.scope}

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[float | None]], list[str | None]]:
        """Predictions and, per row, the reason why there is none."""
        links: dict[str, Link] = {}
        columns: dict[str, list[float | None]] = {}
        reasons: list[str | None] = []
        for at, row in enumerate(rows):
            found = read_measured(row)
            reason = _unsupported(found, dataset)
            reasons.append(reason)
            if found is None or reason is not None:
                continue
            name = str(dataset.get("link", LINKS.get(found.machine)))
            link = links.setdefault(name, load("link", name)) if name not in links else links[name]
            seconds = SECONDS[found.primitive](link, found.ranks, found.bytes)
            columns.setdefault(found.truth, [None] * len(rows))[at] = seconds * found.scale
        return columns, reasons


def _unsupported(found: Measured | None, dataset: dict[str, Any]) -> str | None:
    if found is None:
        return "columns of no known layout"
    if found.primitive not in SECONDS:
        return f"unknown primitive {found.primitive!r}"
    if "link" not in dataset and found.machine not in LINKS:
        return f"no link preset for {found.machine!r} (the dataset's option `link` can name one)"
    if found.ranks != found.ranks_per_node:
        return "between nodes: the network of the measured machines is not described"
    return None
