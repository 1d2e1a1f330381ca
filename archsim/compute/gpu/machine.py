"""A GPU description as the records that the kernels read, made once per description."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from archsim.compute.gpu import records
from archsim.compute.gpu.records import Records, one_record
from archsim.compute.per_config import PerConfig
from archsim.config.schemas.gpu import Gpu
from archsim.config.schemas.gpu_library import GemmPathName, GpuKernels, VectorName
from archsim.errors import ConfigError

# compute dtype -> kernel paths in order of preference, and the names under which a description lists its peak
_PATHS: dict[str, tuple[GemmPathName, ...]] = {
    "bf16": ("fp16",), "fp16": ("fp16",), "tf32": ("tf32", "fp16"), "fp32": ("fp32", "fp16"),
    "fp8": ("fp8", "fp16"), "int8": ("int8", "fp8", "fp16"), "fp4": ("fp4", "fp8", "fp16"),
    "int4": ("int4", "int8", "fp8", "fp16"),
}  # fmt: skip
_PEAKS: dict[str, tuple[str, ...]] = {
    "bf16": ("bf16", "fp16"), "fp16": ("fp16", "bf16"), "tf32": ("tf32", "fp32"), "fp32": ("fp32",),
    "fp8": ("fp8",), "int8": ("int8",), "fp4": ("fp4",), "int4": ("int4",),
}  # fmt: skip
_ALIASES = {"nvfp4": "fp4", "mxfp4": "fp4", "fp8-e4m3": "fp8", "fp8-e5m2": "fp8", "mxfp8": "fp8"}


def compute_name(dtype: str) -> str:
    """The matrix unit's dtype behind a storage format: nvfp4 -> fp4."""
    return _ALIASES.get(dtype, dtype)


@dataclass(frozen=True, eq=False)
class Machine:
    """One GPU; compared by identity, so that it is a cheap cache key."""

    gpu: Gpu
    kernels: GpuKernels

    @property
    def calibrated(self) -> str | None:
        """Name of the calibration record, or None."""
        return self.kernels.name if self.kernels.calibration else None

    @property
    def note(self) -> str:
        """What a report has to say about the constants."""
        return self.gpu.uncalibrated or ""

    @cached_property
    def device(self) -> Records:
        """The `DEVICE` record."""
        gpu = self.gpu
        return one_record(records.DEVICE, {
            "sms": gpu.cores, "clock_hz": gpu.clock or 0.0, "bandwidth": gpu.memory_bandwidth,
            "l2_bytes": gpu.l2_capacity, "vector_lanes": gpu.vector_lanes, "convert_lanes": gpu.convert_lanes,
            "exponents_per_clock": gpu.exponents_per_clock, "fp16_flops": self._fp16_flops,
        })  # fmt: skip

    @cached_property
    def tiles(self) -> NDArray[np.float64]:
        """(tiles, 2) rows and columns of the GEMM tiles."""
        return np.array(self.kernels.tiles, dtype=np.float64)

    @cached_property
    def _paths(self) -> dict[str, Records]:
        return {}

    def peak_flops(self, dtype: str) -> float:
        """Peak rate of a compute dtype. Raises ConfigError if the device has no unit for it."""
        rates = {str(name): rate for name, rate in self.gpu.peak_flops.items()}
        for name in _PEAKS.get(compute_name(dtype), ()):
            if name in rates:
                return float(rates[name])
        raise ConfigError(f"gpu {self.gpu.name} has no matrix rate for {dtype} (there: {', '.join(rates)})",
                          key="peak_flops")  # fmt: skip

    @property
    def _fp16_flops(self) -> float:
        """Peak 16-bit matrix rate, which results leave the SMs in step with; the highest rate where there is none."""
        rates = {str(name): float(rate) for name, rate in self.gpu.peak_flops.items()}
        return rates.get("fp16") or rates.get("bf16") or max(rates.values())

    def computes(self, dtype: str) -> bool:
        """Whether the device has a matrix unit for `dtype`."""
        return any(name in self.gpu.peak_flops for name in _PEAKS.get(compute_name(dtype), ()))

    def _has_matrix_unit(self, dtype: str) -> bool:
        """fp32 is multiplied by the lanes, and so is tf32 on a device without a rate for it."""
        return compute_name(dtype) != "fp32" and (dtype != "tf32" or "tf32" in self.gpu.peak_flops)

    def gemm(self, dtype: str, weights: str) -> Records:
        """The `GEMM_PATH` record for a compute dtype; `weights` fp16-w8 or fp16-w4 asks for a weight-only kernel."""
        return self._made(f"gemm {dtype} {weights}", lambda: self._gemm(compute_name(dtype), weights))

    def _gemm(self, dtype: str, weights: str) -> Records:
        there = {str(name): path for name, path in self.kernels.gemm.items()}
        for name in (weights, *_PATHS.get(dtype, ())):
            if name in there:
                return self._record(records.GEMM_PATH, there[name], dtype)
        raise ConfigError(f"gpu-kernels {self.kernels.name} has no GEMM path for {dtype}", key="gemm")

    def prefill(self, dtype: str) -> Records:
        """The `PREFILL_PATH` record."""
        return self._made(
            f"prefill {dtype}", lambda: self._record(records.PREFILL_PATH, self.kernels.prefill, compute_name(dtype))
        )

    def mixed(self, dtype: str) -> Records:
        """The `PREFILL_PATH` record of a launch that also holds sequences of one new token."""
        changed = {name: value for name, value in self.kernels.mixed if value is not None}
        kernel = self.kernels.prefill.model_copy(update=changed)
        return self._made(f"mixed {dtype}", lambda: self._record(records.PREFILL_PATH, kernel, compute_name(dtype)))

    def decode(self, dtype: str) -> Records:
        """The `DECODE_PATH` record."""
        return self._made(
            f"decode {dtype}", lambda: self._record(records.DECODE_PATH, self.kernels.decode, compute_name(dtype))
        )

    def moe(self, dtype: str) -> Records:
        """The `MOE_PATH` record."""
        return self._made(f"moe {dtype}", lambda: self._record(records.MOE_PATH, self.kernels.moe, compute_name(dtype)))

    def vector(self, name: VectorName) -> Records:
        """The `VECTOR_PATH` record."""
        if name not in self.kernels.vector:
            raise ConfigError(f"gpu-kernels {self.kernels.name} has no {name} kernel", key="vector")
        return self._made(f"vector {name}", lambda: self._record(records.VECTOR_PATH, self.kernels.vector[name], None))

    def _record(self, dtype: np.dtype[np.void], config: BaseModel, compute: str | None) -> Records:
        values: dict[str, Any] = {**dict(config), "peak_flops": self.peak_flops(compute) if compute else 0.0}
        values["matrix_unit"] = float(compute is not None and self._has_matrix_unit(compute))
        clock = self.gpu.clock or 0.0
        values = {name: value.at(clock) if hasattr(value, "at") else value for name, value in values.items()}
        times = {f"{name}_s": value for name, value in values.items()}
        return one_record(dtype, times | values)

    def _made(self, key: str, make: Any) -> Records:
        if key not in self._paths:
            self._paths[key] = make()
        return self._paths[key]


def _machine(gpu: Gpu) -> Machine:
    if not isinstance(gpu.timing, GpuKernels):
        raise ConfigError(f"gpu {gpu.name} is timed as {gpu.timing.model}, not by kernels", key="timing.model")
    return Machine(gpu, gpu.timing)


machine_of: PerConfig[Gpu, Machine] = PerConfig(_machine)
