"""LPDDR6: two-clock commands and bursts that carry metadata, against figures derived by hand from the data sheet's.

At 10667 Mb/s a clock is 0.375 ns and a command starts on every other one, so a tick is 0.75 ns. A burst is 24 beats of
12 pins, 288 bits in 6 clocks, of which 256 are data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_memory_fast import both

import archsim
from archsim.cli.main import run
from archsim.config import load
from archsim.errors import ConfigError
from archsim.memory.dram.controller import Controller
from archsim.memory.dram.engine import prepare
from archsim.memory.dram.mapping import resolve_layout
from archsim.memory.dram.result import MemoryResult
from archsim.memory.dram.streams import Target, make_stream
from archsim.memory.tables.standard import compile_device

DEVICE = "lpddr6-10667"
GROUPS = "bg:2 co:6 ba:2 ra:0 ro:16"  # bank groups in turn; the next banks can be opened while a row is read
ONE_GROUP = "co:6 ba:2 bg:2 ra:0 ro:16"
ROUND_ROBIN = "bg:2 ba:2 ra:0 ro:16 co:6"  # every transaction in the next bank, and every time a new row


def simulate(pattern: str, controller: dict[str, Any] | None = None, **parameters: Any) -> MemoryResult:
    return archsim.simulate_memory(DEVICE, pattern, controller, parameters=parameters)


def test_peaks_and_capacities_count_data() -> None:
    device = load("memory", DEVICE)
    assert device.transaction_bytes == 32
    assert device.pin_bandwidth_bytes_per_s == pytest.approx(10667e6 * 12 / 8)
    assert device.peak_bandwidth_bytes_per_s == pytest.approx(10667e6 * 12 / 8 * 32 / 36)
    # JEDEC's announcement: 28.5 GB/s of a die of 24 pins at the lowest rate
    assert device.package_bandwidth_bytes_per_s == pytest.approx(28.5e9, rel=0.003)
    assert device.channel_bytes * 8 == device.organization.density_mbit * 2**20
    small = load("memory", "lpddr6-10667-16gb")
    assert small.channel_bytes * 8 == small.organization.density_mbit * 2**20
    assert small.timing["tRFC"] * 0.375 == pytest.approx(280, abs=0.375)


def test_rules_are_rounded_up_to_the_next_command_slot_as_a_whole() -> None:
    compiled = compile_device(load("memory", DEVICE))
    assert compiled.tick_ps == 750
    assert set(compiled.cycles_ticks.tolist()) == {1}  # two clocks each
    # write to read: 26 + 6 + 17 = 49 clocks, not 13 + 3 + 9 = 25 slots by luck nor 13 + 3 + 8 by truncation
    write, read = compiled.command("WR"), compiled.command("RD")
    assert compiled.same_ticks[compiled.level("rank"), write, read] == 25
    # two odd terms make an even sum: 17 + 3 clocks are 10 slots, rounded one by one they would be 11
    assert compiled.ticks("tWTR_S + tWCKPST") == 10
    assert compiled.ticks("tRP") == 54  # 107 clocks
    assert compiled.ticks_within("tRP") == 53


def test_bank_groups_in_turn_fill_the_pins() -> None:
    result = simulate("seq_rd", {"refresh": "no", "mapping": GROUPS}, N=20000)
    assert result.share_of_peak == pytest.approx(1.0, abs=0.01)
    assert result.bandwidth_bytes_per_s <= result.peak_bytes_per_s
    assert result.bandwidth_stack["data"] == pytest.approx(result.share_of_peak, rel=0.001)
    assert result.pin_bytes_per_s / result.peak_bytes_per_s == pytest.approx(36 / 32)


def test_one_bank_group_gets_a_burst_every_ten_clocks() -> None:
    result = simulate("seq_rd", {"refresh": "no", "mapping": ONE_GROUP}, N=256)
    # activate in tick 1, read 24 later and one more for CAS, then tCCD_L; RL and the burst are 31 ticks
    assert result.end_ticks == pytest.approx(1 + 24 + 1 + 255 * 5 + 31, abs=2)
    assert result.bound_by == "tCCD"


def test_refresh_takes_its_share_of_a_stream() -> None:
    result = simulate("seq_rd", {"mapping": GROUPS}, N=60000)
    # of 10416 clocks, from the last read: tRTP, tRP, tRFC, tRCD and CAS, less the read's own six
    lost_ticks = (14 + 107 + 1014 + 48 + 2 - 6) / 2
    refreshes = result.commands["REFab"]
    assert refreshes == result.end_ticks // 5208
    assert result.share_of_peak == pytest.approx(1 - refreshes * lost_ticks / result.end_ticks, abs=0.003)
    assert result.bandwidth_stack["refresh"] == pytest.approx(refreshes * lost_ticks / result.end_ticks, abs=0.003)


def test_a_new_row_of_each_bank_in_turn_is_bound_by_the_row_cycle() -> None:
    result = simulate("seq_rd", {"refresh": "no", "mapping": ROUND_ROBIN}, N=8000)
    # a bank: activate, read after 24 ticks, precharge 7 later, next activate 54 later; 16 banks x tRRD are only 80
    assert result.end_ticks / 8000 == pytest.approx(85 / 16, rel=0.01)
    assert result.bandwidth_bytes_per_s == pytest.approx(16 * 32 / (85 * 0.75e-9), rel=0.01)
    assert result.row_hits == 0


def test_row_conflicts_of_one_bank_restart_the_data_clock() -> None:
    result = simulate("row_conflict", {"refresh": "no"}, N=500, rstep=1)
    # activate, CAS 24 ticks later, read in the next, precharge 7 later, tRP of 107 clocks: 54 ticks
    assert result.end_ticks == pytest.approx(500 * (24 + 1 + 7 + 54), rel=0.005)
    assert result.commands["CAS_RD"] == 500  # it stops 65 clocks after a read


def test_two_clock_commands_never_overlap_and_their_halves_keep_their_windows() -> None:
    result = archsim.simulate_memory(
        DEVICE, "rand_mix", parameters={"N": 4000, "seed": 3, "wfrac": 0.3, "foot": 2**27}, trace=True, explain=False
    )
    trace = result.trace
    assert trace is not None
    assert np.diff(trace.tick).min() == 1  # one command in two clocks, and the bus is used fully at times
    names = np.array(trace.names)[trace.command]
    first, second = trace.tick[names == "ACT1"], trace.tick[names == "ACT2"]
    assert first.size == second.size > 1000
    assert np.all((second - first >= 1) & (second - first <= 4))  # tAAD: 8 clocks
    for cas, columns in (("CAS_RD", ("RD", "RDA")), ("CAS_WR", ("WR", "WRA"))):
        at = np.flatnonzero(names == cas)
        assert at.size > 0
        assert np.all(trace.tick[at + 1] - trace.tick[at] == 1)  # tCAS: 2 clocks
        assert set(names[at + 1]) <= set(columns)


def test_energy_is_that_of_all_bits_on_the_pins() -> None:
    result = simulate("seq_rd", N=5000)
    assert sum(result.energy_j.values()) == pytest.approx(5000 * 24 * 12 * 3.16e-12)
    assert result.energy_pj_per_bit == pytest.approx(3.16 * 36 / 32)


def test_a_payload_larger_than_the_burst_is_refused() -> None:
    device = load("memory", DEVICE)
    standard = device.standard.model_copy(update={"payload_bytes": 64})
    with pytest.raises(ConfigError, match="64 bytes of data do not fit a burst of 36 bytes"):
        prepare(device.model_copy(update={"standard": standard}), Controller())


def test_what_is_not_public_is_refused_and_what_is_shown_names_both_rates(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["memory", "run", DEVICE, "--pattern", "seq_rd", "--param", "N=200"]
    assert run([*arguments, "--controller", "refresh=pb"]) == 2
    assert capsys.readouterr().err.strip() == f"archsim: refresh: {DEVICE} has no per-bank refresh"
    assert run([*arguments, "--set", "tick_ps=375"]) == 2
    assert "tick_ps is 375, expected ck_ps x ck_per_tick / ticks_per_ck = 750" in capsys.readouterr().err
    assert run(arguments) == 0
    assert "of 14.22 GB/s of data, 16 GB/s on the pins" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pattern", "controller", "parameters"),
    [
        ("seq_rd", {}, {"N": 6000}),
        ("gemv", {"mapping": "MOP4CLXOR"}, {"N": 6000, "S": 16, "K": 1024, "obase": 2**24}),
        ("rand_mix", {"channels": 2, "ranks": 2}, {"N": 3000, "seed": 4, "wfrac": 0.3, "foot": 2**27}),
        ("rand_mix", {"row_policy": "closed2"}, {"N": 3000, "seed": 5, "wfrac": 0.5, "foot": 2**22}),
    ],
)
def test_short_cuts_of_the_engine_change_nothing(
    pattern: str, controller: dict[str, Any], parameters: dict[str, Any]
) -> None:
    setup = prepare(load("memory", DEVICE), Controller.model_validate(controller))
    layout = resolve_layout(setup.controller.mapping, setup.geometry)
    both(setup, make_stream(pattern, Target(setup.geometry, layout), parameters), requests=True)
