"""How the servers of the public benchmark were started whose results `serving.csv` holds.

Source: SemiAnalysisAI/InferenceX (formerly InferenceMAX), benchmarks/*.sh, read at several commits of 2025 and 2026:
what a row does not say and its framework's defaults do not decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

ANY = 1 << 30


@dataclass(frozen=True)
class Recipe:
    """Settings of a server.

    kv_dtype        of its cache
    gpus            that share the model
    expert_groups   of them, each with whole experts
    max_requests    that run together, whatever the number of clients
    batched_tokens  of one iteration
    wait_tokens, wait_steps  TensorRT-LLM's batch_wait_max_tokens_ratio (in tokens) and batch_wait_timeout_iters
    captured_tokens  of a pass with prompts in captured graphs; None: the framework's default
    """

    kv_dtype: str
    gpus: int
    expert_groups: int = 1
    max_requests: int = ANY
    batched_tokens: int = 8192
    wait_tokens: int = 0
    wait_steps: int = 0
    captured_tokens: int | None = None


def recipe_of(row: dict[str, str]) -> Recipe:
    """The settings of a row's server.

    Where moe_tp_size and moe_ep_size are both above one, the source has taken the GPUs of expert-parallel servers for
    moe_tp_size and multiplied: tp_size says 16 and 64 on nodes of eight, and TTFT and TPOT are those of servers with
    moe_tp_size GPUs.
    """
    count, groups, wide = (int(row.get(name) or 1) for name in ("tp_size", "moe_ep_size", "moe_tp_size"))
    return replace(_settings(row), gpus=wide if groups > 1 and wide > 1 else count, expert_groups=groups)


def _settings(row: dict[str, str]) -> Recipe:
    gpu, model = row["system"], row["model_path"]
    blackwell = gpu.startswith(("b200", "b300", "gb200", "gb300"))
    tensorrt = row["backend"] == "trtllm"
    if "gpt-oss" in model:
        # --kv-cache-dtype fp8 on Blackwell only. gptoss_fp4_h100*.sh: --max-num-seqs $CONC of a sweep from 4 to 64
        # clients, also where --max-concurrency says 512
        most = 64 if gpu == "h100_sxm" and not tensorrt else ANY
        kv_dtype = "fp8" if blackwell else "bf16"
        if tensorrt:
            return Recipe(kv_dtype, 0, 1, most, 20_000)
        return Recipe(kv_dtype, 0, 1, most, captured_tokens=2048)  # max-cudagraph-capture-size of gptoss_fp4_*.sh
    if tensorrt:
        return _tensorrt_llama(row, blackwell)
    if "MiniMax" in model:
        # minimaxm2.5_*.sh: no --kv-cache-dtype in the first version (vLLM 0.15 to 0.17), fp8 later
        return Recipe("bf16" if row["backend_version"].startswith(("0.15", "0.16", "0.17")) else "fp8", 0)
    # 70b_*.sh; on B200 with cudagraph_mode FULL_DECODE_ONLY
    return Recipe("fp8", 0, captured_tokens=0 if gpu == "b200_sxm" else None)


def _tensorrt_llama(row: dict[str, str], blackwell: bool) -> Recipe:
    """70b_*_trt*.sh: --max_num_tokens $MAX_MODEL_LEN, which comes from outside; 16384 for fp8 on B200.

    10240 is that variable's default in the benchmark's vLLM scripts, taken here because a budget of one request (prompt
    and output) makes short requests queue three to four times longer than these rows did.
    Short prompts wait on fewer than eight GPUs: batch_wait_max_tokens_ratio 0.9, batch_wait_timeout_iters 20.
    """
    tokens = 16_384 if blackwell and row["precision"] == "fp8" else 10_240
    short = row["input_len_tokens"] == row["output_len_tokens"] == "1024" and int(row["tp_size"]) < 8
    wait = (round(0.9 * tokens), 20) if short else (0, 0)
    return Recipe("fp8", 0, 1, ANY, tokens, *wait)
