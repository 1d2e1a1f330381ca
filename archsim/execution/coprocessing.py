"""Feed-forward GEMMs of a decode step, shared out between a processor and a memory that computes (AttAcc).

Every row of the batch is one pass of GEMV over the memory's share of the weights, so its rate does not grow with
the batch; the share is chosen so that both sides finish together.
"""

from __future__ import annotations

from archsim.compute.operation import Operation
from archsim.config.schemas.cpu import Cpu
from archsim.config.schemas.gpu import Gpu
from archsim.config.schemas.npu import Npu
from archsim.config.schemas.pim import Pim
from archsim.mapping.plan import Coprocessed


def coprocess(
    processor: Gpu | Npu | Cpu,
    pim: Pim,
    work: Coprocessed,
    alone_s: float,
    bound: str,
    limit: float,
    reference_slips: bool,
) -> tuple[float, float, dict[str, float]]:
    """Share of the weights computed in memory, seconds, and energy of one memory device by component.

    alone_s is the time on the processor alone, `limit` the largest share there is room for. With `reference_slips`
    the share comes from bare peak rates, as in the AttAcc simulator (c600051, src/system.py), and costs no energy.
    """
    operation, devices = work.compute.operation, work.compute.devices
    pim_rate = pim.peak_internal_bandwidth * work.pim_devices / devices  # per processor
    if reference_slips:
        share = _reference_share(processor, operation, pim_rate, bound)
        return share, alone_s * (1.0 - share), {}
    pim_s = operation.m * work.weight_bytes / pim_rate
    share = min(alone_s / (alone_s + pim_s), limit)
    read_bytes = share * operation.m * work.weight_bytes * devices / work.pim_devices
    macs = share * operation.flop / 2.0 * devices / work.pim_devices
    energy = {"ffn_cell": read_bytes * pim.energy.cell, "ffn_alu": macs * pim.energy.mac}
    return share, max(alone_s * (1.0 - share), pim_s * share), energy


def _reference_share(processor: Gpu | Npu | Cpu, operation: Operation, pim_rate: float, bound: str) -> float:
    advantage = pim_rate / processor.memory_bandwidth
    if bound == "compute":
        peak_flops = processor.flops_for(2.0)  # of 16-bit operands, whatever the operands are
        pim_flops = processor.memory_bandwidth * 2.0 * advantage / operation.b_bytes
        return pim_flops / (peak_flops + pim_flops)
    ratio = advantage / operation.m
    return ratio / (1.0 + ratio)
