"""Topologies and algorithms of collectives: closed forms by hand, shared edges, conservation, choice by cost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim import network
from archsim.config import load
from archsim.config.schemas.link import Link
from archsim.errors import ConfigError
from archsim.network.collectives import all_reduce_protocol
from archsim.network.schedules import ALGORITHMS, rounds
from archsim.network.topology import Shape, build_topology, route

GB, US = 1e9, 1e-6
SHAPES = [("switch", 0), ("ring", 0), ("torus", 4), ("tree", 4), ("fully-connected", 0)]


def link(topology: str, radix: int = 0, algorithm: str = "ring", uplink: float = 1.0) -> Link:
    """10 GB/s, 1 us a link, 0.5 us a switch, no packets and no software cost."""
    sets = [
        "bandwidth=10 GB/s", "latency=1 us", "switch_latency=0.5 us", "utilisation=1.0", "packet=null", "flit=null",
        f"topology={topology}", f"uplink={uplink}", "latency_parts=null", "lanes=null",
        *([f"radix={radix}"] if radix else []),
    ]  # fmt: skip
    overhead = f"collective={{model: alpha-beta, algorithm: {algorithm}, round_overhead: 0 s}}"
    return load("link", "infiniband-hdr", (*sets, overhead))


def test_all_to_all_over_a_thin_uplink() -> None:
    """Two leaves of four: 4 x 4 flows of an eighth of the buffer share an uplink of one device's bandwidth."""
    thin, fat = link("tree", 4), link("tree", 4, uplink=4.0)
    size = 80e6
    crossing = 16 * size / 8 / (10 * GB)
    assert network.all_to_all_seconds(thin, 8, size) == pytest.approx(4 * US + 1.5 * US + crossing)
    alone = 7 * size / 8 / (10 * GB)  # with four times the uplink a device's own link is the narrow place
    assert network.all_to_all_seconds(fat, 8, size) == pytest.approx(4 * US + 1.5 * US + alone)


def test_all_gather_on_a_torus_by_dimensions() -> None:
    """4 x 4: three rounds of a sixteenth along the columns, three of a quarter along the rows, one link each."""
    size = 16e6
    rate = 10 * GB
    by_rows = 3 * (US + size / 16 / rate) + 3 * (US + size / 4 / rate)
    assert network.all_gather_seconds(link("torus", 4, "hierarchical"), 16, size) == pytest.approx(by_rows)
    assert network.all_gather_seconds(link("torus", 4), 16, size) == pytest.approx(15 * (US + size / 16 / rate))


def test_recursive_doubling_on_a_switch() -> None:
    """Rounds of 1/8, 2/8, 4/8 of the buffer; each crosses two links and the switch."""
    size, hop = 8e6, 2.5 * US
    expected = sum(hop + part * size / 8 / (10 * GB) for part in (1, 2, 4))
    assert network.all_gather_seconds(link("switch", 0, "recursive"), 8, size) == pytest.approx(expected)
    # six ranks have no such schedule: the ring stands in
    ring = network.all_gather_seconds(link("switch"), 6, size)
    assert network.all_gather_seconds(link("switch", 0, "recursive"), 6, size) == ring


@settings(max_examples=30, deadline=None)
@given(size=st.floats(1.0, 1e10), ranks=st.sampled_from([2, 4, 6, 8, 16]), shape=st.sampled_from(SHAPES))
def test_best_is_no_slower_than_any(size: float, ranks: int, shape: tuple[str, int]) -> None:
    best = network.all_reduce_seconds(link(*shape, "best"), ranks, size)
    each = {name: network.all_reduce_seconds(link(*shape, name), ranks, size) for name in ALGORITHMS}
    assert best == min(each.values())
    assert each[all_reduce_protocol(link(*shape, "best"), ranks, size)] == best


def test_the_choice_follows_size_and_topology() -> None:
    flat, thin = link("switch", 0, "best"), link("tree", 8, "best")
    assert all_reduce_protocol(flat, 16, 256.0) in ("direct", "recursive")  # latency counts
    assert all_reduce_protocol(thin, 64, 1e5) == "hierarchical"  # 2 x 7 rounds a half instead of 63
    assert all_reduce_protocol(thin, 64, 1e9) == "ring"  # one flow on each uplink, no byte twice


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ranks", [4, 8, 16])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_rank_receives_every_other_part(shape: tuple[str, int], ranks: int, algorithm: str) -> None:
    """An all-gather delivers (p - 1) / p of the buffer to each of p ranks, whatever the way."""
    found = rounds("all-gather", algorithm, Shape(shape[0], shape[1], 1.0), ranks)  # type: ignore[arg-type]
    if found is None:
        assert algorithm == "hierarchical"
        assert shape[0] not in ("torus", "tree") or ranks <= shape[1]
        return
    delivered = sum(step.times * flows(algorithm, ranks, step.parts) / step.parts for step in found)
    assert delivered == pytest.approx(ranks - 1)


def flows(algorithm: str, ranks: int, parts: float) -> int:
    """Flows of one round: everyone sends to one partner, or to all others."""
    return ranks * (ranks - 1) if algorithm == "direct" else ranks


@pytest.mark.parametrize(("shape", "ranks"), [(("torus", 4), 16), (("torus", 0), 12), (("tree", 4), 16)])
def test_flows_use_links_that_exist(shape: tuple[str, int], ranks: int) -> None:
    """Every device reaches every other; on a torus in at most half of each ring's length."""
    whole = Shape(shape[0], shape[1], 1.0)  # type: ignore[arg-type]
    graph = build_topology(whole, ranks)
    assert all(graph.has_edge(b, a) for a, b in graph.edges)
    for target in range(1, ranks):
        ((links, _, busiest),) = route(whole, ranks, ((0, target),)).ways
        assert links <= 4  # up to the root and down; half a row, half a column
        assert busiest == 1.0


def test_a_tree_needs_a_radix() -> None:
    with pytest.raises(ConfigError, match="tree without radix"):
        link("tree")
    with pytest.raises(ConfigError, match="radix with topology ring"):
        link("ring", 4)
