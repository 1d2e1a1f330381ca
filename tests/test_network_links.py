"""Links and collectives against published bandwidths, transfer times and textbook forms."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim import network
from archsim.config import load
from archsim.network.links import path_latency

RANKS = st.integers(2, 12)
SIZES = st.floats(1.0, 1e10)


def test_expander_peaks_of_the_mess_curves(reference_dir: Path) -> None:
    link = load("link", "cxl-68b-x8")
    with (reference_dir / "cxl" / "mess_cxl_expander_peaks.csv").open() as file:
        for row in csv.DictReader(file):
            peak = network.memory_bandwidth(link, float(row["read_percent"]) / 100)
            assert peak == pytest.approx(float(row["peak_bandwidth_MBps"]) * 1e6, rel=0.005)


def test_transfer_times_of_cent(reference_dir: Path) -> None:
    with (reference_dir / "cxl" / "cent_cxl_latency.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        link = load("link", "cent-cxl3-x16", (f"bandwidth={4 * int(row['pcie_lanes'])} GiB/s",))
        bytes_ = 2.0 * int(row["elements_fp16"])
        if row["op"] == "p2p_send":
            seconds = network.transfer_seconds(link, bytes_)
        else:
            seconds = network.gather_seconds(link, int(row["devices"]), bytes_)
        assert seconds * 1e9 == pytest.approx(float(row["latency_ns"]), rel=1e-12)


def test_flit_limits() -> None:
    """All reads and all writes of a 64 B line on 68 B and 256 B flits, slot arithmetic by hand."""
    small, large = load("link", "cxl-68b-x8"), load("link", "cxl-256b-x16")
    assert network.memory_bandwidth(small, 1.0) == pytest.approx(32e9 * 64 / 68 * 64 / (4.5 * 16))
    assert network.memory_bandwidth(small, 0.0) == pytest.approx(32e9 * 64 / 68 * 64 / (5 * 16))
    assert network.memory_bandwidth(large, 0.0) == pytest.approx(0.75 * 128e9)
    assert network.memory_bandwidth(large, 1.0) == pytest.approx(128e9 * 240 / 256 * 64 / (16 * 13 / 3))


@settings(max_examples=25, deadline=None)
@given(reads=st.floats(0.0, 1.0))
def test_payload_never_exceeds_both_directions(reads: float) -> None:
    for name in ("cxl-68b-x8", "cxl-256b-x16", "nvlink3"):
        link = load("link", name)
        assert 0 < network.memory_bandwidth(link, reads) <= 2 * link.bandwidth


def test_credits_bound_the_rate() -> None:
    """48 lines of 64 B over a 100 ns round trip are 30.7 GB/s."""
    link = load("link", "cxl-68b-x8", ("outstanding_lines=48", "latency_parts=null", "latency=25 ns"))
    assert network.memory_bandwidth(link, 0.571, memory_latency_s=50e-9) == pytest.approx(48 * 64 / 100e-9)
    plenty = load("link", "cxl-68b-x8", ("outstanding_lines=10000",))
    assert network.memory_bandwidth(plenty, 0.5) == network.memory_bandwidth(load("link", "cxl-68b-x8"), 0.5)


@settings(max_examples=25, deadline=None)
@given(ranks=RANKS, bytes_=SIZES)
def test_ring_and_direct_are_the_textbook_forms(ranks: int, bytes_: float) -> None:
    plain = ("latency=1 us", "bandwidth=100 GB/s", "energy=1 pJ/byte", "topology=switch")
    ring = load("link", "host-4xpcie4-x16", plain)
    direct = load("link", "host-4xpcie4-x16", (*plain, "collective.algorithm=direct"))
    alpha, part_s = 2e-6, bytes_ / ranks / 100e9
    assert network.all_reduce_seconds(ring, ranks, bytes_) == pytest.approx(2 * (ranks - 1) * (alpha + part_s))
    assert network.all_gather_seconds(ring, ranks, bytes_) == pytest.approx((ranks - 1) * (alpha + part_s))
    assert network.reduce_scatter_seconds(direct, ranks, bytes_) == pytest.approx(alpha + (ranks - 1) * part_s)
    assert network.all_reduce_seconds(direct, ranks, bytes_) == pytest.approx(2 * (alpha + (ranks - 1) * part_s))
    for link in (ring, direct):  # both move 2 (p - 1) / p of the buffer out of every rank
        joules = network.all_reduce_joules(link, ranks, bytes_)
        assert joules == pytest.approx(2 * (ranks - 1) * bytes_ * 1e-12)


@settings(max_examples=25, deadline=None)
@given(ranks=RANKS, bytes_=SIZES, topology=st.sampled_from(["switch", "ring", "fully-connected"]))
def test_no_collective_beats_its_lower_bound(ranks: int, bytes_: float, topology: str) -> None:
    link = load("link", "host-4xpcie4-x16", (f"topology={topology}", "latency=1 us"))
    alpha, rate = path_latency(link), link.bandwidth * (2 if topology == "ring" and ranks > 2 else 1)
    part = (ranks - 1) / ranks * bytes_ / rate
    assert network.all_reduce_seconds(link, ranks, bytes_) >= (2 * part + alpha) * (1 - 1e-12)
    assert network.all_gather_seconds(link, ranks, bytes_) >= (part + alpha) * (1 - 1e-12)
    assert network.all_to_all_seconds(link, ranks, bytes_) >= (part + alpha) * (1 - 1e-12)
    assert network.broadcast_seconds(link, ranks, bytes_) >= (part + alpha) * (1 - 1e-12)
    assert network.gather_seconds(link, ranks, bytes_) >= (part + alpha) * (1 - 1e-12)


def test_all_to_all_on_a_ring_waits_for_the_busiest_link() -> None:
    """Four ranks, both ways round: a link carries its neighbour's part and parts passing through."""
    link = load("link", "host-4xpcie4-x16", ("topology=ring", "bandwidth=1 GB/s"))
    part_s = 1e9 / 4 / 1e9
    assert 2 * part_s <= network.all_to_all_seconds(link, 4, 1e9) <= 3 * part_s


def test_one_rank_or_no_bytes_take_no_time() -> None:
    for name in ("nvlink3", "nvlink3-attacc"):
        link = load("link", name)
        for seconds in (network.all_reduce_seconds, network.all_gather_seconds, network.broadcast_seconds):
            assert seconds(link, 1, 1e6) == 0.0
            assert seconds(link, 8, 0.0) == 0.0
        assert network.transfer_seconds(link, 0.0) == 0.0
        assert network.all_reduce_joules(link, 1, 1e6) == 0.0


@settings(max_examples=25, deadline=None)
@given(bytes_=SIZES, factor=st.floats(1.0, 10.0))
def test_more_bytes_never_take_less_time(bytes_: float, factor: float) -> None:
    for name in ("nvlink3", "nvlink3-attacc", "pcie5-x16", "cent-cxl3-x16", "cxl-68b-x8"):
        link = load("link", name)
        assert network.transfer_seconds(link, bytes_ * factor) >= network.transfer_seconds(link, bytes_)
        assert network.all_reduce_seconds(link, 8, bytes_ * factor) >= network.all_reduce_seconds(link, 8, bytes_)
        assert bytes_ / network.transfer_seconds(link, bytes_) <= link.bandwidth * (1 + 1e-12)


def test_nccl_all_reduce_of_eight_gpus(reference_dir: Path) -> None:
    """The presets' ring meets measured small and large messages; in between NCCL switches protocols."""
    with (reference_dir / "gpu_silicon" / "collectives.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["op_name"] == "all_reduce" and row["num_gpus"] == "8"]
    for gpu, name in (("a100_sxm", "nvlink3"), ("h100_sxm", "nvlink4")):
        link = load("link", name)
        for row in rows:
            bytes_ = 2.0 * int(row["message_size"])
            if row["gpu"] == gpu and (bytes_ <= 8192 or bytes_ > 5e8):
                measured_s = float(row["latency_ms"]) * 1e-3
                assert network.all_reduce_seconds(link, 8, bytes_) == pytest.approx(measured_s, rel=0.08)
