"""Hugging Face config.json files against our presets and published parameter counts; hostile ones get one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsim.config.loader import load_model
from archsim.errors import ConfigError

LLAMA2_70B = {
    "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 4096,
    "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float16",
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
    "vocab_size": 32000, "max_position_embeddings": 32768, "hidden_act": "silu", "torch_dtype": "bfloat16",
    "sliding_window": None,
}  # fmt: skip
OPT_66B = {
    "model_type": "opt", "hidden_size": 9216, "ffn_dim": 36864, "num_hidden_layers": 64, "num_attention_heads": 72,
    "vocab_size": 50272, "max_position_embeddings": 2048, "activation_function": "relu", "torch_dtype": "float16",
    "word_embed_proj_dim": 9216,
}  # fmt: skip
BLOOM = {
    "model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112, "vocab_size": 250880,
    "seq_length": 2048, "torch_dtype": "bfloat16",
}  # fmt: skip
BERT = {
    "model_type": "bert", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "vocab_size": 30522, "max_position_embeddings": 512, "hidden_act": "gelu",
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None, "vocab_size": 50257,
    "n_positions": 1024, "activation_function": "gelu_new",
}  # fmt: skip
NEOX_20B = {
    "model_type": "gpt_neox", "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 44,
    "num_attention_heads": 64, "vocab_size": 50432, "max_position_embeddings": 2048, "hidden_act": "gelu_fast",
    "torch_dtype": "float16",
}  # fmt: skip
FALCON_7B = {
    "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
    "multi_query": True, "parallel_attn": True, "new_decoder_architecture": False, "vocab_size": 65024,
    "torch_dtype": "bfloat16", "bias": False,
}  # fmt: skip
FALCON_40B = {
    "model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128,
    "num_kv_heads": 8, "new_decoder_architecture": True, "vocab_size": 65024, "torch_dtype": "bfloat16",
}  # fmt: skip
MISTRAL_7B = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768,
    "hidden_act": "silu", "torch_dtype": "bfloat16", "sliding_window": 4096,
}  # fmt: skip
QWEN2_7B = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 131072,
    "hidden_act": "silu", "torch_dtype": "bfloat16", "use_sliding_window": False, "sliding_window": 131072,
    "tie_word_embeddings": False,
}  # fmt: skip
QWEN3_30B = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
    "hidden_act": "silu", "torch_dtype": "bfloat16", "decoder_sparse_step": 1, "mlp_only_layers": [],
    "tie_word_embeddings": False,
}  # fmt: skip


def _write(folder: Path, config: Any) -> str:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config, indent=2), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("preset", "config"),
    [("llama2-70b", LLAMA2_70B), ("mixtral-8x7b", MIXTRAL), ("opt-66b", OPT_66B), ("bloom-176b", BLOOM)],
)
def test_import_equals_our_preset(tmp_path: Path, preset: str, config: dict[str, Any]) -> None:
    header = {"name", "description", "sources", "not_modelled"}
    ours, imported = load_model(preset), load_model(_write(tmp_path, config))
    assert imported.model_dump(exclude=header) == ours.model_dump(exclude=header)


@pytest.mark.parametrize(
    ("config", "billions"),
    [  # parameters of the checkpoints
        (GPT2, 0.1244), (NEOX_20B, 20.55), (FALCON_7B, 6.92), (FALCON_40B, 41.3), (MISTRAL_7B, 7.242),
        (QWEN2_7B, 7.616), (QWEN3_30B, 30.53), (BERT, 0.1095),
    ],
)  # fmt: skip
def test_parameters_are_those_of_the_checkpoint(tmp_path: Path, config: dict[str, Any], billions: float) -> None:
    model = load_model(_write(tmp_path, config))
    assert model.weights / 1e9 == pytest.approx(billions, rel=0.02)


def test_overrides_apply_to_the_imported_model(tmp_path: Path) -> None:
    model = load_model(_write(tmp_path, GPT2), ["weight_dtype=int8", "layers=2"])
    assert (model.weight_dtype, model.layers, model.activation_dtype) == ("int8", 2, "fp32")


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    assert "sliding window" in load_model(_write(tmp_path, MISTRAL_7B)).not_modelled[0]
    assert not load_model(_write(tmp_path, QWEN2_7B)).not_modelled


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**LLAMA2_70B, "model_type": "lama"}, "unknown architecture 'lama'; did you mean 'llama'"),
        ({k: v for k, v in LLAMA2_70B.items() if k != "model_type"}, "model_type: missing"),
        ({k: v for k, v in LLAMA2_70B.items() if k != "hidden_size"}, "hidden_size: missing"),
        ({k: v for k, v in MIXTRAL.items() if k != "num_experts_per_tok"}, "num_experts_per_tok: missing"),
        ({k: v for k, v in MIXTRAL.items() if k != "num_local_experts"}, "num_local_experts: missing"),
        ({**LLAMA2_70B, "hidden_size": -1}, "hidden_size: found -1"),
        ({**LLAMA2_70B, "hidden_size": "8192"}, "hidden_size: found '8192'"),
        ({**LLAMA2_70B, "num_attention_heads": True}, "num_attention_heads: found True"),
        ({**LLAMA2_70B, "hidden_act": "gelo"}, "did you mean 'gelu'"),
        ({**LLAMA2_70B, "torch_dtype": "float17"}, "did you mean 'float16'"),
        ({**LLAMA2_70B, "num_key_value_heads": 7}, "not a multiple"),
        ({**OPT_66B, "word_embed_proj_dim": 512}, "word_embed_proj_dim: found 512"),
        ({**QWEN3_30B, "mlp_only_layers": [0]}, "not supported"),
        ({**FALCON_7B, "multi_query": "yes"}, "multi_query: found 'yes'"),
        ("[1, 2]", "expected a JSON object, found list"),
        ('{"model_type": "llama", "model_type": "gpt2"}', "model_type"),
        ("{" * 5000, "config.json"),
        ("", "empty"),
    ],
)  # fmt: skip
def test_bad_files_give_one_clear_line(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(_write(tmp_path, config))
    text = str(caught.value)
    assert message in text
    assert "config.json" in text
    assert "\n" not in text


def test_messages_name_the_line(tmp_path: Path) -> None:
    text = '{\n  "model_type": "gpt2",\n  "n_layer": 0\n}'
    with pytest.raises(ConfigError, match=r"config\.json:3: n_layer"):
        load_model(_write(tmp_path, text))
