"""What ONNXim's model of an NPU is configured with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OnnximMachine:
    """Equal cores with one square weight-stationary array each, behind one memory. A cycle is the cores' clock.

    side                     rows and columns of the array
    scratchpad_bytes         of one core; each of two resident tiles gets half
    accumulator_bytes        of one core, results of `result_bytes`; the mapping halves it as well
    request_bytes            of a memory request; edges of a block are rounded up to whole requests
    memory_bytes_per_cycle   all cores together: what the network hands to the memory, or the memory's peak if less
    refresh_interval_cycles  from one refresh to the next, all channels together
    refresh_cycles           in which the memory serves nothing
    latency_cycles           from a request to its data without contention
    """

    cores: int
    side: int
    element_bytes: int
    result_bytes: int
    scratchpad_bytes: int
    accumulator_bytes: int
    request_bytes: int
    memory_bytes_per_cycle: float
    refresh_interval_cycles: float
    refresh_cycles: float
    latency_cycles: float


# ONNXim a1e8629, configs/systolic_ws_128x128_c4_simple_noc_tpuv4.json: 1 GHz, 16 HBM2 channels at 1200 MHz, of which
# the network reaches each with one request a cycle (512 of 614 B). Refresh: Ramulator 2.1 c5b1c3a, HBM2 of 8 Gb at
# 2.4 Gb/s, tRFC 421 and tREFI 4682 clocks of 833 ps. Latency: idle random read in the same model, 44-46 ns.
TPUV4 = OnnximMachine(
    cores=4, side=128, element_bytes=2, result_bytes=4, scratchpad_bytes=32 << 20, accumulator_bytes=4 << 20,
    request_bytes=32, memory_bytes_per_cycle=512.0, refresh_interval_cycles=3900.0, refresh_cycles=350.0,
    latency_cycles=45.0,
)  # fmt: skip
