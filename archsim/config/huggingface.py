"""A Hugging Face `config.json` -> the description of a model.

Key names and defaults are those of the configuration classes of the `transformers` library (one class per
`model_type`). The file is read with the same strict reader as every description (JSON is YAML 1.2), so that errors name
file, line and key. A key that the class has no default for, or whose default depends on the checkpoint, is required.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archsim.config.yaml_reader import Document, read_yaml
from archsim.errors import ConfigError, suggest, unknown_name

_ACTIVATIONS = {
    "relu": "relu", "gelu": "gelu", "gelu_new": "gelu", "gelu_fast": "gelu", "gelu_pytorch_tanh": "gelu",
    "gelu_python": "gelu", "silu": "silu", "swish": "silu",
}  # fmt: skip
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8_e4m3fn": "fp8"}
_SHAPE_KEYS = {
    "layers": ("num_hidden_layers", "n_layer"),
    "hidden": ("hidden_size", "n_embd", "n_embed"),
    "heads": ("num_attention_heads", "n_head"),
    "ffn_hidden": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab": ("vocab_size",),
    "max_positions": ("max_position_embeddings", "n_positions", "seq_length", "n_ctx"),
}


@dataclass(frozen=True)
class Family:
    """What a `model_type` means beyond its keys.

    fixed      values of Model that hold for the whole family
    tied       default of `tie_word_embeddings`
    act        the activation, where the family does not let the file choose
    ffn_times  feed-forward width in multiples of hidden, where the file may leave it out
    positions  maximal positions, where the file may leave them out
    """

    fixed: Mapping[str, Any] = field(default_factory=dict)
    tied: bool = False
    act: str | None = None
    ffn_times: int | None = None
    positions: int | None = None


_LEARNED = {"learned_positions": True, "bias": True}
_ROTARY = {"rotary_positions": True}
_LLAMA = {**_ROTARY, "ffn_gated": True, "norm": "rmsnorm"}
FAMILIES = {
    "gpt2": Family(_LEARNED, tied=True, ffn_times=4),
    "gptj": Family({**_ROTARY, "parallel_attention": True}, ffn_times=4),
    "gpt_neox": Family({**_ROTARY, "bias": True}),
    "opt": Family(_LEARNED, tied=True),
    "bloom": Family({"bias": True}, tied=True, act="gelu", ffn_times=4, positions=2048),
    "falcon": Family(_ROTARY, tied=True, act="gelu", ffn_times=4, positions=2048),
    "bert": Family({**_LEARNED, "architecture": "encoder"}, tied=True),
    "llama": Family(_LLAMA),
    "mistral": Family(_LLAMA),
    "mixtral": Family(_LLAMA),
    "qwen": Family(_LLAMA, act="silu"),
    "qwen2": Family(_LLAMA),
    "qwen3": Family(_LLAMA),
    "qwen2_moe": Family(_LLAMA),
    "qwen3_moe": Family(_LLAMA),
}


class _Source:
    """The file with its line numbers, and the description being built from it."""

    def __init__(self, path: Path, document: Document) -> None:
        self.path, self.document = path, document
        self.values: dict[str, Any] = document.value
        self.result = Document({}, {})

    def error(self, problem: str, key: str) -> ConfigError:
        mark = self.document.mark((key,))
        return ConfigError(problem, file=str(self.path), line=mark[1] if mark else None, key=key)

    def put(self, target: str, value: Any, key: str | None = None) -> None:
        """Set a key of the model; messages about it point to the line of `key`."""
        self.result.value[target] = value
        mark = self.document.mark((key,)) if key is not None else None
        if mark:
            self.result.marks[(target,)] = mark

    def find(self, keys: tuple[str, ...]) -> str | None:
        """The first of the alternative keys that is there and not null."""
        return next((key for key in keys if self.values.get(key) is not None), None)

    def integer(self, key: str) -> int:
        """An integer that must be there."""
        value = self.values.get(key)
        if value is None:
            raise self.error("missing, a value is required", key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(f"found {value!r}, expected a positive integer", key)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean of the file, or the default of the configuration class."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"found {value!r}, expected true or false", key)
        return value


def read_huggingface(path: Path) -> Document:
    """The description of a model as a document of kind `model`, with marks pointing into the `config.json`.

    Raises ConfigError for an unknown `model_type`, a missing or malformed key, and for shapes that a Model cannot say.
    """
    document = read_yaml(path)
    if not isinstance(document.value, dict):
        raise ConfigError(f"expected a JSON object, found {type(document.value).__name__}", file=str(path), line=1)
    source = _Source(path, document)
    family = _family(source)
    _put_header(source, family)
    for name, value in family.fixed.items():
        source.put(name, value, "model_type")
    _put_shape(source, family)
    _put_attention(source)
    _put_experts(source)
    _put_activation(source, family)
    _put_dtype(source)
    source.put("tied_embeddings", source.flag("tie_word_embeddings", family.tied), "tie_word_embeddings")
    return source.result


def _family(source: _Source) -> Family:
    model_type = source.values.get("model_type")
    if model_type is None:
        near = "; this file has `kind`, give it a .yaml suffix" if "kind" in source.values else ""
        raise source.error(
            f"missing, cannot tell the architecture (allowed: {', '.join(FAMILIES)}){near}", "model_type"
        )
    if model_type not in FAMILIES:
        raise source.error(unknown_name("architecture", str(model_type), FAMILIES), "model_type")
    return FAMILIES[model_type]


def _put_header(source: _Source, family: Family) -> None:
    origin = str(source.values.get("_name_or_path") or source.path.absolute().parent.name or source.path.stem)
    name = re.sub(r"[^A-Za-z0-9._+-]", "-", origin.rstrip("/").rsplit("/", 1)[-1]).lstrip("._+-")[:100]
    source.put("kind", "model")
    source.put("name", name or source.path.stem)
    source.put("description", f"imported from {source.path.name}, model_type {source.values['model_type']}")
    source.put("sources", {"default": str(source.path)})
    source.put("not_modelled", _not_modelled(source))


def _not_modelled(source: _Source) -> list[str]:
    values, notes = source.values, []
    window = values.get("sliding_window")
    if window is not None and values.get("use_sliding_window", True):
        notes.append(f"sliding window of {window} tokens; attention covers the whole context")
    if values.get("quantization_config") is not None:
        notes.append("quantization_config of the checkpoint; set weight_dtype to the precision of the stored weights")
    return notes


def _put_shape(source: _Source, family: Family) -> None:
    for name, keys in _SHAPE_KEYS.items():
        found = source.find(keys)
        if found is not None:
            source.put(name, source.integer(found), found)
        elif name == "ffn_hidden" and family.ffn_times is not None:
            source.put(name, family.ffn_times * source.result.value["hidden"], "model_type")
        elif name == "max_positions" and family.positions is not None:
            source.put(name, family.positions, "model_type")
        else:
            raise source.error(f"missing, a value is required (or {', '.join(keys[1:])})" if keys[1:] else
                               "missing, a value is required", keys[0])  # fmt: skip
    if source.values["model_type"] == "qwen":  # the first Qwen stores gate and up together
        source.put("ffn_hidden", source.result.value["ffn_hidden"] // 2, "intermediate_size")
    narrow = source.values.get("word_embed_proj_dim")
    if narrow is not None and narrow != source.result.value["hidden"]:
        raise source.error(
            f"found {narrow!r}: an embedding narrower than hidden {source.result.value['hidden']} is not supported",
            "word_embed_proj_dim",
        )


def _put_attention(source: _Source) -> None:
    values = source.values
    key = source.find(("num_key_value_heads", "num_kv_heads"))
    if values["model_type"] == "falcon":
        _put_falcon(source)
    elif key is not None:
        source.put("kv_heads", source.integer(key), key)
    if values["model_type"] == "gpt_neox":
        source.put("parallel_attention", source.flag("use_parallel_residual", True), "use_parallel_residual")
    if values.get("head_dim") is not None:
        source.put("head_dim", source.integer("head_dim"), "head_dim")
    for key in ("attention_bias", "bias"):
        if key in values:
            source.put("bias", source.flag(key, False), key)


def _put_falcon(source: _Source) -> None:
    """Falcon: `num_kv_heads` counts in the new architecture only; the old one is multi-query or multi-head."""
    if source.flag("new_decoder_architecture", False):
        key = source.find(("num_kv_heads", "n_head_kv"))
        if key is not None:
            source.put("kv_heads", source.integer(key), key)
        source.put("parallel_attention", True, "new_decoder_architecture")
        return
    if source.flag("multi_query", True):
        source.put("kv_heads", 1, "multi_query")
    source.put("parallel_attention", source.flag("parallel_attn", True), "parallel_attn")


def _put_experts(source: _Source) -> None:
    values = source.values
    key = source.find(("num_local_experts", "num_experts"))
    if key is None:
        if values["model_type"] in ("mixtral", "qwen2_moe", "qwen3_moe"):
            raise source.error("missing, a value is required", "num_local_experts")
        return
    experts = {"count": source.integer(key), "active": source.integer("num_experts_per_tok")}
    if values.get("decoder_sparse_step", 1) != 1 or values.get("mlp_only_layers"):
        raise source.error("layers without experts between layers with experts are not supported", "model_type")
    if values.get("moe_intermediate_size") is not None:
        width = source.integer("moe_intermediate_size")
        source.put("ffn_hidden", width, "moe_intermediate_size")
        shared = values.get("shared_expert_intermediate_size")
        if shared:
            if not isinstance(shared, int) or shared % width:
                raise source.error(
                    f"found {shared!r}, expected a multiple of {width}", "shared_expert_intermediate_size"
                )
            experts["shared"] = shared // width
    source.put("experts", experts, key)


def _put_activation(source: _Source, family: Family) -> None:
    if family.act is not None:
        source.put("activation", family.act)
        return
    key = source.find(("hidden_act", "activation_function"))
    if key is None:
        raise source.error("missing, a value is required (or activation_function)", "hidden_act")
    name = str(source.values[key])
    if name not in _ACTIVATIONS:
        raise source.error(f"found {name!r}, allowed: {', '.join(_ACTIVATIONS)}{suggest(name, _ACTIVATIONS)}", key)
    source.put("activation", _ACTIVATIONS[name], key)


def _put_dtype(source: _Source) -> None:
    """All tensors in the precision of the checkpoint; float32 if the file does not say, as `transformers` loads it."""
    key = source.find(("torch_dtype", "dtype"))
    name = str(source.values[key]).removeprefix("torch.") if key else "float32"
    if name not in _DTYPES:
        raise source.error(
            f"found {name!r}, allowed: {', '.join(_DTYPES)}{suggest(name, _DTYPES)}", key or "torch_dtype"
        )
    for target in ("weight_dtype", "activation_dtype", "kv_dtype"):
        source.put(target, _DTYPES[name], key)
