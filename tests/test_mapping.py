"""Placement, sharding and capacity: what is conserved, what fits, what is said when it does not."""

from __future__ import annotations

import pytest

from archsim.config import load_model, load_system
from archsim.errors import ConfigError, InfeasibleError
from archsim.mapping.capacity import capacity, check_fits, largest_batch
from archsim.mapping.plan import AllReduce, PimAttention, Transfer, make_plan
from archsim.mapping.shard import shard
from archsim.workload import build_graph, operators

GIB = 2**30


@pytest.fixture(scope="module")
def gpt3():
    return load_model("gpt3-175b")


@pytest.mark.parametrize("name", ["gpt3-175b", "llama2-70b", "mixtral-8x7b"])
@pytest.mark.parametrize("ways", [1, 2, 4, 8])
def test_shards_of_split_operators_add_up_to_the_whole(name, ways):
    model = load_model(name)
    for operator in operators(build_graph(model, "decode", 4, 1, 512)):
        share = shard(operator, ways, model.key_value_heads)
        replicated = operator.kind in ("norm", "add", "gather") or operator.name == "router"
        assert share.flop * (1 if replicated else ways) == pytest.approx(
            operator.flop, rel=1e-3
        )  # vocabularies are odd


def test_more_devices_than_kv_heads_share_the_queries_of_a_head():
    model = load_model("llama2-70b")  # 64 heads on 8 key/value heads
    score = build_graph(model, "decode", 4, 1, 512).nodes["score"]["operator"]
    share = shard(score, 16, model.key_value_heads)
    assert (share.m, share.count) == (4, 4)  # half of a head's 8 queries, one head of each of 4 requests


def test_attention_in_memory_moves_qkv_there_and_the_context_back(gpt3):
    system = load_system("dgx-a100-attacc-bank")
    plan = make_plan(system, gpt3, build_graph(gpt3, "decode", 32, 1, 3000))
    work = {task.name: task.work for task in plan.tasks}
    assert isinstance(work["attention"], PimAttention)
    assert (work["attention"].heads_per_device, work["attention"].context_tokens) == (12 * 32, 3000)
    sent, back = work["qkv_to_pim"], work["context_to_gpu"]
    assert isinstance(sent, Transfer)
    assert isinstance(back, Transfer)
    assert (sent.bytes_per_link, back.bytes_per_link) == (32 * 3 * 1536 * 2, 32 * 1536 * 2)
    reduced = [name for name, item in work.items() if isinstance(item, AllReduce)]
    assert reduced == ["all_reduce_attention", "all_reduce_ffn"]


def test_prompt_keys_and_values_travel_to_the_memory_that_needs_them(gpt3):
    graph = build_graph(gpt3, "prefill", 2, 100, 100)
    names = {name: [t.name for t in make_plan(load_system(name), gpt3, graph).tasks] for name in ("dgx-a100",)}
    assert "store_kv" not in names["dgx-a100"]
    plan = make_plan(load_system("dgx-a100-attacc-bank"), gpt3, graph)
    store = next(task.work for task in plan.tasks if task.name == "store_kv")
    assert isinstance(store, Transfer)
    assert store.bytes_per_link * store.links == 2 * 100 * 2 * 12288 * 2  # K and V of 200 tokens, one layer


def test_parallel_attention_needs_one_reduction_a_layer():
    model = load_model("gpt3-7b", ["parallel_attention=true"])
    plan = make_plan(load_system("dgx-a100"), model, build_graph(model, "decode", 1, 1, 10))
    assert [t.name for t in plan.tasks if isinstance(t.work, AllReduce)] == ["all_reduce_ffn"]


def test_thirty_five_requests_fill_the_pim_stacks(gpt3):
    # 640 GiB over 2 * 96 layers * 12288 * 4095 tokens * 2 B = 17.996 GiB a request: 35.56 requests
    system = load_system("dgx-a100-attacc-bank")
    assert largest_batch(system, gpt3, 2048, 2048) == 35
    found = {unit.unit: unit for unit in capacity(system, gpt3, 32, 2048, 2048).units}
    assert found["pim"].available_bytes == 640 * GIB
    assert found["pim"].contents["kv"] == 32 * 2 * 96 * 12288 * 4095 * 2
    assert found["gpu"].contents["weights"] == gpt3.weights * 2


def test_the_pooled_rule_of_the_attacc_paper_gives_its_batches():
    # AttAcc simulator, cached head counts: B = ceil((1280 GiB - weights) / KV of a request)
    expected = {
        ("gpt3-175b", "fp16", 128, 128): 854,
        ("gpt3-175b", "fp16", 2048, 2048): 54,
        ("gpt3-175b", "fp16", 512, 512): 213,
        ("gpt3-175b", "int8", 128, 128): 1996,
        ("llama-65b-attacc", "fp16", 2048, 2048): 117,
        ("mt-530b", "int8", 2048, 2048): 49,
    }
    system = load_system("attacc-reference-bank")
    for (name, dtype, input_len, output_len), batch in expected.items():
        model = load_model(name, [f"{part}_dtype={dtype}" for part in ("weight", "activation", "kv")])
        assert largest_batch(system, model, input_len, output_len) == batch


def test_what_does_not_fit_says_what_lacks_how_much(gpt3):
    with pytest.raises(InfeasibleError) as caught:
        check_fits(load_system("dgx-a100-attacc-bank"), gpt3, 36, 2048, 2048)
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert "pim needs 647.8 GiB (kv 647.8 GiB) but has 640 GiB, 7.8" in text
    assert "largest batch that fits is 35" in text
    with pytest.raises(InfeasibleError, match="not even batch 1"):
        check_fits(load_system("dgx-a100", ["units.gpu.count=2"]), gpt3, 1, 128, 128)


def test_units_without_a_link_between_them_are_refused():
    with pytest.raises(ConfigError, match="'pim' that no connection joins to main 'gpu'"):
        load_system("dgx-a100-attacc-bank", ["connections.nvlink_pim.between=[gpu, gpu]"])


@pytest.mark.parametrize(
    ("system", "rule", "text"),
    [
        ("dgx-a100-attacc-bank", "mapping.main=pim", "cannot run every operator"),
        ("dgx-a100", "mapping.ffn_coprocessing=true", "needs a pim"),
        ("neupims", "mapping.ffn_coprocessing=true", "needs a pim"),
        ("neupims", "units.pim.memory_in=npu", "name the unit that has the memory"),
        ("dgx-a100", "mapping.decode_attention=gpus", "did you mean 'gpu'"),
        ("dgx-a100", "mapping.data_parallel=3", "does not divide"),
    ],
)
def test_rules_that_cannot_apply_are_refused(system, rule, text):
    with pytest.raises(ConfigError, match=text):
        load_system(system, [rule])
