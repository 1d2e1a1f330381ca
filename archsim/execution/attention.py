"""Fused attention in memory: the face that the command-level PIM models show to the evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.compute.per_config import PerConfig
from archsim.config.schemas.pim import InPlaceConversion, Pim
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.errors import ConfigError
from archsim.mapping.plan import PimAttention

if TYPE_CHECKING:
    from archsim.memory.pim.device import PimDevice


@dataclass(frozen=True)
class AttentionCost:
    """Score, softmax and context of one layer and step on one device.

    energy_j      component -> J
    time_split_s  cause -> s, adding up to seconds
    uncounted_s   softmax time that the AttAcc simulator lets overlap but leaves out of the sum (its own slip)
    """

    seconds: float
    energy_j: dict[str, float]
    time_split_s: dict[str, float]
    uncounted_s: float = 0.0

    @property
    def bound(self) -> str:
        """What took most of the time, e.g. `pim-mac`."""
        return f"pim-{max(self.time_split_s, key=lambda part: self.time_split_s[part])}" if self.time_split_s else "pim"


AttentionModel = Callable[[Pim | NeupimsDevice, PimAttention], AttentionCost]


def _compile(pim: Pim) -> PimDevice:
    from archsim.memory.pim.device import compile_pim

    return compile_pim(pim)


_compiled: PerConfig[Pim, PimDevice] = PerConfig(_compile)


def simulated_attention(device: Pim | NeupimsDevice, work: PimAttention) -> AttentionCost:
    """Attention by the command-level simulation of the memory.

    Raises ConfigError if the units cannot multiply elements of the KV cache's size, or not in its head layout.
    """
    return _neupims(device, work) if isinstance(device, NeupimsDevice) else _attacc(device, work)


def _attacc(pim: Pim, work: PimAttention) -> AttentionCost:
    from archsim.memory.pim.attacc import (
        simulate_device_attention,  # compiled kernels: only machines with PIM load them
    )

    stored, element_bytes = work.kv_element_bytes, int(work.kv_element_bytes)
    convert = pim.in_place_conversion
    converts = convert is not None and any(math.isclose(stored, known) for known in convert.stored_bytes)
    if converts and convert is not None:
        element_bytes = convert.multiply_bytes
    elif element_bytes != stored or element_bytes not in pim.element_bytes:
        sizes = ", ".join(f"{size} B" for size in pim.element_bytes)
        raise ConfigError(
            f"found a KV cache with elements of {stored:g} B, {pim.name} multiplies {sizes}", key="kv_dtype"
        )
    found = simulate_device_attention(
        _compiled(pim), work.context_tokens, work.heads_per_device, work.head_size, element_bytes, work.queries_per_kv
    )
    uncounted_s = reference_softmax_s(pim, work) if pim.reference_slips is True else 0.0
    cost = AttentionCost(found.seconds, found.energy_j, found.time_split_s, uncounted_s)
    return _converted(cost, convert, work) if converts and convert is not None else cost


def _converted(cost: AttentionCost, convert: InPlaceConversion, work: PimAttention) -> AttentionCost:
    """Attention on elements stored narrower than they are multiplied: the pace of the slowest stage."""
    share = work.kv_element_bytes / convert.multiply_bytes
    pace = max(share, 1.0 / convert.conversion_rate, 1.0 / convert.multiply_rate)
    mac_s = cost.time_split_s.get("mac", 0.0)
    split_s = cost.time_split_s | {"mac": mac_s * share}
    split_s["convert"] = mac_s * (pace - share)
    elements = 2.0 * work.heads_per_device * work.context_tokens * work.head_size
    energy = {part: joules * (share if part == "cell" else 1.0) for part, joules in cost.energy_j.items()}
    energy["convert"] = elements * convert.energy
    return AttentionCost(cost.seconds - mac_s * (1.0 - pace), energy, split_s, cost.uncounted_s)


def _neupims(device: NeupimsDevice, work: PimAttention) -> AttentionCost:
    from archsim.execution.neupims import LayerShape, simulate_neupims_attention

    if work.queries_per_kv != 1 or work.kv_element_bytes != 2.0:
        raise ConfigError(
            f"found {work.queries_per_kv} queries per key/value head and elements of {work.kv_element_bytes:g} B; "
            f"{device.name} attends with one query per head and 2 B elements",
            key="kv_heads",
        )
    heads = work.heads_per_device // work.requests
    shape = LayerShape(hidden=heads * work.head_size, heads=heads, ffn=heads * work.head_size, tensor_parallel=1)
    found = simulate_neupims_attention(device, shape, [work.context_tokens] * work.requests)
    cycle_s = found.seconds / found.cycles
    split_s = {"key": found.key_cycles * cycle_s, "value": (found.cycles - found.key_cycles) * cycle_s}
    return AttentionCost(found.seconds, found.energy_by_component_j, split_s)


def reference_softmax_s(pim: Pim, work: PimAttention) -> float:
    """Softmax on the device by the roofline of the AttAcc simulator (c600051, src/devices.py)."""
    elements = float(work.heads_per_device * work.queries_per_kv * work.context_tokens)
    element_bytes = work.kv_element_bytes
    compute_s = 5.0 * elements / (pim.softmax_flops * int(2 / element_bytes))
    memory_s = 2.0 * elements * element_bytes / (pim.stack_bandwidth * pim.stacks)
    return max(compute_s, memory_s)
