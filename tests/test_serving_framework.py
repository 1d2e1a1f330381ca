"""A framework's server under `serve`: its cache by hand, defaults that a user overrules, the host before the queue."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from archsim.cli.main import run as command
from archsim.config import load, load_model, load_system
from archsim.config.schemas.launch import Launch, Server
from archsim.errors import InfeasibleError
from archsim.mapping.capacity import kv_room_bytes
from archsim.report.schemas import result_schema
from archsim.serving import AffineOracle, Deployment, Slo, serve
from archsim.serving.capacity import Criterion, capacity
from archsim.serving.clients import cache_tokens, serve_clients, spread_lengths
from archsim.serving.framework import framework_of
from archsim.serving.front_end import enter
from archsim.serving.nodes import NodeEvent
from archsim.serving.placement import Degrees, instance_oracle
from archsim.serving.policy import POLICIES
from archsim.serving.system_oracle import SystemOracle
from archsim.workload.traces import Trace, make_trace
from tests import serving_twins

assert serving_twins  # registers the twins
QUICK: dict[str, Any] = {
    "max_examples": 8, "deadline": None, "derandomize": True, "phases": (Phase.explicit, Phase.generate),
    "database": None,
}  # fmt: skip
SERVER = Server(request_admission=0.011, token_admission=7e-6, batched_tokens=512, max_requests=9)

LEAN = "units.gpu.launch.server.memory_share=0.85"
MINE = Launch(name="mine", server=SERVER)


@dataclass(frozen=True)
class Framed(AffineOracle):
    """An affine machine under a framework."""

    framework: Launch = MINE


PLAIN = AffineOracle(5e-3, 1e-5, 4e-5, 1e-9, 3e-7, max_tokens=2000, usd_per_hour=36.0, base_j=3.0)
FRAMED = Framed(**vars(PLAIN))
LIMITS: dict[str, Any] = {"max_batch": SERVER.max_requests, "max_batch_tokens": SERVER.batched_tokens}


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Up to 30 requests, some arriving together, that make memory tight."""
    count = draw(st.integers(1, 30))
    gaps = draw(st.lists(st.sampled_from([0.0, 1e-9, 0.003, 0.02, 0.4]), min_size=count, max_size=count))
    prompts = draw(st.lists(st.integers(1, 500), min_size=count, max_size=count))
    outputs = draw(st.lists(st.integers(1, 200), min_size=count, max_size=count))
    return make_trace("random", np.cumsum(gaps) + 3.0, prompts, outputs)


def by_hand(trace: Trace, front_ends: int) -> NDArray[np.int64]:
    """When each request may queue, ns: front ends in a list, the one that is free first takes the next."""
    free, ready = [0.0] * front_ends, []
    for arrival, prompt in zip(trace.arrival_s, trace.prompt_tokens, strict=True):
        first = free.index(min(free))
        free[first] = max(round(arrival * 1e9), free[first]) + round((0.011 + 7e-6 * prompt) * 1e9)
        ready.append(free[first])
    return np.array(ready, dtype=np.int64)


# memory of a device x share - reserve, times devices, less the weights, over copies of the keys and values
@pytest.mark.parametrize(
    ("machine", "model", "settings", "copies"),
    [
        ("hgx-h100", "llama2-70b", (), 1.0),
        ("hgx-h100", "llama3-8b", ("units.gpu.count=2", "framework=tensorrt-llm"), 1.0),
        ("hgx-h200", "gpt-oss-120b", (), 1.0),
        ("hgx-h100", "qwen3-32b", ("units.gpu.launch.server.memory_share=0.8",), 1.0),
        ("hgx-b200", "minimax-m2.5", ("mapping.expert_parallel=8",), 1.0),
    ],
)
def test_cache_is_that_of_the_server_by_hand(
    machine: str, model: str, settings: tuple[str, ...], copies: float
) -> None:
    system, transformer = load_system(machine, settings), load_model(model)
    unit = system.units["gpu"]
    assert unit.type == "gpu"
    share = 0.8 if "0.8" in "".join(settings) else 0.9
    room = unit.count * (share * unit.device.memory_capacity - 4e9) - transformer.weight_bytes
    oracle = SystemOracle(system, transformer)
    assert oracle.kv_capacity_bytes == pytest.approx(room / copies, rel=1e-12)
    assert oracle.max_tokens == pytest.approx(cache_tokens(system, transformer, 4096), abs=1)


def test_copies_of_keys_and_values_share_the_cache() -> None:
    system, model = load_system("hgx-h100"), load_model("llama3-8b").model_copy(update={"kv_heads": 2})
    room = 8 * (0.9 * system.units["gpu"].device.memory_capacity - 4e9) - model.weight_bytes
    assert SystemOracle(system, model).kv_capacity_bytes == pytest.approx(room / 4, rel=1e-12)


def test_every_pipeline_stage_keeps_its_reserve() -> None:
    system, model = load_system("hgx-a100"), load_model("llama2-70b")
    each = system.units["gpu"].device.memory_capacity
    for tp, pp in ((1, 4), (2, 2), (4, 1)):
        room = tp * pp * (0.9 * each - 4e9) - model.weight_bytes
        assert instance_oracle(system, model, Degrees(tp, pp)).kv_capacity_bytes == pytest.approx(room, rel=1e-12)


@pytest.mark.parametrize("settings", [("units.gpu.launch={mode: graph}",), ("units.gpu.launch.name=unnamed",)])
def test_without_a_name_the_whole_memory_is_there(settings: tuple[str, ...]) -> None:
    system, model = load_system("hgx-h100", settings), load_model("llama3-8b")
    assert framework_of(system) is None
    oracle = SystemOracle(system, model)
    assert oracle.kv_capacity_bytes == kv_room_bytes(system, model, 4096)
    assert oracle.framework is None
    assert not any("framework" in note for note in oracle.notes)


def test_a_model_that_fits_the_memory_but_not_the_share_is_refused_with_the_rule() -> None:
    system, model = load_system("hgx-h100", ("units.gpu.count=2", LEAN)), load_model("llama3-70b")
    assert model.weight_bytes < 2 * system.units["gpu"].device.memory_capacity
    rule = (
        r"no room for a KV cache beside llama3-70b \(framework vllm: .* in 0.85 of the memory of each GPU, less 4 GB\)"
    )
    with pytest.raises(InfeasibleError, match=rule):
        SystemOracle(system, model)


@pytest.mark.parametrize(("machine", "model", "clients", "lengths"), [
    ("hgx-h100", "llama3-8b", 16, (512, 64)), ("hgx-h100", "llama2-70b", 64, (1024, 128)),
])  # fmt: skip
def test_clients_and_serve_agree_where_all_requests_come_at_once(
    machine: str, model: str, clients: int, lengths: tuple[int, int]
) -> None:
    """Two loops and two sets of tables, one server: the closed loop of one round against the event loop."""
    system, transformer = load_system(machine), load_model(model)
    prompts, outputs = (spread_lengths(tokens, 0.8, clients, 0, i) for i, tokens in enumerate(lengths))
    closed = serve_clients(system, transformer, (clients,), *lengths, requests_per_client=1).points[0]
    trace = make_trace("at once", np.zeros(clients), prompts, outputs)
    opened = serve(system, transformer, trace, "vllm-v1")
    assert opened.ttft_s is not None
    assert opened.tpot_s is not None
    assert opened.ttft_s.mean == pytest.approx(closed.ttft_s.mean, rel=0.01)
    assert opened.tpot_s.mean == pytest.approx(closed.tpot_s.mean, rel=0.01)
    assert opened.duration_s == pytest.approx(clients / closed.requests_per_s, rel=0.01)


def test_the_machine_of_the_decodes_has_its_say() -> None:
    trace = make_trace("two", [0.0, 0.1], [100, 200], [5, 5])
    where = Deployment(instances=2, decode_system=load_system("hgx-b300"))
    report = serve(load_system("hgx-h100"), load_model("llama3-8b"), trace, "distserve", deployment=where, max_batch=4)
    assert sum("b300-sxm is not calibrated" in note for note in report.notes) == 1
    assert sum("KV cache in" in note for note in report.notes) == 1


def test_options_of_the_framework_are_defaults_only() -> None:
    trace = make_trace("two", [0.0, 0.1], [100, 200], [5, 5])
    report = serve(FRAMED, None, trace, "vllm-v1")
    assert (report.options["max_batch"], report.options["max_batch_tokens"]) == (9, 512)
    assert report.notes == (
        "framework mine: max_batch_tokens 512 by default", "framework mine: max_batch 9 by default",
    )  # fmt: skip
    mine = serve(FRAMED, None, trace, "vllm-v1", max_batch_tokens=100)
    assert (mine.options["max_batch"], mine.options["max_batch_tokens"]) == (9, 100)
    assert mine.notes == ("framework mine: max_batch 9 by default",)
    chunked = serve(FRAMED, None, trace, "sarathi")
    assert (chunked.options["max_batch"], chunked.options["chunk_tokens"]) == (9, 512)
    assert "max_batch_tokens" not in chunked.options
    strict = replace(FRAMED, framework=MINE.model_copy(update={"server": Server(whole_prompts=True)}))
    note = "framework mine: whole_prompts not applied, the policy has rules of its own"
    assert serve(strict, None, trace, "vllm-v1").notes[-1] == note
    plain = serve(PLAIN, None, trace, "vllm-v1")
    assert (plain.options["max_batch"], plain.options["max_batch_tokens"], plain.notes) == (128, 2048, ())


@pytest.mark.parametrize("policy", ["orca", "vllm", "vllm-v1", "sarathi", "vtc", "twin-vllm"])
@given(trace=traces())
@settings(**QUICK)
def test_requests_queue_when_the_host_is_done_with_them(policy: str, trace: Trace) -> None:
    """As if they had arrived then, but for what counts from the arrival."""
    options = {name: LIMITS[name] for name in LIMITS if name in POLICIES.get(policy).Options.model_fields}
    ready = by_hand(trace, 1)
    ours = serve(FRAMED, None, trace, policy, **options)
    theirs = serve(PLAIN, None, replace(trace, arrival_s=ready / 1e9), policy, **options)
    assert ours.requests is not None
    assert theirs.requests is not None
    for name in ("first_scheduled_s", "first_token_s", "completed_s", "preemptions", "instance"):
        np.testing.assert_array_equal(getattr(ours.requests, name), getattr(theirs.requests, name))
    np.testing.assert_array_equal(ours.requests.arrival_s, np.rint(trace.arrival_s * 1e9) / 1e9)
    for field in ("kv_cache", "energy", "tbt_s", "tpot_s"):
        assert getattr(ours, field) == getattr(theirs, field)
    held = ours.requests.first_scheduled_s - ours.requests.arrival_s
    served = ours.requests.completed
    assert (held[served] >= (0.011 + 7e-6 * trace.prompt_tokens[served]) - 1e-8).all()
    assert ours.duration_s == pytest.approx(theirs.duration_s + (ready[0] / 1e9 - trace.arrival_s[0]))


@given(trace=traces(), front_ends=st.integers(1, 4))
@settings(**QUICK)
def test_front_ends_take_one_request_after_the_other(trace: Trace, front_ends: int) -> None:
    entry, ready = enter(trace, SERVER, front_ends), by_hand(trace, front_ends)
    np.testing.assert_array_equal(np.rint(entry.queued.arrival_s * 1e9), ready[entry.order])
    assert all((ready[a], a) <= (ready[b], b) for a, b in pairwise(entry.order.tolist()))
    np.testing.assert_array_equal(entry.queued.prompt_tokens, trace.prompt_tokens[entry.order])
    assert sorted(entry.order.tolist()) == list(range(len(trace)))


@pytest.mark.parametrize("policy", ["vllm", "distserve", "splitwise"])
@given(trace=traces())
@settings(**QUICK)
def test_rows_stay_in_the_order_of_the_trace_on_several_instances(policy: str, trace: Trace) -> None:
    three = Deployment(instances=3, router="least-outstanding")
    report = serve(FRAMED, None, trace, policy, deployment=three, timeline=True)
    assert report.requests is not None
    assert report.series is not None
    np.testing.assert_array_equal(report.requests.prompt_tokens, trace.prompt_tokens)
    np.testing.assert_array_equal(report.requests.output_tokens, trace.output_tokens)
    np.testing.assert_array_equal(report.requests.arrival_s, np.rint(trace.arrival_s * 1e9) / 1e9)
    assert report.counts.completed + report.counts.rejected == len(trace)
    assert all(use.up_fraction == pytest.approx(1.0, abs=1e-9) for use in report.instances)
    front_ends = 3 if policy == "vllm" else 1
    served = report.requests.completed
    assert (report.requests.first_scheduled_s[served] * 1e9 >= by_hand(trace, front_ends)[served] - 1).all()


def test_instances_are_there_from_the_first_arrival_on() -> None:
    trace = make_trace("many", np.arange(20) * 0.05, np.full(20, 50), np.full(20, 30))
    gone = Deployment(instances=2, node_events=(NodeEvent(0.5, 1, "remove"),))
    report = serve(FRAMED, None, trace, "vllm", deployment=gone)
    assert [use.up_fraction * report.duration_s for use in report.instances] == pytest.approx([report.duration_s, 0.5])
    assert report.counts.completed == 20


def test_a_rate_is_limited_by_the_host_where_the_machine_is_faster() -> None:
    """D/D/1 of 10 ms at the front end: requests queue from 100 a second on, whatever the machine."""
    slow = Framed(1e-5, framework=Launch(name="mine", server=Server(request_admission=0.01)))
    ones = make_trace("ones", np.arange(400) * 1.0, np.ones(400, dtype=int), np.ones(400, dtype=int))
    criterion = Criterion(Slo(ttft_s=0.02), attainment=1.0)
    found = capacity(slow, None, ones, "orca", criterion, seeds=(0,), requests=400, arrivals="recorded")
    assert found.rate_per_s == pytest.approx(100, rel=0.05)


def _page(document: Any, folder: Path) -> str:
    """The HTML report of what a command printed."""
    (folder / "result.json").write_text(json.dumps(document))
    assert command(["report", str(folder / "result.json"), "-o", str(folder / "page.html")]) == 0
    return (folder / "page.html").read_text()


def test_reports_say_what_the_framework_decided(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["llama3-8b", "--requests", "azure-conv-sample", "--count", "20", "--seeds", "1", "--ttft", "2"]
    assert command(["capacity", "hgx-b300", *words, "--policy", "vllm", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, result_schema("capacity"))
    page = _page(document, tmp_path)
    assert "b300-sxm is not calibrated: constants of the blackwell generation" in page
    assert "llama3-8b on hgx-b300" in page
    notes = document[0]["notes"]
    assert notes[0] == "gpu: b300-sxm is not calibrated: constants of the blackwell generation"
    assert notes[-2:] == [
        "framework vllm: max_batch_tokens 8192 by default", "framework vllm: max_batch 1024 by default",
    ]  # fmt: skip
    assert any("KV cache in 0.9 of the memory of each GPU, less 4 GB" in note for note in notes)
    server = load("framework", "vllm").server
    each, token = server.request_admission * 1e3, server.token_admission * 1e6
    assert any(f"{each:.3g} ms + {token:.3g} us a prompt token" in note for note in notes)
    few = ["--set", "policy.max_batch=8"]
    assert command(["capacity", "hgx-b300", *words, "--policy", "vllm", "--policy", "orca", *few]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("b300-sxm is not calibrated") == 1
    assert "less 4 GB" in printed
    machine = [
        "hgx-b300",
        "llama3-8b",
        "--requests",
        "azure-conv-sample",
        "--count",
        "20",
        "--ttft",
        "2",
        "--most-tp",
        "1",
    ]
    assert command(["place", *machine, "--most-pp", "1", "--set", "units.gpu.count=2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "archsim.placement/1"
    jsonschema.validate(found, result_schema("placement"))
    assert "less 4 GB" in _page(found, tmp_path)
    assert found["notes"][0].endswith("constants of the blackwell generation")
    assert any("KV cache" in note for note in found["notes"])
