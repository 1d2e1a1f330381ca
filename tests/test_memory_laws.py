"""Laws of a DRAM run: closed forms, bounds, sums, and independence of how it is run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archsim
from archsim.config import load
from archsim.memory.dram.controller import Controller
from archsim.memory.dram.engine import Engine, prepare
from archsim.memory.dram.mapping import resolve_layout
from archsim.memory.dram.result import MemoryResult
from archsim.memory.dram.streams import Target, from_arrays, make_stream

DEVICES = (
    "ddr4-3200", "ddr5-4800", "ddr5-6400", "lpddr5-6400", "lpddr5x-8533", "gddr6-14000", "hbm2-2000", "hbm3-6400",
    "hbm3-5200", "hbm3e-9600", "hbm4-8000", "lpddr6-10667",
)  # fmt: skip
MIX = {"N": 3000, "seed": 1, "wfrac": 0.3, "foot": 2**26}


def simulate(device: str, pattern: str, controller: dict[str, Any] | None = None, **options: Any) -> MemoryResult:
    parameters = options.pop("parameters", MIX)
    return archsim.simulate_memory(device, pattern, controller, parameters=parameters, **options)


def plain(result: MemoryResult) -> dict[str, Any]:
    return asdict(result)


@pytest.mark.parametrize("device", DEVICES)
def test_lone_read_takes_activate_and_read_latency(device: str) -> None:
    preset = load("memory", device)
    result = archsim.simulate_memory(preset, from_arrays(np.array([0])), explain=False)
    t, ticks = preset.timing, preset.standard.ticks_per_ck / preset.standard.ck_per_tick
    burst = t.get("BL_ck", t.get("BLn_min"))
    trcd = int(t.get("tRCD", t.get("tRCDRD", 0)) * ticks)
    first = 1 + trcd
    if preset.standard.name in ("DDR5", "HBM2"):
        first += 0 if preset.standard.name == "DDR5" else 1  # the 2-clock activate counts from its last clock
    if preset.standard.name in ("HBM3", "HBM4"):
        first += 1  # 1.5-clock activate; reads issue on rising edges
    first += first % 2 == 0 if ticks == 2 else 0
    assert abs(result.end_ticks - (first + int((t["RL"] + burst) * ticks))) <= 1
    assert result.commands[preset.standard.states.hit.read] == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pattern", ["rand_mix", "seq_rd", "rand_paced"])
def test_stack_adds_up_and_bandwidth_obeys_the_bounds(device: str, pattern: str) -> None:
    parameters = {"rand_mix": MIX, "seq_rd": {"N": 3000}, "rand_paced": {"N": 500, "seed": 2, "foot": 2**26}}[pattern]
    result = simulate(device, pattern, {"gap_ticks": 40.0} if pattern == "rand_paced" else None, parameters=parameters)
    preset = load("memory", device)
    stack = result.bandwidth_stack
    assert sum(stack.values()) == pytest.approx(1.0, abs=1e-12)
    assert min(stack.values()) >= 0.0
    if device != "hbm3-5200":  # its read-to-write gap of 3 clocks lets bursts overlap
        assert stack["data"] == pytest.approx(result.share_of_peak, rel=0.01)
    assert result.bandwidth_bytes_per_s <= result.peak_bytes_per_s
    if pattern == "rand_mix":
        assert result.bandwidth_bytes_per_s <= preset.activate_bound_bytes_per_s * 1.06  # a few requests share a row
    if pattern == "rand_paced":
        assert stack["queue/idle"] > 0.3


def test_the_stack_names_what_is_known_to_bind() -> None:
    assert simulate("ddr4-3200", "rand_rd", parameters={"N": 8000, "seed": 1, "foot": 2**30}).bound_by == "tFAW"
    assert simulate("ddr4-3200", "bg_unfriendly", parameters={"N": 8000}).bound_by == "tCCD"
    assert simulate("ddr4-3200", "row_conflict", parameters={"N": 2000, "rstep": 1}).bound_by == "bank busy (tRC)"
    assert simulate("ddr4-3200", "bg_friendly", parameters={"N": 8000}).bound_by == "data"
    refresh = simulate("ddr4-3200", "bg_friendly", parameters={"N": 60000}).bandwidth_stack["refresh"]
    assert refresh == pytest.approx(576 / 12480, rel=0.15)  # tRFC / tREFI
    assert (
        simulate("ddr4-3200", "bg_friendly", {"refresh": "no"}, parameters={"N": 8000}).bandwidth_stack["refresh"] == 0
    )


def test_row_conflicts_take_a_row_cycle_each() -> None:
    result = simulate("ddr4-3200", "row_conflict", {"refresh": "no"}, parameters={"N": 500, "rstep": 1}, explain=False)
    # activate, tRAS, precharge, tRP; read-to-precharge does not bind at tRCD + tRTP < tRAS
    assert result.end_ticks == pytest.approx(500 * 74, rel=0.005)
    assert result.row_conflicts == 499


def test_counts_are_consistent() -> None:
    result = simulate("hbm3-6400", "rand_mix", requests=True, trace=True)
    assert result.trace is not None
    assert result.requests is not None
    served = result.commands["RD"] + result.commands["WR"] + result.forwarded_reads + result.merged_writes
    assert served == result.n_requests == 3000
    assert result.read_latency.count == result.n_requests - result.n_writes
    assert (
        result.row_hits + result.row_misses + result.row_conflicts
        == 3000 - result.forwarded_reads - result.merged_writes
    )
    assert sum(result.commands.values()) == result.trace.tick.size
    assert result.requests.end_tick.max() == result.end_ticks
    assert (result.requests.end_tick < 0).sum() == result.merged_writes
    assert np.all(np.diff(result.trace.tick) >= 0)


@pytest.mark.parametrize("device", ["ddr4-3200", "hbm2-2000", "hbm3-6400", "ddr5-4800"])
def test_energy_components_add_up(device: str) -> None:
    result = simulate(device, "rand_mix", explain=False)
    assert result.energy_source
    assert all(joules >= 0 for joules in result.energy_j.values())
    total = sum(result.energy_j.values())
    assert result.energy_pj_per_bit == pytest.approx(total * 1e12 / (8 * result.tx_bytes * result.n_requests))


def test_chunks_do_not_matter() -> None:
    setup = prepare(load("memory", "hbm3-6400"), Controller())
    stream = make_stream("rand_mix", Target(setup.geometry, resolve_layout("RoBaRaCoCh", setup.geometry)), MIX)
    whole, parts = Engine(setup).run(stream.chunks()), Engine(setup).run(stream.chunks(77))
    assert whole.end == parts.end
    np.testing.assert_array_equal(whole.counts, parts.counts)
    np.testing.assert_array_equal(whole.reads.table(), parts.reads.table())


def test_explaining_and_tracing_change_nothing() -> None:
    for device in ("ddr4-3200", "lpddr5-6400"):
        bare = simulate(device, "rand_mix", explain=False)
        full = simulate(device, "rand_mix", explain=True, trace=True, requests=True)
        assert (bare.end_ticks, bare.commands, bare.read_latency) == (full.end_ticks, full.commands, full.read_latency)


def test_any_channel_count_and_independent_channels() -> None:
    one = simulate("ddr4-3200", "rand_rd", parameters={"N": 3000, "seed": 1, "foot": 2**26}, explain=False)
    three = simulate("ddr4-3200", "rand_rd", {"channels": 3}, parameters={"N": 3000, "seed": 1, "foot": 2**26})
    assert 2.0 < one.end_ticks / three.end_ticks <= 3.05
    assert sum(three.bandwidth_stack.values()) == pytest.approx(1.0)
    apart = simulate(
        "ddr4-3200", "rand_rd", {"channels": 3, "independent_channels": True},
        parameters={"N": 3000, "seed": 1, "foot": 2**26}, requests=True,
    )  # fmt: skip
    assert apart.end_ticks <= three.end_ticks  # nothing blocks the head of the line
    assert apart.commands["RD"] == three.commands["RD"] == 3000
    assert sum(apart.bandwidth_stack.values()) == pytest.approx(1.0)
    assert apart.requests is not None
    assert apart.requests.end_tick.min() > 0


def test_user_layout_equals_the_named_mapping() -> None:
    named = simulate("ddr4-3200", "rand_mix", {"mapping": "MOP4CLXOR"}, explain=False)
    text = "co:2 ra:0 bg:2 ba:2 co:5 ro:16 bg^co ba^co>>2 ro^co>>4"
    own = simulate("ddr4-3200", "rand_mix", {"mapping": text}, explain=False)
    assert plain(named) == plain(own)


def test_a_stopped_hbm_channel_is_an_option() -> None:
    """Ramulator 2.1's auto-precharge under an activated request can stop HBM for good; ours does not by default."""
    parameters = {"N": 20000, "B": 2, "T": 512, "M": 64, "L0": 8}
    result = simulate("hbm2-2000", "kv", {"row_policy": "closed1"}, parameters=parameters, explain=False)
    assert result.n_requests == 20000


def test_timestamps_hold_requests_back() -> None:
    addresses = np.arange(50) * 64
    times = np.arange(50) * 500
    result = archsim.simulate_memory("ddr4-3200", from_arrays(addresses, None, times), requests=True, explain=False)
    assert result.requests is not None
    assert np.all(result.requests.end_tick > times)
    assert np.all(result.requests.end_tick - times < 700)


def test_interpreted_and_compiled_kernels_agree(tmp_path: Path) -> None:
    code = """
import sys, archsim
from dataclasses import asdict
for device in ("ddr4-3200", "lpddr5-6400", "hbm3-6400"):
    r = archsim.simulate_memory(device, "rand_mix", {"row_policy": "closed4"},
                                parameters={"N": 150, "seed": 1, "wfrac": 0.4, "foot": 2**24})
    print(asdict(r))
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "NUMBA_DISABLE_JIT": flag},
        ).stdout
        for flag in ("0", "1")
    ]  # fmt: skip
    assert outputs[0] == outputs[1]
    assert outputs[0]
