"""Any operation on an NPU: its time, traffic and energy by component."""

from __future__ import annotations

from archsim.compute.npu.attention import Attention, solve_attention
from archsim.compute.npu.elementwise import Elementwise, solve_elementwise
from archsim.compute.npu.energy import energy_rates, mac_rate
from archsim.compute.npu.product import Engine, Product
from archsim.compute.operation import Operation, OperationCost
from archsim.compute.per_config import PerConfig
from archsim.config.schemas.npu import Npu
from archsim.errors import ConfigError

Solution = Product | Attention | Elementwise
_flat: PerConfig[Npu, Engine] = PerConfig(Engine.flat)


def solve_operation(engine: Engine, op: Operation) -> Solution:
    """The best mapping of any operation. Raises InfeasibleError if no tile fits."""
    if op.kind in ("gemm", "matmul"):
        return engine.product(op)
    if op not in engine.others:
        engine.others[op] = solve_attention(engine, op) if op.kind == "attention" else solve_elementwise(engine, op)
    found: Solution = engine.others[op]
    return found


def time_operation(npu: Npu, op: Operation, engine: Engine | None = None) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `npu`.

    engine  the device with its memory path; None: any access pattern at the peak bandwidth
    """
    engine = engine or _flat(npu)
    found = solve_operation(engine, op)
    flop = op.flop if isinstance(found, Elementwise) else 2.0 * found.macs
    return OperationCost(found.seconds, flop, found.bytes, found.bound, energy_j(engine, found))


def energy_j(engine: Engine, found: Solution) -> dict[str, float]:
    """Component -> J; adds up to the operation. Leakage is the static power over its time."""
    npu, op = engine.npu, found.op
    rates = energy_rates(npu)
    per_byte = rates.dram.value if rates.dram is not None else engine.path.joules_per_byte
    if per_byte is None:
        raise ConfigError(
            f"npu {npu.name}: its memory's description has no currents and no energy per bit; give energy.dram",
            key="energy.dram",
        )
    macs = 0.0 if isinstance(found, Elementwise) else found.macs
    in_place, converted = npu.in_place_conversion, found.onchip.get("converted", 0.0)
    conversion = {"convert": converted * in_place.energy} if in_place is not None and converted else {}
    return conversion | {
        "mac": macs * mac_rate(npu, max(op.a_bytes, op.b_bytes)).value,
        "scratchpad": found.onchip["scratchpad"] * rates.scratchpad.value,
        "accumulator": found.onchip["accumulator"] * rates.accumulator.value,
        "vector": found.onchip["lanes"] * rates.vector.value,
        "noc": found.onchip["noc"] * rates.noc.value,
        "dram": found.bytes * per_byte,
        "leakage": rates.leakage.value * found.seconds,
    }
