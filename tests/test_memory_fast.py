"""Every short cut of the DRAM engine gives, bit for bit, what the plain path gives."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from archsim.config import load
from archsim.memory.dram.apart import paced, run_paced
from archsim.memory.dram.collected import Collected
from archsim.memory.dram.controller import Controller
from archsim.memory.dram.engine import Engine, Setup, prepare
from archsim.memory.dram.mapping import resolve_layout
from archsim.memory.dram.streams import Stream, Target, from_arrays, make_stream

DEVICES = ("ddr4-3200", "ddr5-4800", "lpddr5-6400", "gddr6-14000", "hbm2-2000", "hbm3-6400")
PATTERNS = (
    "rand_mix",
    "seq_rd",
    "gemv",
    "gemv",
    "gemv",
    "seq_copy",
    "rowhit_p",
    "bank_rr",
    "row_conflict",
    "stride_rd",
    "arrays",
)


def outcome(collected: Collected) -> dict[str, Any]:
    found = asdict(collected)
    for name in ("reads", "writes"):
        found[name] = [column.tolist() for column in found[name].table()]
    found["counts"] = found["counts"].tolist()
    requests = np.concatenate([np.zeros((0, 2), np.int64), *collected.requests])
    found["commands"] = np.concatenate([np.zeros((0, 7), np.int64), *collected.commands]).tolist()
    found["requests"] = requests[np.lexsort((requests[:, 1], requests[:, 0]))].tolist()
    return found


def both(setup: Setup, stream: Stream, *, requests: bool, trace: bool = False, chunk: int = 1 << 16) -> int:
    """Run with and without short cuts; returns how many requests were served by repeating a period."""
    fast, plain = (Engine(setup, requests=requests, trace=trace, fast=fast) for fast in (True, False))
    assert outcome(fast.run(stream.chunks(chunk))) == outcome(plain.run(stream.chunks(chunk)))
    return fast.skipped


def same_commands(setup: Setup, stream: Stream, chunk: int = 1 << 16) -> int:
    """Commands as the bandwidth stack gets them, with and without short cuts; returns the requests recalled."""
    traces = []
    fast = Engine(setup, trace=True, keep=False)
    for engine in (fast, Engine(setup, trace=True, keep=False, fast=False)):
        blocks = [np.zeros((0, 7), np.int64)]
        engine.on_commands = blocks.append
        engine.run(stream.chunks(chunk))
        trace = np.concatenate(blocks)
        traces.append(trace[np.argsort(trace[:, 2] >> 32, kind="stable")][:, (0, 1, 2, 5, 6)])  # no rows and columns
    np.testing.assert_array_equal(*traces)
    return fast.skipped


def drawn(seed: int) -> tuple[Setup, Stream, bool, int]:
    """A device, a controller and a stream at random."""
    rng = np.random.default_rng(seed)

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    device = load("memory", one(*DEVICES))
    options: dict[str, Any] = {
        "channels": one(1, 1, 1, 2, 3, 4), "scheduler": one("FRFCFS", "FRFCFS", "FRFCFS-RowHit"),
        "row_policy": one("open", "open", "open", "closed2"), "refresh": one("ab", "ab", "no", "pb"),
        "mapping": one("RoBaRaCoCh", "RoBaRaCoCh", "MOP4CLXOR", "ChRaBaRoCo"), "read_queue": one(32, 32, 2, 60),
        "write_queue": one(32, 32, 2, 60), "max_outstanding_reads": one(0, 0, 0, 1, 7),
        "gap_ticks": one(0.0, 0.0, 0.0, 3.3, 90.0), "wrap_addresses": True,
    }  # fmt: skip
    if "rank" in device.organization.count:
        options["ranks"] = one(1, 1, 2)
    if device.standard.refresh.bank is None and options["refresh"] == "pb":
        options["refresh"] = "ab"
    setup = prepare(device, Controller(**options))
    tx, n = setup.geometry.tx_bytes, int(rng.integers(300, one(6000, 6000, 20000)))
    pattern, number = one(*PATTERNS), int(rng.integers(99))
    own: dict[str, dict[str, Any]] = {
        "rand_mix": {"seed": number, "wfrac": one(0.0, 0.3), "foot": 1 << int(rng.integers(12, 28))},
        "seq_rd": {"base": tx * number}, "gemv": {"S": one(1, 5, 8, 16), "K": one(256, 1024, 4096), "obase": 1 << 22},
        "seq_copy": {"B": one(4, 100), "dst": 1 << 22}, "rowhit_p": {"p": 0.9, "seed": number},
        "row_conflict": {"rstep": one(1, 5)}, "stride_rd": {"stride": tx * one(3, 64, 1000)},
    }  # fmt: skip
    if pattern == "arrays":
        writes = (rng.random(n) < one(0.003, 0.05)).astype(np.int64)
        times = np.cumsum(rng.integers(0, 60, n)) if rng.random() < 0.5 else None
        stream = from_arrays(np.arange(n) // one(1, 3) * tx, writes, times)
    else:
        target = Target(setup.geometry, resolve_layout(options["mapping"], setup.geometry))
        stream = make_stream(pattern, target, {"N": n, **own.get(pattern, {})})
    return setup, stream, bool(rng.random() < 0.4), one(1 << 16, 777)


@pytest.mark.parametrize("part", range(8))
def test_random_streams_and_controllers(part: int) -> None:
    for seed in range(30 * part, 30 * part + 30):
        setup, stream, requests, chunk = drawn(seed)
        both(setup, stream, requests=requests, trace=seed % 5 == 0, chunk=chunk)


@pytest.mark.parametrize(
    ("name", "level", "preceding"),
    [("hbm3-6400", "pseudochannel", "ACT"), ("hbm3-6400", "pseudochannel", "PRE"), ("lpddr5-6400", "rank", "ACT1")],
)
def test_a_standard_in_which_row_commands_hold_back_columns_of_other_banks(
    name: str, level: str, preceding: str
) -> None:
    """No JEDEC standard has such a row, a user's may: the next read found before the command is not the next then."""
    device = load("memory", name)
    row = device.standard.constraints["column"][0].model_copy(
        update={"level": level, "preceding": (preceding,), "following": ("RD", "RDA"), "expression": "RL"}
    )
    constraints = {**device.standard.constraints, "own": (row,)}
    held = device.model_copy(
        update={"standard": device.standard.model_copy(update={"constraints": constraints}), "name": "held back"}
    )
    setup = prepare(held, Controller(wrap_addresses=True))
    target = Target(setup.geometry, resolve_layout("RoBaRaCoCh", setup.geometry))
    for parameters in ({"K": 1024}, {"K": 256, "S": 8}):
        both(setup, make_stream("gemv", target, {"N": 4000, "S": 16, "obase": 1 << 22, **parameters}), requests=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_channels_that_never_wait_for_each_other_are_simulated_apart(device: str, channels: int) -> None:
    """Requests with times, and a gap: the same answers, latencies and end ticks as in one engine."""
    rng = np.random.default_rng(channels)
    n, used = 4000, 0
    for spread in (0, 3, 12, 40, 300):
        times = np.cumsum(rng.integers(0, spread + 1, n)) if spread % 2 == 0 else None
        writes = (rng.random(n) < 0.2).astype(np.int64)
        stream = from_arrays(rng.integers(0, 1 << 20, n) * 64, writes, times)
        policy = ("open", "closed1")[spread % 3 == 0]
        controller = Controller(
            channels=channels, wrap_addresses=True, row_policy=policy, gap_ticks=2.5 * spread if times is None else 0.0
        )  # fmt: skip
        setup = prepare(load("memory", device), controller)
        assert paced(setup, stream)
        apart = run_paced(setup, stream.chunks(777), explain=False, requests=True)
        together = outcome(Engine(setup, requests=True, fast=False).run(stream.chunks()))
        assert apart is None or outcome(apart[0]) == together
        used += apart is not None
        fast = outcome(Engine(setup, requests=True).run(stream.chunks(777)))
        assert fast == together
    assert 1 <= used < 5  # dense streams fill the queues


@pytest.mark.parametrize("device", ["ddr4-3200", "ddr5-4800", "gddr6-14000", "hbm2-2000", "hbm3-6400", "lpddr5-6400"])
@pytest.mark.parametrize("channels", [1, 2])
def test_periodic_streams_are_skipped_exactly(device: str, channels: int) -> None:
    """Rows of a matrix in lock step, each in a bank of its own; now and then a result is written."""
    setup = prepare(load("memory", device), Controller(channels=channels))
    geometry = setup.geometry
    target = Target(geometry, resolve_layout("RoBaRaCoCh", geometry))
    groups, columns = 1 << geometry.bits["bg"], geometry.bursts_per_row
    i = np.arange(24 * groups * columns)
    reads = target.compose(bg=i % groups, co=i // groups % columns, ro=i // groups // columns)
    addresses = np.repeat(reads, channels) + np.tile(np.arange(channels), i.size) * geometry.tx_bytes
    writes = (np.arange(addresses.size) % (groups * columns * channels) == 0).astype(np.int64)
    addresses[writes == 1] += geometry.channel_bytes * channels // 2
    stream = from_arrays(addresses, writes)
    skipped = both(setup, stream, requests=False)
    both(setup, stream, requests=True)
    if columns * groups * channels > 400 and device != "lpddr5-6400":
        assert skipped > addresses.size / 4


@pytest.mark.parametrize(
    ("device", "pattern", "parameters", "share"),
    [
        ("ddr4-3200", "gemv", {"S": 16, "K": 4096, "obase": 1 << 29}, 0.9),
        ("ddr5-4800", "gemv", {"S": 16, "K": 4096, "obase": 1 << 29}, 0.8),
        ("ddr4-3200", "gemv", {"S": 3, "K": 1000, "obase": 1 << 29}, 0.0),
        ("ddr5-4800", "seq_rd", {}, 0.5),
        ("ddr4-3200", "bank_rr", {}, 0.5),
        ("lpddr5-6400", "seq_rd", {}, 0.0),
        ("hbm3-6400", "bank_rr", {}, 0.0),
    ],
)
def test_what_was_seen_before_is_recalled_exactly(
    device: str, pattern: str, parameters: dict[str, int], share: float
) -> None:
    """Through refreshes, changes of row, writes that wait and ends of chunks."""
    setup = prepare(load("memory", device), Controller())
    target = Target(setup.geometry, resolve_layout("RoBaRaCoCh", setup.geometry))
    stream = make_stream(pattern, target, {"N": 60000, **parameters})
    assert both(setup, stream, requests=False, chunk=25000) >= share * stream.n_requests
    both(setup, stream, requests=True, chunk=25000)


@pytest.mark.parametrize("device", ["ddr4-3200", "ddr5-4800", "hbm2-2000"])
@pytest.mark.parametrize("channels", [1, 2])
def test_recalled_commands_are_those_of_the_plain_path(device: str, channels: int) -> None:
    """What the bandwidth stack is made of: tick, command, bank, kind, arrival; rows and columns are left out."""
    setup = prepare(load("memory", device), Controller(channels=channels))
    target = Target(setup.geometry, resolve_layout("RoBaRaCoCh", setup.geometry))
    stream = make_stream("gemv", target, {"N": 50000, "S": 16, "K": 4096, "obase": 1 << 29})
    skipped = same_commands(setup, stream)
    if device.startswith("ddr") and channels == 1:
        assert skipped > stream.n_requests / 2


def test_a_small_memory_is_cleared_and_filled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = prepare(load("memory", "ddr4-3200"), Controller())
    target = Target(setup.geometry, resolve_layout("RoBaRaCoCh", setup.geometry))
    stream = make_stream("gemv", target, {"N": 50000, "S": 16, "K": 4096, "obase": 1 << 29})
    whole = both(setup, stream, requests=False, chunk=1000)
    words = Engine._memory_words

    def few(self: Engine) -> int:
        return words(self) - (1 << 19) + 4000

    monkeypatch.setattr(Engine, "_memory_words", few)
    assert 0 < both(setup, stream, requests=False, chunk=1000) < whole
