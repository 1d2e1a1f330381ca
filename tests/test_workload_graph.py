"""Operator graphs against closed forms, published parameter counts, and the AttAcc simulator's memory figures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.config.loader import load_model
from archsim.config.presets import preset_names
from archsim.config.schemas.model import Model
from archsim.errors import UsageError
from archsim.workload import Operator, build_graph, operators
from archsim.workload.experts import expected_experts, expert_load

# (billions, source) as published; the matrices and tables here leave out norms and biases
PUBLISHED_PARAMETERS = {
    "bert-base": (0.1095, 0.03),  # 110 M, Devlin et al. 2018; without segment table and pooler here
    "bloom-176b": (176.247, 0.001),  # 176 247 271 424, BigScience model card
    "gpt3-175b": (175.0, 0.005),  # Brown et al. 2020, 174.6 B
    "llama-65b": (65.2, 0.005),  # Touvron et al. 2023, Table 2
    "llama2-7b": (6.738, 0.001),  # 6 738 415 616, checkpoint
    "llama2-13b": (13.016, 0.001),  # 13 015 864 320
    "llama2-70b": (68.977, 0.001),  # 68 976 648 192
    "llama3-8b": (8.030, 0.001),  # 8 030 261 248
    "llama3-70b": (70.554, 0.001),  # 70 553 706 496
    "mixtral-8x7b": (46.703, 0.001),  # 46 702 792 704
    "mt-530b": (530.0, 0.005),
    "opt-13b": (13.0, 0.02),
    "opt-30b": (30.0, 0.005),
    "opt-66b": (66.0, 0.01),
}


def _model(**changes: Any) -> Model:
    values = {
        "name": "toy", "layers": 3, "hidden": 64, "heads": 8, "ffn_hidden": 96, "vocab": 100, "max_positions": 512,
        **changes,
    }  # fmt: skip
    return Model.model_validate({"kind": "model", **values})


def _total(graph: nx.DiGraph, quantity: str, names: set[str] | None = None) -> float:
    chosen = [o for o in operators(graph) if names is None or o.name in names]
    return sum(getattr(operator, quantity) * operator.repeat for operator in chosen)


MATRICES = {"qkv", "attention_out", "ffn_gate", "ffn_up", "ffn_down", "lm_head"}


@pytest.mark.parametrize("name", sorted(PUBLISHED_PARAMETERS))
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    billions, tolerance = PUBLISHED_PARAMETERS[name]
    assert load_model(name).weights / 1e9 == pytest.approx(billions, rel=tolerance)


def test_every_preset_builds_its_graphs_and_cites_a_source() -> None:
    for name in preset_names("model"):
        model = load_model(name)
        assert model.name == name
        assert model.sources
        phases = ("prefill",) if model.architecture == "encoder" else ("prefill", "decode")
        for phase in phases:
            graph = build_graph(model, phase, 2, 1 if phase == "decode" else 16, 16)
            assert nx.is_directed_acyclic_graph(graph)
            assert nx.is_weakly_connected(graph)


def test_matrix_flop_are_twice_weights_times_tokens() -> None:
    for name in ("gpt3-175b", "llama2-70b", "opt-66b"):
        model, tokens = load_model(name), 4 * 100
        graph = build_graph(model, "prefill", 4, 100, 100, logits=False)
        assert _total(graph, "flop", MATRICES) == 2 * tokens * model.layers * model.layer_weights


def test_attention_flop_and_bytes_by_hand() -> None:
    model = load_model("llama2-70b")  # 80 layers, 64 heads on 8 kv heads, head size 128, two bytes
    graph = build_graph(model, "decode", 5, 1, 1000)
    assert _total(graph, "flop", {"score", "context"}) == 80 * 5 * 64 * 4 * 1000 * 128
    score: Operator = graph.nodes["score"]["operator"]
    assert (score.m, score.n, score.k, score.count) == (8, 1000, 128, 40)
    keys_and_values = _total(graph, "b_elements", {"score", "context"}) * 2
    assert keys_and_values == 5 * model.kv_bytes(1000)


def test_multi_head_prefill_scores_are_full_squares() -> None:
    model = load_model("gpt3-175b")
    score: Operator = build_graph(model, "prefill", 3, 128, 128).nodes["score"]["operator"]
    assert (score.m, score.n, score.k, score.count, score.fill) == (128, 128, 128, 3 * 96, 1.0)


def test_causal_mask_keeps_the_triangle() -> None:
    model = _model()
    full = build_graph(model, "prefill", 2, 10, 10)
    masked = build_graph(model, "prefill", 2, 10, 10, causal=True)
    assert _total(masked, "flop", {"score"}) == pytest.approx(_total(full, "flop", {"score"}) * 55 / 100)
    chunk = build_graph(model, "prefill", 2, 10, 40, causal=True)  # tokens 31..40 see 31..40 keys: 355 of 400
    assert chunk.nodes["score"]["operator"].fill == pytest.approx(355 / 400)
    step = build_graph(model, "decode", 2, 1, 40, causal=True)
    assert step.nodes["score"]["operator"].fill == 1.0
    matrices = MATRICES | {"norm_attention", "norm_ffn", "activation"}
    assert _total(masked, "flop", matrices) == _total(full, "flop", matrices)


def test_chunks_of_a_causal_prompt_do_the_work_of_the_whole() -> None:
    model = _model()
    whole = build_graph(model, "prefill", 1, 60, 60, causal=True)
    names = {"qkv", "score", "softmax", "context", "ffn_up", "norm_ffn"}
    parts = [
        build_graph(model, "prefill", 1, new, end, causal=True, logits=False)
        for new, end in ((20, 20), (7, 27), (33, 60))
    ]
    assert sum(_total(part, "flop", names) for part in parts) == pytest.approx(_total(whole, "flop", names))


def test_weights_are_read_once_per_pass_in_their_own_precision() -> None:
    model = _model(weight_dtype="int4", activation_dtype="bf16", kv_dtype="fp8", kv_heads=2)
    graph = build_graph(model, "decode", 7, 1, 33)
    matrices = model.layers * model.layer_weights + model.vocab * model.hidden
    assert _total(graph, "weight_bytes") == matrices * 0.5
    score = graph.nodes["score"]["operator"]
    assert (score.a_bytes, score.b_bytes, score.c_bytes) == (2.0, 1.0, 2.0)
    qkv = graph.nodes["qkv"]["operator"]
    written_by_hand = 7 * (8 * 8 * 2.0 + 2 * 2 * 8 * 1.0)  # queries at two bytes, keys and values at one
    assert qkv.write_bytes == pytest.approx(written_by_hand)


def test_gate_may_be_fused_or_not_at_equal_work() -> None:
    model = load_model("llama2-7b")
    fused = build_graph(model, "decode", 3, 1, 9)
    apart = build_graph(model, "decode", 3, 1, 9, fuse_gate=False)
    assert _total(fused, "flop") == _total(apart, "flop")
    assert _total(fused, "weight_bytes") == _total(apart, "weight_bytes")
    assert apart.nodes["ffn_gate"]["operator"].n == model.ffn_hidden


@given(tokens=st.integers(1, 3000), count=st.integers(1, 256), data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_expert_rows_are_conserved(tokens: int, count: int, data: st.DataObject) -> None:
    active = data.draw(st.integers(1, count))
    load = expert_load(tokens, count, active)
    assert load.experts * load.rows_per_expert * load.fill == pytest.approx(tokens * active, rel=1e-12)
    assert active <= load.experts <= min(count, tokens * active)
    assert abs(load.experts - expected_experts(tokens, count, active)) <= 0.5 + 1e-9
    assert 0 < load.fill <= 1


def test_expected_experts_by_enumeration() -> None:
    # two tokens, one of three experts each: 9 equally likely pairs, 3 of them with one expert, 6 with two
    assert expected_experts(2, 3, 1) == pytest.approx((3 * 1 + 6 * 2) / 9)
    assert expected_experts(1, 8, 2) == pytest.approx(2)


def test_mixture_of_experts_flop_and_weights() -> None:
    model = load_model("mixtral-8x7b")
    graph = build_graph(model, "decode", 64, 1, 10, logits=False)
    one_expert = 3 * model.hidden * model.ffn_hidden
    assert _total(graph, "flop", {"ffn_up", "ffn_down"}) == pytest.approx(2 * 64 * 2 * one_expert * 32)
    assert _total(graph, "weight_bytes", {"ffn_up", "ffn_down"}) == 32 * 8 * one_expert * 2  # all eight are touched
    alone = build_graph(model, "decode", 1, 1, 10, logits=False)
    assert _total(alone, "weight_bytes", {"ffn_up", "ffn_down"}) == 32 * 2 * one_expert * 2


def test_shared_experts_see_every_token() -> None:
    model = _model(experts={"count": 8, "active": 2, "shared": 1})
    graph = build_graph(model, "prefill", 2, 50, 50, logits=False)
    assert _total(graph, "weight_bytes") == model.layers * model.layer_weights * 2
    assert graph.nodes["shared_ffn_up"]["operator"].m == 100
    assert set(graph.predecessors("ffn_combine")) == {"ffn_down", "shared_ffn_down"}


def test_parallel_attention_runs_both_halves_from_one_input() -> None:
    graph = build_graph(_model(parallel_attention=True), "decode", 1, 1, 4)
    assert not nx.has_path(graph, "attention_out", "ffn_up")
    assert set(graph.predecessors("norm_ffn")) == {"attention_out", "ffn_down"}
    serial = build_graph(_model(), "decode", 1, 1, 4)
    assert nx.has_path(serial, "attention_out", "ffn_up")
    assert _total(graph, "flop", MATRICES) == _total(serial, "flop", MATRICES)


def test_only_the_last_token_of_a_prompt_gets_logits() -> None:
    model = _model()
    assert build_graph(model, "prefill", 3, 20, 20).nodes["lm_head"]["operator"].m == 3
    assert "lm_head" not in build_graph(model, "prefill", 3, 20, 20, logits=False)


def test_encoder_has_no_cache_no_mask_no_decode() -> None:
    model = load_model("bert-base")
    graph = build_graph(model, "prefill", 2, 100, 100, causal=True)
    assert graph.nodes["score"]["operator"].fill == 1.0
    assert "lm_head" not in graph
    assert model.kv_bytes(100) == 0
    with pytest.raises(UsageError, match="no decode phase"):
        build_graph(model, "decode", 1, 1, 10)


@pytest.mark.parametrize(("batch", "new", "context"), [(0, 1, 1), (1, 0, 1), (1, 2, 1)])
def test_impossible_sizes_are_refused(batch: int, new: int, context: int) -> None:
    with pytest.raises(UsageError):
        build_graph(_model(), "prefill", batch, new, context)


@given(batch=st.integers(1, 40), context=st.integers(1, 4000), kv_heads=st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_work_grows_with_batch_and_context(batch: int, context: int, kv_heads: int) -> None:
    model = _model(kv_heads=kv_heads)
    here = build_graph(model, "decode", batch, 1, context)
    longer = build_graph(model, "decode", batch, 1, context + 1)
    larger = build_graph(model, "decode", batch + 1, 1, context)
    per_key = model.layers * batch * model.heads * (4 * model.head_size + 5)  # score, context, softmax
    assert _total(longer, "flop") - _total(here, "flop") == pytest.approx(per_key)
    assert _total(larger, "flop") * batch == pytest.approx(_total(here, "flop") * (batch + 1))
    assert _total(larger, "weight_bytes") == _total(here, "weight_bytes")


ATTACC_MODELS = {
    "GPT-175B": "gpt3-175b", "LLAMA-65B": "llama-65b-attacc", "MT-530B": "mt-530b", "OPT-66B": "opt-66b",
}  # fmt: skip


def test_weights_and_cache_match_the_attacc_simulator(reference_dir: Path) -> None:
    """required_cap_B = weights + KV + temporaries; the last by the simulator's formula (system.py)."""
    with (reference_dir / "attacc" / "end_to_end.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    models = {name: load_model(preset) for name, preset in ATTACC_MODELS.items()}
    for row in rows:
        model, size = models[row["model"]], 2 if row["dtype"] == "W16A16" else 1
        length, batch = int(row["lin_tok"]) + int(row["lout_tok"]) - 1, int(row["batch"])
        hidden, scores, ffn = model.hidden, length * model.heads, model.ffn_hidden
        temporary = size * max(hidden + scores, 2 * hidden, 2 * scores, ffn + hidden) + scores
        weights = model.layers * model.layer_weights * size
        ours = weights + batch * (model.kv_bytes(length) * size / model.kv_element_bytes + temporary)
        # LLaMA: 8/3 x 8192 columns are 21845.33 there, a whole number here
        tolerance = 2e-5 if row["model"].startswith("LLAMA") else 1e-8
        assert ours == pytest.approx(float(row["required_cap_B"]), rel=tolerance)


def test_a_window_bounds_what_a_token_attends_to() -> None:
    model = _model(attention_window=64, windowed_layers=2)
    one = build_graph(model, "decode", 3, 1, 1000, window=64)
    assert one.nodes["score"]["operator"] == build_graph(model, "decode", 3, 1, 64).nodes["score"]["operator"]
    prompt = build_graph(model, "prefill", 3, 1000, 1000, window=64).nodes["score"]["operator"]
    assert prompt.count == 3 * model.key_value_heads * 16  # blocks of 64 queries, the last one not full
    assert (prompt.m * model.key_value_heads // model.heads, prompt.n) == (64, 127)


def test_windowed_layers_keep_their_window_only() -> None:
    plain, mixed = _model(), _model(attention_window=64, windowed_layers=2)
    token = plain.kv_bytes(1) / plain.layers
    assert mixed.kv_bytes(50) == plain.kv_bytes(50)
    assert mixed.kv_bytes(1000) == pytest.approx(token * ((plain.layers - 2) * 1000 + 2 * 64))


def test_what_a_checkpoint_does_not_quantise_is_read_as_activations() -> None:
    """gpt-oss-120b's published checkpoint has 60.8 GiB."""
    model = load_model("gpt-oss-120b")
    assert model.weight_bytes == pytest.approx(60.8 * 2**30, rel=5e-3)
    graph = build_graph(model, "decode", 100_000, 1, 10)  # every expert is touched
    assert _total(graph, "weight_bytes") == pytest.approx(
        model.weight_bytes - model.vocab * model.hidden * 2, rel=1e-9
    )  # all but the input table
    named = {name: graph.nodes[name]["operator"].b_dtype for name in ("qkv", "attention_out", "router", "ffn_up")}
    assert named == {"qkv": "bf16", "attention_out": "bf16", "router": "bf16", "ffn_up": "mxfp4"}


def test_a_skewed_router_touches_fewer_experts_and_loses_no_row() -> None:
    counts = [expected_experts(64, 128, 4, skew) for skew in (0.0, 0.3, 1.0, 2.0)]
    assert counts == sorted(counts, reverse=True)
    assert expected_experts(64, 128, 4, 1e-9) == pytest.approx(counts[0])
    for skew in (0.0, 1.0, 10.0):
        load = expert_load(64, 128, 4, skew)
        assert load.experts * load.rows_per_expert * load.fill == pytest.approx(64 * 4)
        assert 4 <= load.experts <= 128
        assert expected_experts(1, 128, 4, skew) == pytest.approx(4)  # a token picks each expert at most once
