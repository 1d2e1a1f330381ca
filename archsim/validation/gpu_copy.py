"""Kind `gpu-copy`: copies on one GPU and between it and its host, as scripts/measure_gpu.py times them.

A copy on the device is a kernel that reads and writes every byte once, in DRAM or L2 by its working set, timed in a
graph like every operator. A copy from or to the host is started by the host and crosses the link that the dataset
names in `host_link` (pcie5-x16).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.config.schemas.launch import Launch
from archsim.config.schemas.link import Link
from archsim.errors import InputError, unknown_name
from archsim.network import transfer_seconds
from archsim.validation.gpu_silicon import Predictions
from archsim.validation.registry import KINDS
from archsim.validation.silicon.measured import device_copy
from archsim.validation.silicon.predict import Located, row_seconds
from archsim.validation.silicon.rows import device_of

_HOST = ("host-to-device", "device-to-host")
_DIRECTIONS = (*_HOST, "device-to-device")


@cache
def _link(name: str) -> Link:
    found: Link = load("link", name)
    return found


def _locate(row: Mapping[str, str]) -> Located:
    if row["direction"] not in _DIRECTIONS:
        raise InputError(unknown_name("direction", row["direction"], _DIRECTIONS))
    return row["gpu"], device_copy(row)


def host_copy_seconds(link: Link, bytes_: float) -> float:
    """A copy over the link to the host, its start from the host included."""
    return Launch().eager_dispatch + transfer_seconds(link, bytes_)


@KINDS.register("gpu-copy")
class GpuCopy:
    """Copies of one block of memory."""

    truth = ("latency_us",)
    group_by = ("gpu", "direction")
    describe = ("gpu", "direction", "bytes")

    def predict(self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]) -> Predictions:
        """Microseconds of every row."""
        seconds, reasons = row_seconds(rows, str(dataset.get("data_set", "gpu-silicon")), _locate)
        name = dataset.get("host_link")
        for i, row in enumerate(rows):
            if reasons[i] is not None or row["direction"] not in _HOST:
                continue
            device_of(row["gpu"])
            seconds[i] = host_copy_seconds(_link(str(name)), float(row["bytes"])) if name else None
            reasons[i] = None if name else "no link to the host: the dataset's host_link names one (pcie5-x16)"
        return {"latency_us": [None if value is None else value * 1e6 for value in seconds]}, reasons
