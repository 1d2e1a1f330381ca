"""Decode attention on AttAcc: one call, one answer.

>>> from archsim.config import load
>>> from archsim.memory.pim.device import compile_pim
>>> device = compile_pim(load("pim", "attacc-bank"))
>>> simulate_attention(device, kv_len=2048, heads_per_stack=16, head_dim=128, element_bytes=2).cycles > 2048
True
"""

from __future__ import annotations

from archsim.config.schemas.pim import AttAccProgram
from archsim.errors import InputError
from archsim.memory.pim.attacc_program import attention_program
from archsim.memory.pim.device import PimDevice
from archsim.memory.pim.program import run_program
from archsim.memory.pim.result import PimResult, make_result

__all__ = ["PimDevice", "PimResult", "simulate_attention", "simulate_device_attention"]


def simulate_attention(
    device: PimDevice, kv_len: int, heads_per_stack: int, head_dim: int, element_bytes: int, queries_per_kv: int = 1
) -> PimResult:
    """Score, softmax and context of one layer and one new token, for `heads_per_stack` KV heads (heads x requests).

    queries_per_kv   query heads that share each KV head (grouped-query attention); every open row serves all of them
    Raises InputError for a size out of range, InfeasibleError if K and V do not fit the stack.
    """
    return _simulate(device, kv_len, heads_per_stack, head_dim, element_bytes, queries_per_kv, 1.0)


def simulate_device_attention(
    device: PimDevice, kv_len: int, heads: int, head_dim: int, element_bytes: int, queries_per_kv: int = 1
) -> PimResult:
    """As `simulate_attention` for `heads` KV heads spread over all stacks of a device.

    The stacks run in lockstep, so the time is that of the fullest one, ceil(heads / stacks); counts and energy are
    those of all heads (with reference slips: of all stacks as if each were the fullest).
    """
    if heads < 1:
        raise InputError(f"heads: found {heads}, expected at least 1")
    stacks = device.config.stacks
    fullest = -(-heads // stacks)
    counted = float(stacks) if device.config.reference_slips is True else heads / fullest
    return _simulate(device, kv_len, fullest, head_dim, element_bytes, queries_per_kv, counted)


def _simulate(
    device: PimDevice, kv_len: int, heads: int, head_dim: int, element_bytes: int, queries: int, stacks: float
) -> PimResult:
    program = device.config.program
    run = run_program(device, attention_program(device, kv_len, heads, head_dim, element_bytes, queries))
    macs = 2.0 * kv_len * head_dim * heads * queries
    charged = macs / 2 if "context_alu_free" in device.slips else macs
    if isinstance(program, AttAccProgram) and "softmax_free" not in device.slips:
        charged += heads * queries * kv_len * program.softmax_unit.operations / 2.0
    lanes = device.geometry.access_bytes / element_bytes
    return make_result(device, run, program.mac, macs, charged, lanes, stacks)
