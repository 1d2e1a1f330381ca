"""Laws of PIM results: parts add up, bounds hold, less restriction never costs time, devices meet their data sheets."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from archsim.cli.memory_pim import pim
from archsim.config import load
from archsim.errors import InfeasibleError, InputError
from archsim.memory.pim.attacc import simulate_attention, simulate_device_attention
from archsim.memory.pim.device import PimDevice, compile_pim
from archsim.memory.pim.gemv import simulate_gemv
from archsim.memory.pim.result import PimResult
from archsim.memory.pim.stream import stream_time

UNITS = ("attacc-bank", "attacc-bankgroup", "attacc-buffer")


def _device(name: str, *overrides: str) -> PimDevice:
    return compile_pim(load("pim", name, overrides))


def _results() -> list[PimResult]:
    found = [simulate_attention(_device(name), 600, heads, 128, 2) for name in UNITS for heads in (3, 40)]
    found += [simulate_device_attention(_device("attacc-bank"), 1000, 77, 96, 1, 4)]
    found += [simulate_gemv(_device(name), 2000, 3000) for name in ("gddr6-aim", "hbm-pim")]
    return found + [stream_time(_device("attacc-bank"), mac, 20_000) for mac in ("MACAB", "MACSB", "MACPB")]


def test_parts_add_up_and_bounds_hold() -> None:
    for result in _results():
        assert sum(result.time_split_s.values()) == pytest.approx(result.seconds, rel=1e-12)
        assert min(result.time_split_s.values()) >= 0
        assert sum(result.energy_j.values()) == pytest.approx(result.total_energy_j, rel=1e-12)
        assert 0 < result.mac_utilisation <= result.internal_bandwidth_share + 1e-12 <= 1 + 1e-12
        assert result.time_split_s["mac"] <= result.seconds


RC, RFC = 63, 456  # clocks, HBM3 at 5.2 Gb/s


@pytest.mark.parametrize("name", ["attacc-bank", "attacc-bankgroup"])
def test_time_never_falls_with_tokens_or_heads(name: str) -> None:
    """Exactly without refresh; with it, a longer run may meet one refresh fewer at a bad moment: one tRFC at most."""
    for rules, slack in ((("controller.refresh=false",), 0), ((), RFC)):
        device = _device(name, *rules)
        for heads in (1, 20, 33):
            cycles = [simulate_attention(device, tokens, heads, 128, 2).cycles for tokens in range(1, 1400, 13)]
            assert all(b >= a - slack for a, b in itertools.pairwise(cycles))
            assert all(b > a for a, b in zip(cycles, cycles[8:], strict=False))
        for tokens in (100, 1000):
            cycles = [simulate_attention(device, tokens, heads, 128, 2).cycles for heads in range(1, 80)]
            assert all(b >= a - slack for a, b in itertools.pairwise(cycles))


def test_buffer_units_lose_at_most_a_row_cycle_a_phase_to_a_longer_context() -> None:
    """A longer context moves the ends of rows between banks: seen, 196 of 69,744 clocks at 17 heads, 2048 tokens."""
    for rules, slack in ((("controller.refresh=false",), 0), ((), RFC)):
        device = _device("attacc-buffer", *rules)
        for heads in (1, 17):
            phases = 2 * -(-heads // 16)
            cycles = [simulate_attention(device, tokens, heads, 128, 2).cycles for tokens in range(1984, 2112, 16)]
            assert all(b >= a - slack - RC * phases for a, b in itertools.pairwise(cycles))
            assert cycles[-1] > cycles[0]


@pytest.mark.parametrize("name", UNITS)
def test_a_lifted_power_limit_never_costs_time(name: str) -> None:
    limited, free = _device(name), _device(name, "power_limit=false")
    for tokens, heads in ((100, 5), (900, 40)):
        assert (
            simulate_attention(free, tokens, heads, 128, 2).cycles
            <= simulate_attention(limited, tokens, heads, 128, 2).cycles
        )
    mac = limited.config.program.mac
    assert stream_time(free, mac, 30_000).cycles <= stream_time(limited, mac, 30_000).cycles


def test_relaxed_activation_limits_never_slow_a_stream() -> None:
    tight, loose = _device("attacc-bank"), _device("attacc-bank", "dram.timing.nFAW=10")
    for mac in ("MACAB", "MACSB", "MACPB"):
        assert stream_time(loose, mac, 30_000).cycles <= stream_time(tight, mac, 30_000).cycles


def test_no_refresh_is_never_slower() -> None:
    for name in UNITS:
        without = simulate_attention(_device(name, "controller.refresh=false"), 1200, 32, 128, 2)
        assert without.cycles <= simulate_attention(_device(name), 1200, 32, 128, 2).cycles
        assert "REFab" not in without.counts


def test_command_counts_follow_from_the_mapping() -> None:
    """Counts of one head: groups x columns and so on, AttAcc (ASPLOS 2024) mapping; nothing dropped."""
    tokens, heads, lanes = 1000, 21, 16
    groups, out = -(-tokens // 16), -(-tokens // (16 * lanes))
    bank = simulate_attention(_device("attacc-bank"), tokens, heads, 128, 2).counts
    assert bank["MACAB"] == heads * (groups * 2 + 2 * groups)
    assert (bank["WRGB"], bank["MVGB"], bank["SFM"]) == (heads * 4 * 2, heads * 8 * out, heads)
    assert bank["MVSB"] == heads * (8 * -(-groups // 16) + 8 * 2)
    group = simulate_attention(_device("attacc-bankgroup"), tokens, heads, 128, 2).counts
    assert group["MACSB"] == heads * (groups * 8 + 8 * groups)
    buffer = simulate_attention(_device("attacc-buffer"), tokens, heads, 128, 2).counts
    assert buffer["MACPB"] == heads * 16 * 500


@pytest.mark.parametrize("name", UNITS)
def test_queries_that_share_a_head_save_time(name: str) -> None:
    device = _device(name)
    alone = simulate_attention(device, 500, 32, 128, 2)
    shared = simulate_attention(device, 500, 8, 128, 2, queries_per_kv=4)
    single = simulate_attention(device, 500, 8, 128, 2)
    assert shared.counts[device.config.program.mac] == alone.counts[device.config.program.mac]
    assert single.cycles < shared.cycles
    openers = [n for n in alone.counts if n.startswith("ACT")]
    assert sum(shared.counts[n] for n in openers) < sum(alone.counts[n] for n in openers)


def test_each_slip_alone_is_a_choice() -> None:
    """Slips of the reference can be taken one by one; together they give the reference's cycles, none gives ours."""
    names = load("pim", "attacc-bank", ("reference_slips=true",)).active_slips
    whole = simulate_attention(_device("attacc-bank", "reference_slips=true"), 700, 40, 128, 2)
    listed = _device("attacc-bank", f"reference_slips=[{', '.join(sorted(names))}]")
    assert simulate_attention(listed, 700, 40, 128, 2).cycles == whole.cycles
    assert simulate_attention(_device("attacc-bank", "reference_slips=[]"), 700, 40, 128, 2).cycles != whole.cycles


def test_device_energy_counts_all_heads_and_time_the_fullest_stack() -> None:
    device = _device("attacc-bank")
    whole, part = simulate_device_attention(device, 500, 33, 128, 2), simulate_attention(device, 500, 7, 128, 2)
    assert whole.cycles == part.cycles
    assert whole.total_energy_j == pytest.approx(part.total_energy_j * 33 / 7, rel=1e-12)


def test_peaks_are_those_of_the_makers() -> None:
    """GDDR6-AiM 512 GB/s inside a channel; HBM-PIM 1.2 TFLOPS of 2-byte operands; AttAcc buffer units: the pins."""
    aim = _device("gddr6-aim")
    assert aim.peak_bytes_per_tick("MACAB") / aim.tick_s / 2 == pytest.approx(512e9, rel=1e-3)
    hbm = _device("hbm-pim")
    assert hbm.peak_bytes_per_tick("MACAB") / hbm.tick_s == pytest.approx(1.2e12, rel=0.03)
    buffer = _device("attacc-buffer")
    assert buffer.peak_bytes_per_tick("MACPB") / buffer.tick_s == pytest.approx(670.4e9, rel=0.01)


def test_gemv_counts_and_bound() -> None:
    aim = _device("gddr6-aim")
    result = simulate_gemv(aim, 4096, 4096)
    assert result.counts["MACAB"] == 2 * (4096 // 32) * (4096 // 16)  # two channels, 32 units, 16 lanes
    assert result.counts["RDMAC"] == 2 * (4096 // 32) * 4  # after every row of 1024 elements
    assert result.seconds >= 4096 * 4096 * 2 / 1.024e12


def test_sizes_that_cannot_be_are_refused() -> None:
    bank = _device("attacc-bank")
    with pytest.raises(InputError, match="kv_len"):
        simulate_attention(bank, 0, 1, 128, 2)
    with pytest.raises(InputError, match="element size"):
        simulate_attention(bank, 10, 1, 128, 4)
    with pytest.raises(InfeasibleError, match="rows"):
        simulate_attention(bank, 100_000, 4000, 128, 2)
    with pytest.raises(InfeasibleError, match="matrix"):
        simulate_gemv(_device("gddr6-aim"), 10**6, 10**5)


def test_command_line_prints_one_document_and_writes_commands(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    files = ["--hdf5", str(tmp_path / "a.h5"), "--perfetto", str(tmp_path / "a.json")]
    arguments = ["attacc-bank", "--kv-len", "300", "--heads", "90", "--json", *files]
    answer = CliRunner().invoke(pim, arguments, catch_exceptions=False)
    document = json.loads(answer.stdout)
    assert document["cycles"] == simulate_attention(_device("attacc-bank"), 300, 18, 128, 2).cycles
    events = [e for e in json.loads((tmp_path / "a.json").read_text())["traceEvents"] if e["ph"] == "X"]
    with h5py.File(tmp_path / "a.h5") as file:
        lengths = [group["tick"].shape[0] for group in file["commands"].values()]
    assert len(events) == sum(lengths) > 100


def test_the_page_on_new_devices_and_programs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "archsim" / "memory" / "README.md").read_text(encoding="utf-8")
    blocks = {kind: re.search(rf"```{kind}\n(.*?)```", page, re.S) for kind in ("yaml", "python")}
    assert all(blocks.values())
    (tmp_path / "my-pim.yaml").write_text(blocks["yaml"].group(1))  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(blocks["python"].group(1), names)  # type: ignore[union-attr]
    assert names["run"].ticks > 100 * 64 * 2  # type: ignore[attr-defined]
