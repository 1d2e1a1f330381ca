"""CXL links flit by flit: against hand arithmetic, the closed form, published curves, and the laws of a link."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.cli.main import run
from archsim.config import load
from archsim.config.schemas.link import Link
from archsim.errors import ConfigError, UsageError
from archsim.execution.arbiter_kernels import arbitrate
from archsim.execution.expander import Load, simulate_expander
from archsim.network.cxl import LinkMemory, LinkResult, overload, random_requests, simulate_link
from archsim.network.links import memory_bandwidth, path_latency
from archsim.validation import validate

DATA = Path(__file__).parent / "data" / "cxl"
SMALL, LARGE = "cxl-68b-x8", "cxl-256b-x16"


def loaded(name: str, reads: float, share: float | None, count: int = 4000, *overrides: str) -> LinkResult:
    """`count` random requests at `share` of what the slots allow, None: an overload."""
    link: Link = load("link", name, overrides)
    rate = overload(link, reads) if share is None else share * memory_bandwidth(link, reads)
    return simulate_link(link, random_requests(count, reads, rate, 64.0, 0, seed=1), LinkMemory(50e-9))


def test_one_read_and_one_write_take_what_their_flits_and_the_path_take() -> None:
    """68 B at 32 GB/s is 2.125 ns. Read: a flit out, five slots in two flits back; write: two out, one back."""
    link, memory = load("link", SMALL), LinkMemory(50e-9)
    read = simulate_link(link, random_requests(1, 1.0, None, 64.0, 0, 0), memory)
    assert read.read_latency.mean_s == pytest.approx(2.125e-9 + 77e-9 + 50e-9 + 2 * 2.125e-9 + 77e-9)
    write = simulate_link(link, random_requests(1, 0.0, None, 64.0, 0, 0), memory)
    assert write.write_latency.mean_s == pytest.approx(2 * 2.125e-9 + 77e-9 + 2.125e-9 + 77e-9)


@pytest.mark.parametrize("name", [SMALL, LARGE])
@pytest.mark.parametrize("reads", [0.0, 0.25, 0.5, 0.57, 0.75, 1.0])
def test_an_overload_reaches_the_slot_bound(name: str, reads: float) -> None:
    found = loaded(name, reads, None, 20_000)
    assert found.bandwidth_bytes_per_s == pytest.approx(memory_bandwidth(load("link", name), reads), rel=0.01)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([SMALL, LARGE]), st.floats(0.0, 1.0), st.floats(0.05, 1.5))
def test_slots_and_bytes_are_conserved_and_no_direction_exceeds_its_raw_rate(
    name: str, reads: float, share: float
) -> None:
    found = loaded(name, reads, share, 1500)
    flit = load("link", name).flit
    n_reads, n_writes = found.read_latency.count, found.write_latency.count
    there, back = found.directions["m2s"], found.directions["s2m"]
    assert n_reads + n_writes == 1500
    assert (there.slots["data"], back.slots["data"]) == (4 * n_writes, 4 * n_reads)
    assert (there.slots["headers"], there.slots["headers_with_data"]) == (n_reads, n_writes)
    assert n_writes / flit.completions_per_slot <= back.slots["headers"] <= n_writes
    assert n_reads / flit.read_headers_per_slot <= back.slots["headers_with_data"] <= n_reads
    for one in (there, back):
        assert sum(one.slots.values()) == one.flits * flit.slots
        assert one.wire_bytes == one.flits * flit.bytes
        assert one.share_of_raw <= 1.0
    assert there.wire_bytes >= 64 * n_writes
    assert back.wire_bytes >= 64 * n_reads


@settings(max_examples=15, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.1, 0.8))
def test_latency_is_at_least_the_path_and_grows_with_load(reads: float, share: float) -> None:
    path_s = 2 * path_latency(load("link", SMALL))
    low, high = loaded(SMALL, reads, share / 4), loaded(SMALL, reads, min(0.95, share * 1.2))
    for found in (low, high):
        if found.read_latency.count:
            assert found.read_latency.mean_s >= path_s + 50e-9
    if low.read_latency.count > 100:
        assert high.read_latency.mean_s >= low.read_latency.mean_s * 0.999


def test_outstanding_lines_and_credits_bound_the_rate() -> None:
    """One line under way: a line per round trip. One write credit: one per trip out and back of the credit."""
    one = loaded(SMALL, 1.0, None, 500, "outstanding_lines=1")
    assert one.bandwidth_bytes_per_s == pytest.approx(64 / one.read_latency.mean_s, rel=1e-6)
    write = loaded(SMALL, 0.0, None, 500, "write_credits=1")
    assert write.bandwidth_bytes_per_s == pytest.approx(64 / (2 * 2.125e-9 + 2 * 77e-9), rel=1e-6)
    for lines in (8, 32):
        few = loaded(SMALL, 0.6, None, 4000, f"outstanding_lines={lines}")
        assert few.bandwidth_bytes_per_s < memory_bandwidth(load("link", SMALL), 0.6)
        in_flight_s = 0.6 * few.read_latency.mean_s + 0.4 * few.write_latency.mean_s  # Little's law
        assert few.bandwidth_bytes_per_s == pytest.approx(lines * 64 / in_flight_s, rel=0.03)


def test_sources_keep_the_rate_and_hold_long_bursts_back() -> None:
    """Over many intervals the counts of independent cores vary less than those of exponential gaps."""
    cores, free = (random_requests(64_000, 1.0, 10e9, 64.0, 0, 0, sources).arrival_fs for sources in (32, 0))
    window_fs = 64 / 10e9 * 1e15 * 320
    for arrival in (cores, free):
        assert (arrival[1:] >= arrival[:-1]).all()
        assert arrival[-1] == pytest.approx(64 / 10e9 * 1e15 * 64_000, rel=0.001)
    spread = [np.bincount((arrival / window_fs).astype(int))[:190].std() for arrival in (cores, free)]
    assert spread[0] < 0.5 * spread[1]
    assert spread[1] == pytest.approx(320**0.5, rel=0.2)


def test_busy_banks_hold_reads_back() -> None:
    link, requests = load("link", SMALL), random_requests(3000, 1.0, 10e9, 64.0, 16, 0)
    free, busy = (simulate_link(link, requests, LinkMemory(50e-9, 16, t)) for t in (0.0, 40e-9))
    assert busy.read_latency.mean_s > free.read_latency.mean_s + 2e-9
    two = random_requests(2000, 1.0, None, 64.0, 2, 0)
    slow = simulate_link(link, two, LinkMemory(50e-9, 2, 40e-9))
    assert slow.bandwidth_bytes_per_s == pytest.approx(2 * 64 / 40e-9, rel=0.1)


def test_lanes_give_the_rate_and_parts_the_latency() -> None:
    assert load("link", SMALL).bandwidth == 32e9
    assert load("link", SMALL, ("lanes.generation=6", "lanes.width=16")).bandwidth == 128e9
    assert load("link", SMALL).latency == pytest.approx(77e-9)
    for wrong in ("bandwidth=30 GB/s", "latency=5 ns", "lanes=null", "bandwidth=0", "lanes.width=3"):
        with pytest.raises(ConfigError):
            load("link", SMALL, (wrong,))


def test_peers_behind_a_cxl_2_switch_go_through_the_root() -> None:
    """Twice the links, two more crossings of switch and root; and the one link to the root is shared by all pairs."""
    from archsim.network import all_to_all_seconds, transfer_seconds

    direct, root = (load("link", "cent-cxl3-x16", (f"topology={name}",)) for name in ("switch", "through-root"))
    line_s = 192.0 * 256 / 192 / direct.bandwidth
    assert transfer_seconds(direct, 192.0) == pytest.approx(2 * 80e-9 + 20e-9 + line_s)
    assert transfer_seconds(root, 192.0) == pytest.approx(4 * 80e-9 + 3 * 20e-9 + line_s)
    assert all_to_all_seconds(root, 4, 1e8) == pytest.approx(4 * all_to_all_seconds(direct, 4, 1e8), rel=0.01)


def grants(weight: int, host: list[int], other: list[int], interval: int = 10) -> tuple[list[int], list[int]]:
    time, source = np.empty(len(host) + len(other), np.int64), np.empty(len(host) + len(other), np.int64)
    arbitrate(np.array(host, np.int64), np.array(other, np.int64), interval, weight, time, source)
    return time.tolist(), source.tolist()


def test_the_arbiter_grants_each_access_once_in_order_and_by_weight() -> None:
    for weight in (0, 250, 500, 1000):
        time, source = grants(weight, [0] * 100, [0] * 300)
        assert time == list(range(0, 4000, 10))
        assert source.count(0) == 100
        assert source[:200].count(0) == min(100, 200 * weight // 1000)
    time, source = grants(1000, [0, 35, 36], [0, 0])
    assert list(zip(time, source, strict=True)) == [(0, 0), (10, 1), (20, 1), (35, 0), (45, 0)]


def test_the_arbiter_decides_who_waits_for_shared_memory() -> None:
    expander = load("expander", "cxl-pnm", ("channels=4",))
    load_ = Load(0.8, 8e9, 1500, 0, float("inf"))
    rules = {policy: expander.arbiter.model_copy(update={"policy": policy}) for policy in ("host-first", "weighted")}
    alone = simulate_expander(expander, replace(load_, accelerator_bytes_per_s=None))
    first, shared = (
        simulate_expander(expander.model_copy(update={"arbiter": rules[policy]}), load_) for policy in rules
    )
    assert alone.memory_latency.mean_s < first.memory_latency.mean_s < shared.memory_latency.mean_s
    peak = expander.memory_bandwidth_bytes_per_s
    for found in (first, shared):
        assert 0.4 * peak < found.accelerator_bytes_per_s < peak
        assert found.accelerator_bytes_per_s + found.link.bandwidth_bytes_per_s < peak
    with pytest.raises(UsageError, match="no arbiter"):
        simulate_expander(load("expander", "mess-cxl-x8"), load_)


def test_published_curves_peaks_and_transfers_are_met() -> None:
    peak, latency, transfer = validate([DATA]).datasets
    found = peak.columns["peak_bandwidth_MBps"], latency.columns["latency_ns"], transfer.columns["latency_ns"]
    assert (peak.skipped, latency.skipped, transfer.skipped) == (0, 0, 0)
    for column, most_pct in zip(found, (1.0, 10.0, 0.001), strict=True):
        assert column.max_ape_pct is not None
        assert column.max_ape_pct < most_pct


def test_the_command_prints_a_document_and_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    base = ["network", "run"]
    assert run([*base, SMALL, "--read-fraction", "0.5", "--requests", "500", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "archsim.network/1"
    for wrong in (["nvlink3"], [SMALL, "--read-fraction", "2"], [SMALL, "--load", "fast"], ["cxl-69b"]):
        assert run([*base, *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
