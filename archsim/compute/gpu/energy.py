"""Energy of a GPU operator and the rate that the board's power limit leaves it."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.compute.gpu.machine import compute_name, machine_of
from archsim.compute.gpu.operators import Attention, Gemm, GpuOperator, Moe
from archsim.compute.gpu.result import KernelTime
from archsim.config.schemas.gpu import Gpu
from archsim.config.schemas.power import Power


@dataclass(frozen=True)
class Work:
    """What an operator does that costs energy.

    flop, padding_flop  operations on data, and on the padding of tiles
    operand_bytes       from L2 into the multiprocessors
    """

    dtype: str
    flop: float
    padding_flop: float
    operand_bytes: float
    dram_bytes: float


@dataclass(frozen=True)
class PoweredTime:
    """An operator under the power limit: seconds at least those of the kernel model, energy by component."""

    seconds: float
    energy_j: dict[str, float]

    @property
    def watts(self) -> float:
        """Mean board power."""
        return sum(self.energy_j.values()) / self.seconds


def work_of(gpu: Gpu, operator: GpuOperator, time: KernelTime) -> Work:
    """Operations and bytes of an operator, with the tiles that the kernel model chose."""
    if isinstance(operator, Gemm):
        tile_m, tile_n = time.choice["tile_m"], time.choice["tile_n"]
        rows, columns = -(-operator.m // tile_m), -(-operator.n // tile_n)
        padded = 2.0 * rows * tile_m * columns * tile_n * operator.k * operator.count
        operand = (operator.m * columns * operator.a.bytes + operator.n * rows * operator.b.bytes) * operator.k
        stored = operator.m * operator.n * operator.c.bytes
        moved = (operand + stored) * operator.count
        return Work(compute_name(operator.compute), time.flop, padded - time.flop, moved, time.dram_bytes)
    if isinstance(operator, Attention):
        return _attention_work(gpu, operator, time)
    if isinstance(operator, Moe):
        mean_load = sum(operator.loads) / max(sum(1 for load in operator.loads if load > 0), 1)
        rows = max(1.0, min(mean_load, time.choice.get("tile_m", mean_load)))  # that share a read of the weights
        columns = machine_of(gpu).kernels.moe.tile_n
        operand = time.flop / 2.0 * (operator.b.bytes / rows + operator.a.bytes / columns)
        return Work(compute_name(operator.compute), time.flop, 0.0, operand, time.dram_bytes)
    return Work("fp32", time.flop, 0.0, time.dram_bytes, time.dram_bytes)


def _attention_work(gpu: Gpu, operator: Attention, time: KernelTime) -> Work:
    kernels = machine_of(gpu).kernels
    pairs = time.flop / (4.0 * operator.heads * operator.head_dim)  # query and key
    if operator.new_tokens == 1 and operator.decodes == 0:
        group = operator.heads / operator.kv_heads
        rows = kernels.decode.group_tile * -(-group // kernels.decode.group_tile)
        padding = time.flop * (rows / group - 1.0)
        keys = 2.0 * operator.head_dim * operator.kv.bytes * operator.kv_heads * pairs
        return Work(compute_name(operator.compute), time.flop, padding, keys, time.dram_bytes)
    tiles = pairs * operator.heads / kernels.prefill.query_tile  # keys that tiles of queries pass
    operand = 2.0 * operator.head_dim * operator.kv.bytes * tiles
    return Work(compute_name(operator.compute), time.flop, 0.0, operand + time.dram_bytes, time.dram_bytes)


def powered(gpu: Gpu, work: Work, seconds: float, extra_j: float = 0.0) -> PoweredTime:
    """Seconds and energy of `work` that the kernel model runs in `seconds`.

    With a `power` description, work that would exceed the board's limit is stretched until power equals it. Without
    one, the energy of the parts: DRAM, L2, L1, registers and arithmetic.
    extra_j  energy beside the work (conversions)
    """
    power = gpu.power
    if power is None:
        return PoweredTime(seconds, _parts_energy(gpu, work) | ({"convert": extra_j} if extra_j else {}))
    per_flop = flop_joules(power, work.dtype)
    dynamic = {
        "alu": work.flop * per_flop + work.padding_flop * per_flop * power.padding,
        "l2": work.operand_bytes * power.operand,
        "dram": work.dram_bytes * power.dram,
    } | ({"convert": extra_j} if extra_j else {})
    if gpu.tdp is not None and gpu.tdp > power.base:
        seconds = max(seconds, sum(dynamic.values()) / (gpu.tdp - power.base))
    return PoweredTime(seconds, dynamic | {"base": power.base * seconds})


def flop_joules(power: Power, dtype: str) -> float:
    """Energy of an operation in a compute dtype; the widest described where that dtype is not."""
    known = {str(name): joules for name, joules in power.flop.items()}
    return known.get("fp16" if dtype == "bf16" else dtype, max(known.values()))


def _parts_energy(gpu: Gpu, work: Work) -> dict[str, float]:
    table = gpu.energy
    operands = 2.0 * work.flop / 2.0  # two operand elements a multiply-add, one byte of register traffic a FLOP
    return {
        "dram": work.dram_bytes * table.dram,
        "l2": work.operand_bytes * table.l2,
        "l1": work.operand_bytes * table.l1,
        "register": operands * table.registers,
        "alu": work.flop * table.alu,
    }
