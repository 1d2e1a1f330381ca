"""Kind `gpu-launch`: time from one of many tiny kernels to the next, as scripts/measure_gpu.py times it.

The kernel adds a number to 32 others, so that nothing but its launch takes time. It is what a step pays for an
addition with the launch constants of archsim (archsim/config/schemas/launch.py): paced by the host (eager) or by the
device (graph, whose own start is shared by its kernels).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.compute.gpu.machine import machine_of
from archsim.compute.operation import Operation
from archsim.config.schemas.gpu import Gpu
from archsim.config.schemas.launch import Launch
from archsim.errors import InputError, unknown_name
from archsim.execution.launch import in_graph, launched
from archsim.validation.die_cost import by_row
from archsim.validation.gpu_silicon import Predictions
from archsim.validation.registry import KINDS
from archsim.validation.silicon.predict import calibrated_gpu

_MODES = {mode: Launch(mode=mode) for mode in ("eager", "graph")}
_TINY = Operation("add", 1, 32, a_bytes=4.0, b_bytes=4.0, c_bytes=4.0)


def gap_seconds(gpu: Gpu, mode: str, kernels: int) -> float:
    """Mean time of one of `kernels` tiny kernels in a row. Raises InputError for another mode than eager or graph."""
    if mode not in _MODES:
        raise InputError(unknown_name("mode", mode, _MODES))
    if kernels < 1:
        raise InputError(f"kernels: found {kernels}, expected at least 1")
    machine_of(gpu)  # says what is wrong with a device that is not timed by kernels
    launch = _MODES[mode]
    start_s = launch.graph_launch / kernels if in_graph(launch) else 0.0
    return start_s + launched(gpu, launch, _TINY).seconds


def _gap(row: Mapping[str, str], data_set: str) -> dict[str, float]:
    gpu = calibrated_gpu(row["gpu"], data_set)
    return {"gap_us": gap_seconds(gpu, row["mode"], int(row["kernels"])) * 1e6}


@KINDS.register("gpu-launch")
class GpuLaunch:
    """The gap between kernels that do nothing."""

    truth = ("gap_us",)
    group_by = ("gpu", "mode")
    describe = ("gpu", "mode", "kernels")

    def predict(self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]) -> Predictions:
        """Microseconds of every row."""
        data_set = str(dataset.get("data_set", "gpu-silicon"))
        return by_row(rows, dataset["truth"], lambda row: _gap(row, data_set))
