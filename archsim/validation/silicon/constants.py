"""The constants that are fitted, with their bounds: per operator class those of a device and those of all GPUs.

Times on the chip are fitted in clocks, which devices of one kernel library share; what is timed from the host is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from archsim.validation.silicon.fit import Constant

WAITS = ("cold_s", "prologue_s")
_REFERENCE_HZ = 2e9  # bounds of times are written in seconds at about this clock
Bounds = dict[str, tuple[float, float, float]]  # name -> low, high, smallest magnitude of a step

# the value at which a shared constant does nothing
WITHOUT = {
    "tail_hidden": 1.0, "tile_slope": 0.0, "split_s": 0.0, "cold_s": 0.0,
    "overlap": 64.0, "epilogue_depth": 0.0, "quantise_s": 0.0, "quantise_row_s": 0.0,
    "quantise_bandwidth_share": 1.0, "quantise_l2_gain": 1.0, "spread": 0.0, "combine_s": 0.0, "kv_write_s": 0.0,
    "l2_gain": 1.0, "l2_share": 1e-6, "combine_part_s": 0.0, "query_row_s": 0.0, "round_penalty": 1.0,
    "regroup_s": 0.0, "full_rows": 1.0,
}  # fmt: skip


def constants(table: Bounds, shared: bool = False) -> tuple[Constant, ...]:
    """Constants of these bounds; times are seconds."""
    return tuple(Constant(name, low, high, shared, floor) for name, (low, high, floor) in table.items())


def in_clocks(found: Iterable[Constant]) -> tuple[Constant, ...]:
    """The same constants with the times, but for those that are waits for DRAM, in clocks of the device."""
    return tuple(
        replace(c, clocks=True, low=c.low * _REFERENCE_HZ, high=c.high * _REFERENCE_HZ, floor=c.floor * _REFERENCE_HZ)
        if c.name.endswith("_s") and c.name not in WAITS
        else c
        for c in found
    )


def pick(table: Iterable[Constant], *names: str) -> tuple[Constant, ...]:
    """The constants of these names."""
    return tuple(constant for constant in table if constant.name in names)


_GEMM_OWN: Bounds = {
    "launch_s": (1e-7, 1e-4, 1e-8), "tensor_share": (0.3, 1.0, 0.01), "bandwidth_share": (0.2, 1.0, 0.01),
    "l2_share": (0.02, 1.0, 0.01),
}  # fmt: skip
GEMM_OWN = in_clocks(constants(_GEMM_OWN))
GEMM_TIMED = pick(constants(_GEMM_OWN), "launch_s", "tensor_share", "bandwidth_share")  # data sets with own launches
EPILOGUE = constants({"epilogue_depth": (2, 2000, 1)})
GEMM_SHARED = in_clocks(constants({
    "tail_hidden": (0.0, 1.0, 0.05), "tile_slope": (0.02, 0.95, 0.01),
    "split_s": (2e-7, 8e-6, 1e-8), "cold_s": (5e-8, 3e-6, 1e-8),
    "overlap": (1.5, 32, 1), "epilogue_depth": (2, 2000, 1),
}, shared=True))  # fmt: skip
QUANTISE = in_clocks(constants({
    "quantise_s": (1e-7, 2e-5, 1e-8), "quantise_row_s": (1e-8, 5e-6, 1e-9),
    "quantise_bandwidth_share": (0.1, 1, 0.01), "quantise_l2_gain": (0.05, 1, 0.01),
}, shared=True))  # fmt: skip
PREFILL_OWN = constants({
    "launch_s": (1e-7, 3e-5, 1e-8), "tensor_share": (0.2, 1, 0.01), "serial": (0, 1, 0.05),
    "unit_s": (1e-7, 1e-5, 1e-8),
})  # fmt: skip
PREFILL_SHARED = in_clocks(constants({
    "spread": (0, 2, 0.05), "combine_s": (2e-7, 2e-5, 1e-8), "kv_write_s": (1e-8, 2e-6, 1e-9),
    "l2_gain": (0.02, 1, 0.01), "l2_share": (0.05, 1, 0.01), "overlap": (1.5, 32, 1),
}, shared=True))  # fmt: skip
MIXED_OWN = constants({
    "overlap": (1.5, 32, 1), "bandwidth_share": (0.2, 1, 0.01), "empty_unit_s": (1e-8, 3e-6, 1e-9),
})  # fmt: skip
DECODE_OWN = constants({
    "launch_s": (1e-7, 3e-5, 1e-8), "bandwidth_share": (0.2, 1, 0.01), "l2_share": (0.02, 1, 0.01),
    "stream_bandwidth": (5e9, 1e12, 1e9), "prologue_s": (1e-7, 1e-5, 1e-8),
})  # fmt: skip
DECODE_SHARED = in_clocks(constants({
    "combine_part_s": (1e-9, 1e-6, 1e-10), "query_row_s": (1e-9, 1e-6, 1e-10), "round_penalty": (1, 4, 1),
    "cold_s": (1e-7, 1e-5, 1e-8), "regroup_s": (0, 2e-5, 0.0),
}, shared=True))  # fmt: skip
MOE_OWN = in_clocks(constants({
    "launch_s": (1e-7, 1e-4, 1e-8), "tensor_share": (0.1, 1, 0.01), "round_s": (1e-8, 1e-5, 1e-9),
    "unaligned_loads": (1, 12, 1),
}))  # fmt: skip
MOE_SHARED = constants({
    "l2_share": (0.05, 1, 0.01), "full_rows": (16, 256, 1), "overlap": (1.5, 32, 1),
}, shared=True)  # fmt: skip
_VECTOR: Bounds = {
    "launch_s": (1e-7, 1e-4, 1e-8), "bandwidth_share": (0.05, 1, 0.01), "slots_per_element": (0, 400, 4),
    "row_clocks_per_element": (0, 10, 0.05), "row_s": (1e-8, 5e-6, 1e-9),
}  # fmt: skip
L2_VECTOR = constants({"l2_gain": (1, 8, 1), "l2_reach": (0.2, 3, 0.1)}, shared=True)


def vector_own(*names: str) -> tuple[Constant, ...]:
    """A vector kernel's own constants."""
    return constants({name: _VECTOR[name] for name in names})
