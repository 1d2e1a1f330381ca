"""Energy rates and area of an NPU: what its description states, and estimates from the technology tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

from archsim.compute.npu import technology
from archsim.compute.npu.technology import Figure
from archsim.compute.per_config import PerConfig
from archsim.config.schemas.model import DTYPE_BYTES
from archsim.config.schemas.npu import Npu

STATED = "the description of the device (its `sources` say more)"


@dataclass(frozen=True)
class EnergyRates:
    """J per byte (dram, scratchpad, accumulator, noc), per multiply-add (mac) and lane operation; leakage in W.

    `dram` is None where it must come from the memory's command engine.
    """

    dram: Figure | None
    scratchpad: Figure
    accumulator: Figure
    mac: Figure
    vector: Figure
    noc: Figure
    leakage: Figure


def _stated(value: float | None, scale: float = 1.0) -> Figure | None:
    return None if value is None else Figure(value * scale, STATED, False)


def _rates(npu: Npu) -> EnergyRates:
    given, node = npu.energy, npu.process_node_nm or 0.0
    pad, sums = npu.scratchpad, npu.accumulator
    return EnergyRates(
        dram=_stated(given.dram),
        scratchpad=_stated(given.scratchpad) or technology.sram_energy(pad.capacity, pad.bank, node),
        accumulator=_stated(given.accumulator) or technology.sram_energy(sums.capacity, sums.bank, node),
        mac=_stated(given.mac, 2.0) or technology.mac_energy(npu.array_dtype, node),
        vector=_stated(given.vector) or technology.vector_energy(node),
        noc=_stated(given.noc) or technology.noc_energy(node),
        leakage=_stated(given.leakage) or _leakage(npu, node),
    )


def _leakage(npu: Npu, node_nm: float) -> Figure:
    parts = [technology.sram_leakage(m.capacity, m.bank, node_nm) for m in (npu.scratchpad, npu.accumulator)]
    total = sum(part.value for part in parts) * npu.cores
    return Figure(total, f"on-chip memories only: {parts[0].source}", True)


energy_rates: PerConfig[Npu, EnergyRates] = PerConfig(_rates)


def mac_rate(npu: Npu, element_bytes: float) -> Figure:
    """J per multiply-add of operands of `element_bytes`: the stated figure scaled by the technology table's ratio.

    A description states one dtype; where the table knows both at the node, the others follow their ratio.
    """
    stated = energy_rates(npu).mac
    wide = [dtype for dtype in npu.peak_flops if DTYPE_BYTES[dtype] >= element_bytes]
    dtype = max(wide, key=lambda name: npu.peak_flops[name], default=npu.array_dtype)
    if dtype == npu.array_dtype or npu.process_node_nm is None:
        return stated
    ratio = (
        technology.mac_energy(dtype, npu.process_node_nm).value
        / technology.mac_energy(npu.array_dtype, npu.process_node_nm).value
    )
    return replace(
        stated, value=stated.value * ratio, source=f"{stated.source}; {dtype} by table ratio", estimated=True
    )


def area(npu: Npu) -> dict[str, Figure]:
    """m2 of the parts the tables know, by component. Control, clocking, PHYs and links are left out.

    Raises ConfigError if the description has no `process_node_nm`.
    """
    node = npu.process_node_nm
    if node is None:
        from archsim.errors import ConfigError

        raise ConfigError(f"npu {npu.name}: an area estimate needs a process node", key="process_node_nm")
    cells = npu.array.rows * npu.array.columns * npu.array.per_core * npu.cores
    mac, lane = technology.mac_area(npu.array_dtype, node), technology.mac_area("fp32", node)
    pad, sums = npu.scratchpad, npu.accumulator
    parts = {
        "arrays": (mac, cells),
        "vector": (lane, npu.vector.lanes * npu.cores),
        "scratchpad": (technology.sram_area(pad.capacity, pad.bank, node), npu.cores),
        "accumulator": (technology.sram_area(sums.capacity, sums.bank, node), npu.cores),
        "noc": (technology.noc_area(node), npu.cores),
    }
    return {
        name: replace(figure, value=figure.value * count, estimated=True) for name, (figure, count) in parts.items()
    }
