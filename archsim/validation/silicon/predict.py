"""Predictions for many rows: each on its device's calibration record, all of one device in one call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from archsim.compute.gpu import GpuOperator, gpu_operator_seconds
from archsim.config import load
from archsim.config.presets import preset_names
from archsim.errors import ArchsimError
from archsim.validation.silicon.rows import device_of

Located = tuple[str, GpuOperator]  # name of the device in the table, operator


@cache
def calibrated_gpu(device: str, data_set: str) -> Any:
    """The GPU behind a table's device name, with its calibration to `data_set` if it has one, else as shipped.

    Raises InputError for a device without preset.
    """
    preset = device_of(device)
    record = f"{preset}.{data_set}"
    if record in preset_names("gpu-kernels"):
        return load("gpu", preset, [f"timing={{use: gpu-kernels/{record}}}"])
    return load("gpu", preset)


def row_seconds(
    rows: Sequence[Mapping[str, str]], data_set: str, convert: Callable[[Mapping[str, str]], Located]
) -> tuple[list[float | None], list[str | None]]:
    """Seconds of every row, or None and the reason why there are none."""
    seconds: list[float | None] = [None] * len(rows)
    reasons: list[str | None] = [None] * len(rows)
    at: dict[str, list[tuple[int, GpuOperator]]] = defaultdict(list)
    for i, row in enumerate(rows):
        try:
            device, operator = convert(row)
            calibrated_gpu(device, data_set)
            at[device].append((i, operator))
        except ArchsimError as error:
            reasons[i] = str(error)
        except (ValueError, KeyError) as error:
            reasons[i] = f"not readable: {error}"
    for device, found in at.items():
        try:
            times = gpu_operator_seconds(calibrated_gpu(device, data_set), [operator for _, operator in found])
        except ArchsimError as error:
            for i, _ in found:
                reasons[i] = str(error)
            continue
        for (i, _), time_s in zip(found, times, strict=True):
            seconds[i] = float(time_s)
    return seconds, reasons
