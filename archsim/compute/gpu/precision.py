"""Stored, computed and summed dtype of a product and where its elements are converted, as the GPU model's operands.

Formulas: Ladder (OSDI 2024): bytes move in the stored dtype up to the conversion site and in the computed dtype from
there on; converting later moves fewer bytes but repeats the work for every tile of rows that uses an element.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from archsim.compute.gpu.machine import compute_name, machine_of
from archsim.compute.gpu.operators import L2, STORED_BITS, Gemm, Operand
from archsim.compute.gpu.result import KernelTime
from archsim.compute.gpu.time import gpu_operator_time
from archsim.config.schemas.conversion import Conversions
from archsim.config.schemas.gpu import Gpu
from archsim.errors import ConfigError

Site = Literal["dram", "smem", "register", "near-bank"]
_NATURAL = {"fp8-e4m3": "fp8", "fp8-e5m2": "fp8", "mxfp8": "fp8", "nvfp4": "fp4", "mxfp4": "fp4", "fp4": "fp4"}
_INTEGERS = ("int8", "int4", "int2", "int1")
_BLOCKS = ("mxfp8", "mxfp4", "nvfp4")


@dataclass(frozen=True)
class Precision:
    """How a product is stored and computed.

    compute       dtype of the matrix unit; None: the narrowest that holds both operands and that the device has
    accumulate    dtype of the sums
    group         weights that share a scale; 0: the dtype's own blocks, or none
    site          where operands are converted: dram (a pass of its own that writes them out), smem, register, or
                  None for the fastest of these; near-bank is for memories that compute
    """

    weight: str = "bf16"
    activation: str = "bf16"
    compute: str | None = None
    accumulate: str = "fp32"
    group: int = 0
    scale_bytes: float = 0.0
    site: Site | None = None


def _scales_blocks(gpu: Gpu) -> bool:
    """Whether the matrix unit applies the scales of blocks itself: the units that came with 4-bit floats do."""
    return machine_of(gpu).computes("fp4")


def serving_dtype(gpu: Gpu, weight: str, activation: str) -> str:
    """The dtype in which a serving framework multiplies: it quantises wide activations where that gives a faster unit.

    Weights in a float format the device has a unit for are multiplied in it; integer weights only if the activations
    are integers too; all else in the dtype of the activations (in fp16 if that has no unit).
    """
    machine = machine_of(gpu)
    natural = _NATURAL.get(weight, weight)
    if natural in ("fp8", "fp4") and machine.computes(natural) and (weight not in _BLOCKS or _scales_blocks(gpu)):
        return natural
    if activation in (*_INTEGERS, "fp8", *_NATURAL):
        return compute_dtype(gpu, weight, activation)
    wide = weight if STORED_BITS[weight] > STORED_BITS[activation] else activation
    return wide if machine.computes(wide) else "fp16"


@dataclass(frozen=True)
class ConvertedGemm:
    """The time of a product with its conversions.

    site          where they were done ("none" without any)
    pass_s        seconds of a separate conversion pass, in `time.seconds` too
    conversions   elements converted, repetitions counted; conversion_j: their energy
    """

    time: KernelTime
    gemm: Gemm
    site: str
    pass_s: float
    conversions: float
    conversion_j: float


def compute_dtype(gpu: Gpu, weight: str, activation: str) -> str:
    """The narrowest dtype of a matrix unit that holds both operands: Ladder's choice.

    Integers of unequal width compute in the wider; floats the device has no unit for compute in fp16.
    """
    machine = machine_of(gpu)
    if weight in _INTEGERS and activation in _INTEGERS:
        for dtype in ("int4", "int8"):
            wide = max(STORED_BITS[weight], STORED_BITS[activation])
            if STORED_BITS[dtype] >= wide and machine.computes(dtype):
                return dtype
    wider = weight if STORED_BITS[weight] >= STORED_BITS[activation] else activation
    natural = _NATURAL.get(wider, wider)
    usable = natural not in (*_INTEGERS, "nf4") and (wider not in _BLOCKS or weight == activation)
    if (natural == "fp8" and weight in (*_INTEGERS, "nf4")) or (wider in _BLOCKS and not _scales_blocks(gpu)):
        usable = False
    if usable and machine.computes(natural):
        return natural
    return "fp16" if activation != "bf16" else "bf16"


def time_gemm(
    gpu: Gpu, table: Conversions, m: float, n: float, k: float, how: Precision, l2: L2 = "cold"
) -> ConvertedGemm:
    """Time and conversion work of (m, k) x (k, n) in the precision `how`.

    Activations are converted once, in the kernel that wrote them; weights in every tile of rows that uses them.

    Raises ConfigError where the table lacks a conversion or the site is not one a GPU has.
    """
    if how.site == "near-bank":
        raise ConfigError("site: found near-bank, a GPU converts at dram, smem or register", key="site")
    compute = how.compute or compute_dtype(gpu, how.weight, how.activation)
    gemm = Gemm(
        m, n, k, a=Operand(compute if slots(table, how.activation, compute, "register") else how.activation),
        b=Operand(how.weight, how.group, how.scale_bytes), c=Operand("fp32" if compute == "fp32" else "fp16"),
        compute=compute, accumulate=how.accumulate, l2=l2,
    )  # fmt: skip
    sites: tuple[Site, ...] = ("register",) if m <= 1 else ("smem", "dram")
    if how.site is not None:
        sites = (how.site,)
    elif m > 1 and how.weight == compute:
        sites = ("smem",)
    found = [_at_site(gpu, table, gemm, how, site) for site in sites]
    return min(found, key=lambda one: one.time.seconds)


def _at_site(gpu: Gpu, table: Conversions, gemm: Gemm, how: Precision, site: Site) -> ConvertedGemm:
    weight_slots = slots(table, how.weight, gemm.compute, site)
    if site == "dram" and how.weight != gemm.compute:
        found = _after_pass(gpu, table, gemm, weight_slots)
    else:
        converted = replace(gemm, b=replace(gemm.b, slots=weight_slots))
        time = gpu_operator_time(gpu, converted)
        elements = gemm.n * gemm.k * max(1.0, -(-gemm.m // time.choice["tile_m"]))
        elements *= float(how.weight != gemm.compute)
        found = ConvertedGemm(time, converted, site if elements else "none", 0.0, elements,
                              elements * weight_slots * table.slot_energy)  # fmt: skip
    return _with_activations(gpu, table, found, how.activation)


def _with_activations(gpu: Gpu, table: Conversions, found: ConvertedGemm, activation: str) -> ConvertedGemm:
    """Add the conversion of the activations, once, beside the launches there are."""
    gemm = found.gemm
    need = slots(table, activation, gemm.compute, "register")
    if need == 0.0:
        return found
    elements = gemm.m * gemm.k
    seconds = elements * need / _lanes(gpu)
    time = replace(
        found.time, seconds=found.time.seconds + seconds,
        parts_s=found.time.parts_s | {"activation_conversion": seconds},
    )  # fmt: skip
    return replace(
        found, time=time, conversions=found.conversions + elements,
        conversion_j=found.conversion_j + elements * need * table.slot_energy,
    )  # fmt: skip


def _lanes(gpu: Gpu) -> float:
    """Lane slots per second of the whole device."""
    return gpu.cores * gpu.convert_lanes * float(machine_of(gpu).device[0]["clock_hz"])


def _after_pass(gpu: Gpu, table: Conversions, gemm: Gemm, weight_slots: float) -> ConvertedGemm:
    """A kernel that converts all weights and writes them out, then the product in the computed dtype."""
    wide = replace(gemm, b=Operand(gemm.compute))
    elements = gemm.n * gemm.k
    moved = elements * (gemm.b.bytes + wide.b.bytes)
    path = machine_of(gpu).gemm(gemm.compute, "")[0]
    stream_s = moved / (gpu.memory_bandwidth * float(path["bandwidth_share"]))
    pass_s = float(path["launch_s"]) + max(stream_s, elements * weight_slots / _lanes(gpu))
    time = gpu_operator_time(gpu, wide)
    whole = replace(
        time, seconds=time.seconds + pass_s, parts_s=time.parts_s | {"conversion_pass": pass_s},
        dram_bytes=time.dram_bytes + moved, bound="conversion" if pass_s > time.seconds else time.bound,
    )  # fmt: skip
    return ConvertedGemm(whole, wide, "dram", pass_s, elements, elements * weight_slots * table.slot_energy)


def slots(table: Conversions, stored: str, compute: str, site: Site) -> float:
    """Lane slots per element from `stored` to `compute`; 0 where the unit takes the stored dtype as it is."""
    stored = "fp8-e4m3" if stored == "fp8" else stored
    target = {"fp8": "fp8-e4m3", "tf32": "fp32"}.get(compute, compute)
    routes = {str(name): {str(to): cost for to, cost in costs.items()} for name, costs in table.costs.items()}
    if target not in routes.get(stored, {}):
        if stored in (compute, target) or compute_name(stored) == compute:
            return 0.0
        raise ConfigError(f"conversion {table.name} has no route from {stored} to {target}", key="costs")
    cost = routes[stored][target]
    return cost.smem if site == "smem" else cost.registers


def conversion_balance(gpu: Gpu, table: Conversions, stored: str, compute: str) -> float:
    """Lane slots per second over those needed to convert weights that stream at full bandwidth.

    Below one, a matrix x vector product is bound by conversion, not by memory.
    """
    need = slots(table, stored, compute, "register")
    if need == 0.0:
        return float("inf")
    return _lanes(gpu) / (gpu.memory_bandwidth / Operand(stored).bytes * need)
