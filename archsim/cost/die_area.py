"""How large a logic die will be: transistors and SRAM bits of its parts over the density of a process.

Rules and constants of LLMCompass (Zhang et al., ISCA 2024; cost_model.py at 2e015fd): arithmetic from the Ariane and
OpenPiton cores, register files after EMPIRE, SRAM after CACTI, control and interfaces read off A100 and MI210 die
photographs. GA100 comes out at 826.8 mm2 (826 mm2 in truth).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# process -> million transistors per mm2 of logic, mm2 per SRAM bit
DENSITY_MTR_PER_MM2 = {"7nm": 96.3, "6nm": 114.2, "5nm": 138.2}
SRAM_BIT_MM2 = {"7nm": 1.70e-7, "6nm": 1.40e-7, "5nm": 1.25e-7}
_DENSITY_90NM = 1.6  # the register file fit was made at 90 nm

_FPU64_TRANSISTORS = 685_300.0
_INT32_TRANSISTORS = 177_690.0
_MANTISSA_BITS = {"fp64": 52, "fp32": 23, "fp16": 10}
CONTROL_TRANSISTORS = 996_200.0  # per vector lane
_CROSSBAR_TRANSISTORS = 44_300_000.0  # per core
_SRAM_EFFICIENCY = (0.076, 0.142, 0.247, 0.393, 0.559, 0.704, 0.526, 0.602)  # cells' share of 4 KiB, 8 KiB, ... 512 KiB
_SRAM_SMALLEST_BYTES, _SRAM_LARGEST_BYTES = 2.0**12, 2.0**19

# of one HBM stack, 32 DDR bits, lane or link: mm2 of PHY, which does not shrink, and transistors of controller
INTERFACES = {
    "HBM2e": (10.45, 552_743_000.0), "DDR5": (1.45, 90_446_400.0), "PCIe5": (0.64, 5_372_100.0),
    "PCIe4": (0.48, 3_962_500.0), "NVLink3": (1.888, 74_632_000.0), "NVLink4": (0.965, 86_628_000.0),
    "InfinityFabric": (5.69, 348_148_000.0),
}  # fmt: skip


@dataclass(frozen=True)
class CoreShape:
    """One core: `sublanes` of a vector unit, a systolic array and register files, sharing an SRAM.

    Counts of int32, fp16, fp32 and fp64 units are per sublane; `registers` of `register_bits` per register file.
    """

    sublanes: int
    vector_width: int
    arithmetic: dict[str, int]
    array_rows: int
    array_columns: int
    array_dtype: str
    registers: int
    register_bits: int
    register_ports: int
    register_files: int
    sram_bytes: float


def logic_mm2(transistors: float, process: str) -> float:
    """Area of so many transistors of logic."""
    return transistors / 1e6 / DENSITY_MTR_PER_MM2[process]


def unit_transistors(dtype: str) -> float:
    """One arithmetic unit; a multiplier grows with the square of its mantissa."""
    if dtype == "int32":
        return _INT32_TRANSISTORS
    return _FPU64_TRANSISTORS * (_MANTISSA_BITS[dtype] / _MANTISSA_BITS["fp64"]) ** 2


def sram_mm2(capacity_bytes: float, process: str) -> float:
    """SRAM in equal blocks of at most 512 KiB and at least 4 KiB, each with decoders and sense amplifiers."""
    blocks = max(math.ceil(capacity_bytes / _SRAM_LARGEST_BYTES), 1)
    block_bytes = _SRAM_LARGEST_BYTES if blocks > 1 else max(capacity_bytes, _SRAM_SMALLEST_BYTES)
    efficiency = _SRAM_EFFICIENCY[math.ceil(math.log2(block_bytes / _SRAM_SMALLEST_BYTES))]
    return blocks * block_bytes * 8 * SRAM_BIT_MM2[process] / efficiency


def register_file_mm2(registers: int, bits: int, ports: int, process: str) -> float:
    """EMPIRE's quadratic fit in registers, bits and ports (um2 at 90 nm), scaled by transistor density."""
    um2 = (
        3.29e4 - 1.09e3 * registers - 8.83e2 * bits - 5.55e3 * ports
        + 53.5 * registers * bits + 142.0 * registers * ports + 368.0 * bits * ports
        + 1.5e-2 * registers**2 + 1.08e-2 * bits**2 + 0.586 * ports**2
    )  # fmt: skip
    return um2 / 1e6 * _DENSITY_90NM / DENSITY_MTR_PER_MM2[process]


def core_mm2(core: CoreShape, process: str) -> dict[str, float]:
    """Area of one core by part: control, arithmetic, systolic_array, register_files, sram."""
    arithmetic = sum(unit_transistors(dtype) * count for dtype, count in core.arithmetic.items())
    array = unit_transistors(core.array_dtype) * core.array_rows * core.array_columns
    registers = register_file_mm2(core.registers, core.register_bits, core.register_ports, process)
    return {
        "control": logic_mm2(CONTROL_TRANSISTORS * core.vector_width, process) * core.sublanes,
        "arithmetic": logic_mm2(arithmetic, process) * core.sublanes,
        "systolic_array": logic_mm2(array, process) * core.sublanes,
        "register_files": registers * core.register_files * core.sublanes,
        "sram": sram_mm2(core.sram_bytes, process),
    }


def interface_mm2(interface: str, count: int, process: str) -> tuple[float, float]:
    """(PHY, controller) of `count` units of one interface, a key of INTERFACES."""
    phy_mm2, transistors = INTERFACES[interface]
    return phy_mm2 * count, logic_mm2(transistors * count, process)


def accelerator_mm2(
    core: CoreShape, cores: int, process: str, buffer_bytes: float, interfaces: dict[str, int], io_process: str = ""
) -> dict[str, float]:
    """Area of an accelerator by part: cores, crossbar, buffer, phys, controllers; the last three on `io_process`."""
    outer = io_process or process
    parts = [interface_mm2(name, count, outer) for name, count in interfaces.items()]
    return {
        "cores": sum(core_mm2(core, process).values()) * cores,
        "crossbar": logic_mm2(_CROSSBAR_TRANSISTORS, process) * cores,
        "buffer": sram_mm2(buffer_bytes, outer),
        "phys": sum(phy for phy, _ in parts),
        "controllers": sum(controller for _, controller in parts),
    }
