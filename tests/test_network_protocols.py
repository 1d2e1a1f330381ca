"""Collectives by protocols: measured times, lower bounds, and what may not happen when a number improves."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim import network
from archsim.config import load
from archsim.errors import ConfigError
from archsim.validation.collective import LINKS, SECONDS, read_measured

DATA = Path(__file__).parent / "data" / "collectives"
LIBRARIES = ("nvlink3", "nvlink4", "nvlink5", "pcie5-x16-rtx-pro-6000-server", "nvlink3-bridge-vidur")
COLLECTIVES = (
    network.all_reduce_seconds, network.all_gather_seconds, network.reduce_scatter_seconds,
    network.all_to_all_seconds, network.broadcast_seconds, network.gather_seconds, network.send_receive_seconds,
)  # fmt: skip


@pytest.mark.parametrize(
    ("sample", "bar"), [("nccl_nvlink", 0.12), ("mi200", 0.05), ("mesh4_a100", 0.07), ("vidur_inside_node", 0.11)]
)
def test_measured_collectives(sample: str, bar: float) -> None:
    errors = []
    for row in csv.DictReader((DATA / f"{sample}.csv").open()):
        found = read_measured(row)
        assert found is not None
        seconds = SECONDS[found.primitive](load("link", LINKS[found.machine]), found.ranks, found.bytes)
        errors.append(abs(seconds * found.scale / float(row[found.truth]) - 1))
    assert np.mean(errors) < bar


@settings(max_examples=40, deadline=None)
@given(
    bytes_=st.floats(1.0, 1e10), factor=st.floats(1.0, 8.0), ranks=st.integers(2, 16), name=st.sampled_from(LIBRARIES)
)
def test_more_bytes_or_a_slower_link_never_take_less_time(bytes_: float, factor: float, ranks: int, name: str) -> None:
    link = load("link", name)
    slower = load("link", name, (f"bandwidth={link.bandwidth / factor} B/s",))
    for seconds in COLLECTIVES:
        once = seconds(link, ranks, bytes_)
        assert seconds(link, ranks, bytes_ * factor) >= once > 0
        assert seconds(slower, ranks, bytes_) >= once
    in_graph = network.all_reduce_seconds(link, ranks, bytes_, "graph")
    assert network.all_reduce_seconds(link, ranks, bytes_ * factor, "graph") >= in_graph > 0
    assert in_graph <= network.all_reduce_seconds(link, ranks, bytes_)


@settings(max_examples=40, deadline=None)
@given(bytes_=st.floats(1.0, 1e10), ranks=st.integers(2, 16), name=st.sampled_from(LIBRARIES[:3]))
def test_no_protocol_beats_the_link(bytes_: float, ranks: int, name: str) -> None:
    link = load("link", name)
    part_s = (ranks - 1) / ranks * bytes_ / link.bandwidth
    for seconds in (network.all_gather_seconds, network.reduce_scatter_seconds, network.all_to_all_seconds):
        assert seconds(link, ranks, bytes_) >= part_s
    in_switch = network.all_reduce_protocol(link, ranks, bytes_) == "in-switch"
    assert network.all_reduce_seconds(link, ranks, bytes_) >= (bytes_ / link.bandwidth if in_switch else 2 * part_s)


def test_protocols_change_with_size_and_group() -> None:
    link = load("link", "nvlink4")
    assert [network.all_reduce_protocol(link, 8, size) for size in (1e3, 1e6, 1e9)] == [
        "low-latency", "middle", "in-switch",
    ]  # fmt: skip
    assert network.all_reduce_protocol(link, 2, 1e9) == "bulk"
    graph = [network.all_reduce_protocol(link, 8, size, "graph") for size in (1e4, 2e6, 1e9)]
    assert graph == ["one-shot", "two-shot", "in-switch"]


def test_protocol_times_by_hand() -> None:
    """nvlink4, 4 ranks: all-gather of 64 MB by the bulk protocol and all-to-all of 1 MB, worked out by hand."""
    link = load("link", "nvlink4")
    gather = 4.46e-6 + 3 * 0.835e-6 + 11.2e-6 + (3 + 0.355) / 4 * 64e6 / (450e9 * 0.734)
    assert network.all_gather_seconds(link, 4, 64e6) == pytest.approx(gather)
    exchange = 1.53e-6 + 4.46e-6 + 0.835e-6 + 5.74e-6 + (3 + 0.17) / 4 * 1e6 / (450e9 * 0.636)
    assert network.all_to_all_seconds(link, 4, 1e6) == pytest.approx(exchange)


def test_energy_counts_what_ranks_send() -> None:
    link = load("link", "nvlink4")
    joules = 1.3e-12 * 8 * 1e6
    assert network.all_reduce_joules(link, 4, 1e6) == pytest.approx(2 * 3 * joules)
    assert network.all_reduce_joules(link, 8, 1e9) == pytest.approx(8 * 1e3 * joules)  # in the switch
    assert network.all_to_all_joules(link, 4, 1e6) == pytest.approx(3 * joules)


def test_a_pair_on_a_bridge_is_faster_than_a_group_over_pcie() -> None:
    link = load("link", "nvlink3-bridge-vidur")
    assert network.all_reduce_seconds(link, 4, 1e8) > 5 * network.all_reduce_seconds(link, 2, 1e8)


def test_tiers_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="ascend"):
        load("link", "nvlink3-bridge-vidur", ("collective.tiers.0.ranks=9",))
