"""AttAcc's attention program: which head goes where, and what is sent when.

Heads go one per channel; K and V of a head lie in the banks of that channel. `bank` units split the head dimension
over the banks of a bank group and the tokens over bank groups, `bankgroup` and `buffer` units split the tokens only.
Two groups of heads (16 each) run as a pair: while one is scored, the query of the other comes in; while the other is
scored, softmax and scatter of the first go on; and so on. Source: AttAcc simulator c600051, its trace generators.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.pim import AttAccProgram
from archsim.errors import ConfigError, InfeasibleError, InputError
from archsim.memory.pim.attacc_kernels import (
    ALL_BANKS,
    BANK_BY_BANK,
    FLOORED,
    ONE_BANK,
    REPLAY,
    WARM_UP,
    Plan,
    attention,
    split_classes,
)
from archsim.memory.pim.device import PimDevice
from archsim.memory.pim.program import Program

Ints = NDArray[np.int64]
_MAX = {"kv_len": 2**31, "heads": 2**24, "head_dim": 2**16, "queries_per_kv": 2**12}
_VALUE_OFFSET_BYTES = 2**23
_FIRST_TABLE = 4096


def attention_program(
    device: PimDevice, kv_len: int, heads: int, head_dim: int, element_bytes: int, queries_per_kv: int = 1
) -> Program:
    """Score, softmax and context of `heads` KV heads on one stack, for one new token.

    Raises InputError for a size out of range, InfeasibleError if K and V do not fit the banks.
    """
    plan = attention_plan(device, kv_len, heads, head_dim, element_bytes, queries_per_kv)
    ops = np.zeros((_FIRST_TABLE, 8), np.int64)
    count = attention(ops, plan)
    if count > ops.shape[0]:
        ops = np.zeros((count, 8), np.int64)
        attention(ops, plan)
    ops = ops[:count]
    width = np.zeros(plan.channels, np.int64)
    classes = split_classes(ops, np.zeros(plan.channels + 1, np.int64), width)
    walk = _walk(*fanout_of(device)) if plan.order == ALL_BANKS else np.zeros(1, np.int64)
    return Program(ops, width[:classes].copy(), walk)


def attention_plan(
    device: PimDevice, kv_len: int, heads: int, head_dim: int, element_bytes: int, queries_per_kv: int
) -> Plan:
    """Counts and places of the program (see `Plan`)."""
    program = _checked(device, kv_len, heads, head_dim, element_bytes, queries_per_kv)
    g, slips = device.geometry, device.slips
    lanes = g.access_bytes // element_bytes  # elements of a column
    banks_in_group, token_banks = _units(device, program)
    slice_columns = _ceil(_ceil(head_dim, banks_in_group), lanes)
    groups = _ceil(kv_len, token_banks)
    blocks = _ceil(head_dim, banks_in_group * lanes)
    order = {"bank": ONE_BANK, "bankgroup": BANK_BY_BANK, "buffer": ALL_BANKS}[program.unit]
    places = _places(device, program, order, (groups * slice_columns, blocks * groups), heads, head_dim)
    broadcast, gather_score, gather_context, scatter = _moves(program.unit, fanout_of(device))
    softmax_ticks = (
        0 if "softmax_free" in slips else _ceil(kv_len, program.softmax_unit.elements) * program.softmax_unit.ticks
    )
    bits = (("context_replay", REPLAY), ("slices_floored", FLOORED), ("warm_up_mac", WARM_UP))
    return Plan(
        heads=heads,
        channels=g.channels,
        score_columns=slice_columns,
        groups=groups,
        window=program.groups_per_window,
        blocks=blocks,
        block_columns=groups,
        queries=queries_per_kv,
        order=order,
        row_columns=g.row_columns,
        bank_step=g.fanout["bank"],
        banks=g.banks // g.fanout["pseudochannel"],
        key_base=places[0],
        key_step=places[1],
        value_base=places[2],
        value_step=places[3],
        slips=sum(bit for name, bit in bits if name in slips),
        mac=device.command(program.mac),
        broadcast=device.command(program.broadcast),
        gather=device.command(program.gather),
        scatter=device.command(program.scatter),
        softmax=device.command(program.softmax),
        softmax_ticks=softmax_ticks,
        broadcast_banks=broadcast,
        broadcast_repeat=slice_columns * queries_per_kv,
        gather_score_banks=gather_score,
        gather_context_banks=gather_context,
        scatter_banks=scatter,
        scatter_repeat=_ceil(kv_len, token_banks * lanes) * queries_per_kv,
    )


def _checked(
    device: PimDevice, kv_len: int, heads: int, head_dim: int, element_bytes: int, queries_per_kv: int
) -> AttAccProgram:
    """The program's description, if the sizes are in range."""
    program = device.config.program
    if not isinstance(program, AttAccProgram):
        raise ConfigError(
            f"the program of {device.config.name!r} is {program.type!r}, attention needs 'attacc'", key="program.type"
        )
    for name, value in (
        ("kv_len", kv_len),
        ("heads", heads),
        ("head_dim", head_dim),
        ("queries_per_kv", queries_per_kv),
    ):
        if not 1 <= value <= _MAX[name]:
            raise InputError(f"{name}: found {value}, allowed: 1 to {_MAX[name]}")
    if element_bytes not in device.config.element_bytes:
        raise InputError(
            f"element size: found {element_bytes} bytes, allowed: {', '.join(map(str, device.config.element_bytes))}"
        )
    return program


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _units(device: PimDevice, program: AttAccProgram) -> tuple[int, int]:
    """(banks that share the head dimension, places that share the tokens) of a channel."""
    fan = device.geometry.fanout
    if program.unit == "buffer":
        return 1, fan["pseudochannel"]
    groups = fan["pseudochannel"] * fan["rank"] * fan["bankgroup"]
    return (fan["bank"] if program.unit == "bank" else 1), groups


def fanout_of(device: PimDevice) -> tuple[int, int, int]:
    """Ranks of a pseudo channel, bank groups of a rank, banks of a bank group."""
    fan = device.geometry.fanout
    return fan["rank"], fan["bankgroup"], fan["bank"]


@cache
def _moves(unit: str, fanout: tuple[int, int, int]) -> tuple[Ints, Ints, Ints, Ints]:
    """Banks addressed by broadcast, gather after score, gather after context, scatter."""
    first = np.arange(np.prod(fanout), dtype=np.int64)
    rank, group, bank = np.array(np.unravel_index(first, fanout))
    one = np.zeros(1, np.int64)
    if unit == "buffer":
        return one, one, one, one
    units = first[bank == 0]
    by_group = units[np.lexsort((rank[bank == 0], group[bank == 0]))]
    if unit == "bankgroup":
        return one, by_group, first[(group == 0) & (bank == 0)], units
    columns = first[group == 0]
    by_bank = columns[np.lexsort((rank[group == 0], bank[group == 0]))]
    return first[(rank == 0) & (group == 0)], by_group, by_bank, units


def _places(
    device: PimDevice, program: AttAccProgram, order: int, macs: tuple[int, int], heads: int, head_dim: int
) -> tuple[int, int, int, int]:
    """(first column of K, step from head group to head group, the same of V), in columns of a bank.

    macs   MAC columns of score and context of one head
    """
    g = device.geometry
    if "element_offsets" in device.slips:
        step = _ceil(program.reference_max_tokens * head_dim, g.banks) // g.access_bytes
        return 0, step, _VALUE_OFFSET_BYTES // g.access_bytes, step
    banks = {ONE_BANK: 1, BANK_BY_BANK: g.fanout["bank"], ALL_BANKS: g.banks // g.fanout["pseudochannel"]}[order]
    key_rows, value_rows = (_ceil(n, banks * g.row_columns) for n in macs)
    head_groups = _ceil(heads, g.channels)
    if head_groups * (key_rows + value_rows) > g.rows:
        needed = head_groups * (key_rows + value_rows)
        raise InfeasibleError(
            f"K and V of {heads} heads need {needed} rows of every bank of a stack, there are {g.rows}"
        )
    return 0, key_rows * g.row_columns, head_groups * key_rows * g.row_columns, value_rows * g.row_columns


@cache
def _walk(ranks: int, groups: int, banks: int) -> Ints:
    """Banks of a pseudo channel in the order of consecutive columns: rank and bank group change fastest."""
    order = np.arange(ranks * groups * banks, dtype=np.int64).reshape(ranks, groups, banks)
    return np.ascontiguousarray(order.transpose(2, 0, 1).ravel())
