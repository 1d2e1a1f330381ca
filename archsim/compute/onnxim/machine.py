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
    memory_bytes_per_cycle   all cores together, when b of them ask for d different streams: row b - 1, entry d - 1.
                             Cores that read the same addresses at the same time find the rows of the memory open
    latency_cycles           from a request to its data without contention
    """

    cores: int
    side: int
    element_bytes: int
    result_bytes: int
    scratchpad_bytes: int
    accumulator_bytes: int
    request_bytes: int
    memory_bytes_per_cycle: tuple[tuple[float, ...], ...]
    latency_cycles: float


# ONNXim a1e8629, configs/systolic_ws_128x128_c4_simple_noc_tpuv4.json: 1 GHz, 16 HBM2 channels at 1200 MHz, of which
# the network reaches each with one request a cycle (512 of 614 B) and takes up to 16 of a core in turn.
# memory_bytes_per_cycle: archsim's command engine with that HBM2's timings on sequential streams, each core's 16
# requests at a time, MOP4CLXOR (the configuration's own mapping is not known), all-bank refresh. Cores start in step,
# a tile apart in memory, where banks collide, and drift: the mean of runs that begin a tile apart (reductions of 512 to
# 8192, tiles of 128 to 512 outputs) and of runs that begin anywhere. tests/test_compute_onnxim.py measures it again.
# latency_cycles: idle random read of Ramulator 2.1's HBM2, 44-46 ns.
TPUV4 = OnnximMachine(
    cores=4, side=128, element_bytes=2, result_bytes=4, scratchpad_bytes=32 << 20, accumulator_bytes=4 << 20,
    request_bytes=32, latency_cycles=45.0,
    memory_bytes_per_cycle=(
        (470.7,),
        (492.7, 477.4),
        (500.4, 493.8, 469.1),
        (504.3, 493.2, 470.3, 462.3),
    ),
)  # fmt: skip
