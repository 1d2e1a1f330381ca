"""Request streams: generators of the classic access patterns, and arrays given by the user.

A stream hands out chunks of at most `engine.CHUNK` requests, so that a long regular stream is never stored.
Random streams draw from numpy.random.Generator(PCG64(seed)) in the documented order and are stored.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError, UsageError, unknown_name
from archsim.memory.dram.geometry import Geometry
from archsim.memory.dram.mapping import Layout

Array = NDArray[np.int64]
CHUNK = 1 << 16
EVERYWHERE = 1 << 62  # a footprint is limited to the capacity of the device


@dataclass(frozen=True)
class Chunk:
    """Consecutive requests: byte addresses, 0/1 write flags, earliest clocks (ticks) or None. int64."""

    addresses: Array
    writes: Array
    times: Array | None = None


@dataclass(frozen=True)
class Stream:
    """`part(first, count)` returns the requests first .. first + count - 1."""

    name: str
    n_requests: int
    part: Callable[[int, int], Chunk]

    def chunks(self, size: int = CHUNK) -> Iterator[Chunk]:
        """All requests in order, `size` at a time."""
        for first in range(0, self.n_requests, size):
            yield self.part(first, min(size, self.n_requests - first))

    def sha256_16(self) -> str:
        """First 16 hex digits of SHA-256 over the little-endian uint64 words address | write << 63."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            words = chunk.addresses.astype(np.uint64) | (chunk.writes.astype(np.uint64) << np.uint64(63))
            digest.update(words.astype("<u8").tobytes())
        return digest.hexdigest()[:16]


def from_arrays(
    addresses: ArrayLike, writes: ArrayLike | None = None, times_ticks: ArrayLike | None = None, name: str = "arrays"
) -> Stream:
    """A stream from arrays: byte addresses (n,), write flags (n,) or None (all reads), earliest ticks (n,) or None.

    Raises InputError for unequal lengths, negative addresses or times that go back.
    """
    a = _integers(addresses, "addresses")
    w = np.zeros(a.size, np.int64) if writes is None else (_integers(writes, "writes") != 0).astype(np.int64)
    t = None if times_ticks is None else _integers(times_ticks, "times")
    if w.size != a.size or (t is not None and t.size != a.size):
        raise InputError(f"found {a.size} addresses, {w.size} write flags and {a.size if t is None else t.size} times")
    if a.size and a.min() < 0:
        raise InputError(f"negative address at request {int(np.argmax(a < 0))}")
    if t is not None and t.size and (t[0] < 0 or np.any(np.diff(t) < 0)):
        bad = 0 if t[0] < 0 else int(np.argmax(np.diff(t) < 0)) + 1
        raise InputError(f"times must not go back: request {bad} has {int(t[bad])}")
    return _stored(name, a, w, t)


def _integers(values: ArrayLike, what: str) -> Array:
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"{what}: found {array.ndim} dimensions, expected 1")
    if array.dtype.kind not in "biu" or (array.dtype == np.uint64 and array.size and array.max() >= 2**63):
        raise InputError(f"{what}: found values of type {array.dtype}, expected integers below 2**63")
    return np.ascontiguousarray(array.astype(np.int64))


def _stored(name: str, addresses: Array, writes: Array, times: Array | None = None) -> Stream:
    def part(first: int, count: int) -> Chunk:
        own = slice(first, first + count)
        return Chunk(addresses[own], writes[own], None if times is None else times[own])

    return Stream(name, addresses.size, part)


def _computed(name: str, n: int, rule: Callable[[Array], tuple[Array, Array | int]]) -> Stream:
    """A stream whose request i is a function of i alone."""

    def part(first: int, count: int) -> Chunk:
        addresses, writes = rule(np.arange(first, first + count, dtype=np.int64))
        flags = np.full(count, writes, np.int64) if isinstance(writes, int) else writes.astype(np.int64)
        return Chunk(addresses, flags)

    return Stream(name, n, part)


@dataclass(frozen=True)
class Target:
    """What coordinate patterns need: sizes of the device and its address layout."""

    geometry: Geometry
    layout: Layout

    def compose(self, **fields: Array | int) -> Array:
        """Byte addresses of given field values (all others 0), in the layout without its hashes."""
        size = max(value.size for value in fields.values() if isinstance(value, np.ndarray))
        out = np.zeros(size, np.int64)
        at = self.geometry.tx_bits
        if not any(field == "ch" for field, _ in self.layout.pieces):
            at += (self.geometry.channels - 1).bit_length()
        used: dict[str, int] = {}
        for field, bits in self.layout.pieces:
            if field in fields:
                out |= ((np.asarray(fields[field]) >> used.get(field, 0)) & ((1 << bits) - 1)) << at
            used[field] = used.get(field, 0) + bits
            at += bits
        return out


def seq_rd(target: Target, N: int, base: int = 0) -> Stream:
    """Reads of consecutive transactions."""
    tx = target.geometry.tx_bytes
    return _computed("seq_rd", N, lambda i: (base + i * tx, 0))


def seq_wr(target: Target, N: int, base: int = 0) -> Stream:
    """Writes of consecutive transactions."""
    tx = target.geometry.tx_bytes
    return _computed("seq_wr", N, lambda i: (base + i * tx, 1))


def seq_copy(target: Target, N: int, B: int, dst: int) -> Stream:
    """B reads, then B writes of the same data at `dst`, and so on."""
    tx = target.geometry.tx_bytes

    def rule(i: Array) -> tuple[Array, Array]:
        g, r = np.divmod(i, 2 * B)
        write = r >= B
        return (g * B + r - B * write) * tx + dst * write, write.astype(np.int64)

    return _computed("seq_copy", N, rule)


def stride_rd(target: Target, N: int, stride: int, foot: int = EVERYWHERE) -> Stream:
    """Reads `stride` bytes apart, wrapping at `foot`."""
    foot = min(foot, target.geometry.capacity_bytes)
    return _computed("stride_rd", N, lambda i: ((i * stride) % foot, 0))


def row_conflict(target: Target, N: int, rstep: int) -> Stream:
    """Another row of bank 0 each time."""
    rows = target.geometry.rows
    return _computed("row_conflict", N, lambda i: (target.compose(ro=(i * rstep) % rows), 0))


def bg_friendly(target: Target, N: int) -> Stream:
    """Consecutive columns, bank groups in turn."""
    nbg, nco = 1 << target.geometry.bits["bg"], target.geometry.bursts_per_row
    return _computed(
        "bg_friendly", N, lambda i: (target.compose(bg=i % nbg, co=(i // nbg) % nco, ro=i // nbg // nco), 0)
    )


def bg_unfriendly(target: Target, N: int) -> Stream:
    """Consecutive columns, banks of one bank group in turn."""
    nba, nco = 1 << target.geometry.bits["ba"], target.geometry.bursts_per_row
    return _computed(
        "bg_unfriendly", N, lambda i: (target.compose(ba=i % nba, co=(i // nba) % nco, ro=i // nba // nco), 0)
    )


def bank_rr(target: Target, N: int) -> Stream:
    """A new row in each bank in turn."""
    nbg, nba = 1 << target.geometry.bits["bg"], 1 << target.geometry.bits["ba"]
    rows = target.geometry.rows

    def rule(i: Array) -> tuple[Array, int]:
        b = i % (nbg * nba)
        return target.compose(bg=b % nbg, ba=b // nbg, ro=(i // (nbg * nba)) % rows), 0

    return _computed("bank_rr", N, rule)


def rowhit_p(target: Target, N: int, p: float, seed: int) -> Stream:
    """Banks in turn; the next column of the open row with probability p, else the next row."""
    bits = target.geometry.bits
    nbg, banks = 1 << bits["bg"], 1 << (bits["bg"] + bits["ba"])
    nco, rows = target.geometry.bursts_per_row, target.geometry.rows
    hit = np.random.Generator(np.random.PCG64(seed)).random(N) < p
    row, column = np.zeros(N, np.int64), np.zeros(N, np.int64)
    for b in range(banks):
        own = hit[b::banks][1:]
        if b >= N:
            break
        restart = np.concatenate(([0], np.where(own, 0, np.arange(1, own.size + 1))))
        row[b::banks] = np.concatenate(([0], np.cumsum(~own))) % rows
        column[b::banks] = (np.arange(own.size + 1) - np.maximum.accumulate(restart)) % nco
    bank = np.arange(N) % banks
    addresses = target.compose(bg=bank % nbg, ba=bank // nbg, ro=row, co=column)
    return _stored("rowhit_p", addresses, np.zeros(N, np.int64))


def rand_rd(target: Target, N: int, seed: int = 0, foot: int = EVERYWHERE) -> Stream:
    """Uniformly random reads within `foot` bytes."""
    tx = target.geometry.tx_bytes
    foot = min(foot, target.geometry.capacity_bytes)
    addresses = np.random.Generator(np.random.PCG64(seed)).integers(0, foot // tx, N) * tx
    return _stored("rand_rd", addresses, np.zeros(N, np.int64))


def rand_mix(target: Target, N: int, wfrac: float, seed: int = 0, foot: int = EVERYWHERE) -> Stream:
    """Uniformly random, a share `wfrac` writes."""
    tx = target.geometry.tx_bytes
    foot = min(foot, target.geometry.capacity_bytes)
    rng = np.random.Generator(np.random.PCG64(seed))
    addresses = rng.integers(0, foot // tx, N) * tx
    return _stored("rand_mix", addresses, (rng.random(N) < wfrac).astype(np.int64))


def gemv(target: Target, N: int, S: int, K: int, obase: int) -> Stream:
    """Matrix-vector product, row-major fp16 matrix of K columns, S rows in lock step, results written to `obase`."""
    tx = target.geometry.tx_bytes
    block = S * (2 * K // tx)
    outputs = max(1, -(-2 * S // tx))
    period = block + outputs

    def rule(i: Array) -> tuple[Array, Array]:
        b, r = np.divmod(i, period)
        read = r < block
        matrix = (b * S + r % S) * (2 * K) + (r // S) * tx
        return np.where(read, matrix, obase + (b * outputs + r - block) * tx), (~read).astype(np.int64)

    return _computed("gemv", N, rule)


def kv(target: Target, N: int, B: int, T: int, M: int, L0: int) -> Stream:
    """KV-cache traffic of B sequences: per step write the new token's K and V, read all K, then all V."""
    tx = target.geometry.tx_bytes
    c = T // tx
    lanes = np.arange(c, dtype=np.int64) * tx
    addresses, writes, have, step = [], [], 0, 0
    while have < N:
        for q in range(B):
            k0 = q * 2 * M * T
            v0 = k0 + M * T
            token = (L0 + step) * T
            span = np.arange((L0 + step + 1) * c, dtype=np.int64) * tx
            block = np.concatenate((k0 + token + lanes, v0 + token + lanes, k0 + span, v0 + span))
            addresses.append(block)
            writes.append(np.arange(block.size) < 2 * c)
            have += block.size
            if have >= N:
                break
        step += 1
    return _stored("kv", np.concatenate(addresses)[:N], np.concatenate(writes)[:N].astype(np.int64))


PATTERNS: dict[str, Callable[..., Stream]] = {
    "seq_rd": seq_rd, "seq_wr": seq_wr, "seq_copy": seq_copy, "stride_rd": stride_rd, "row_conflict": row_conflict,
    "bg_friendly": bg_friendly, "bg_unfriendly": bg_unfriendly, "bank_rr": bank_rr, "rowhit_p": rowhit_p,
    "rand_rd": rand_rd, "chase": rand_rd, "rand_paced": rand_rd, "rand_mix": rand_mix, "gemv": gemv, "kv": kv,
}  # fmt: skip
MAX_REQUESTS = 10**12


def _described(parameters: dict[str, inspect.Parameter]) -> str:
    """`N, seed=0, foot=capacity`."""
    texts = []
    for name, parameter in parameters.items():
        default = "capacity" if parameter.default == EVERYWHERE else parameter.default
        texts.append(name if parameter.default is inspect.Parameter.empty else f"{name}={default}")
    return ", ".join(texts)


def make_stream(pattern: str, target: Target, parameters: dict[str, Any]) -> Stream:
    """The stream of a named pattern. Raises UsageError for an unknown pattern or a missing or bad parameter."""
    if pattern not in PATTERNS:
        raise UsageError(unknown_name("pattern", pattern, PATTERNS))
    rule = PATTERNS[pattern]
    allowed = {k: v for k, v in inspect.signature(rule).parameters.items() if k != "target"}
    for name, value in parameters.items():
        if name not in allowed:
            raise UsageError(unknown_name(f"parameter of {pattern}", name, allowed))
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise UsageError(f"{pattern}: parameter {name} is {value!r}, expected a number that is not negative")
        if name not in ("p", "wfrac") and value != int(value):
            raise UsageError(f"{pattern}: parameter {name} is {value!r}, expected a whole number")
    missing = [k for k, v in allowed.items() if v.default is inspect.Parameter.empty and k not in parameters]
    if missing:
        raise UsageError(f"{pattern} needs --param {missing[0]}=VALUE (parameters: {_described(allowed)})")
    given = {k: v if k in ("p", "wfrac") else int(v) for k, v in parameters.items()}
    for name in ("N", "B", "S", "K", "T", "M", "stride", "foot"):
        if name in given and given[name] < 1 and name != "N":
            raise UsageError(f"{pattern}: parameter {name} must be at least 1")
    if given["N"] > MAX_REQUESTS:
        raise UsageError(f"{pattern}: N is {given['N']}, allowed: up to {MAX_REQUESTS}")
    return rule(target, **given)
