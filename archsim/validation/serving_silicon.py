"""Kind `serving-silicon`: TTFT and TPOT of a server under a constant number of concurrent requests.

A closed loop in closed form. While one request decodes its O tokens, each of the other running requests finishes once
and is replaced, so its prompt stalls the decode once: TPOT = step + (running - 1) x prompt / O. A new request waits
for the step in progress and for prompts before it (a queue of equal services); a tenth of the requests belong to the
burst at the start, where the prompts go one after the other. Requests beyond what the KV cache holds wait outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load_model, load_system
from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.errors import ArchsimError
from archsim.execution.costing import Costing
from archsim.execution.step import simulate_pass
from archsim.validation.registry import KINDS

Row = dict[str, str]
SYSTEMS = {"a100_sxm": "hgx-a100", "h100_sxm": "hgx-h100", "h200_sxm": "hgx-h200", "b200_sxm": "hgx-b200",
           "b300_sxm": "hgx-b300"}  # fmt: skip
MODELS = {"meta-llama/Llama-3.1-70B": "llama3-70b", "openai/gpt-oss-120b": "gpt-oss-120b",
          "MiniMaxAI/MiniMax-M2.5": "minimax-m2.5", "meta-llama/Llama-3.1-8B": "llama3-8b"}  # fmt: skip
WEIGHTS = {"fp8": "fp8", "fp4": "nvfp4", "bf16": "bf16", "fp16": "fp16"}
MEAN_LENGTH = 0.9  # lengths are spread over 0.8 to 1.0 of the nominal ones
MEMORY_SHARE, RESERVED_BYTES = 0.9, 4e9  # of the memory that weights and KV cache may fill, and what else needs room
BURST_SHARE = 0.1  # of the requests that arrive together at the start


@dataclass(frozen=True)
class Framework:
    """A serving framework: host time of a step, of a running request and of a prompt's layer, and its KV cache."""

    step_s: float
    request_s: float
    prompt_layer_s: float
    kv_dtype: str
    rope_kernel: bool = True


# One set for all models and GPUs; chosen on the serving rows of ai-dynamo/aiconfigurator 095f58a51, within the ranges
# in which its operator sums fall short of served steps (0.5 to 2 ms a step, 0 to 15 us a request).
FRAMEWORKS = {
    "vllm": Framework(1.0e-3, 8e-6, 0.4e-3, "bf16"),
    "trtllm": Framework(0.5e-3, 4e-6, 0.3e-3, "fp8", rope_kernel=False),
}


@dataclass(frozen=True)
class Loop:
    """Mean times of the closed loop; `bound_by_kv`: the cache holds fewer requests than there are."""

    ttft_s: float
    tpot_s: float
    bound_by_kv: bool


@cache
def machine(gpu: str, count: int, backend: str) -> System:
    """`count` GPUs under a framework."""
    how = FRAMEWORKS[backend]
    keys = (
        f"units.gpu.count={count}", f"units.gpu.launch.step_overhead={how.step_s} s",
        f"units.gpu.launch.request_overhead={how.request_s} s",
        f"units.gpu.launch.prefill_layer_overhead={how.prompt_layer_s} s",
        f"units.gpu.launch.rope_kernel={str(how.rope_kernel).lower()}",
    )  # fmt: skip
    return load_system(SYSTEMS[gpu], keys)


@cache
def checkpoint(path: str, precision: str, backend: str) -> Model:
    """The model in the precision of its weights."""
    name = MODELS[path]
    weights = "mxfp4" if name == "gpt-oss-120b" else WEIGHTS[precision]
    return load_model(name, (f"weight_dtype={weights}", f"kv_dtype={FRAMEWORKS[backend].kv_dtype}"))


@cache
def pass_s(gpu: str, count: int, backend: str, path: str, precision: str, batch: int, new: int, context: int) -> float:
    """One pass: a prompt alone (new = context) or a decode step."""
    system, model = machine(gpu, count, backend), checkpoint(path, precision, backend)
    phase = "decode" if new == 1 else "prefill"
    return simulate_pass(Costing.of(system), model, phase, batch, new, context).seconds  # type: ignore[arg-type]


def closed_loop(row: Row) -> Loop:
    """The loop of one row."""
    count, clients = int(row["tp_size"]), int(row["concurrency"])
    prompt, output = (MEAN_LENGTH * int(row[name]) for name in ("input_len_tokens", "output_len_tokens"))
    key = (row["system"], count, row["backend"], row["model_path"], row["precision"])
    running = min(clients, _requests_that_fit(row, prompt + output))
    prompt_s = pass_s(*key, 1, round(prompt), round(prompt))
    step_s = pass_s(*key, running, 1, round(prompt + output / 2))
    alone_s = max(prompt_s - step_s, 0.0)  # the stall that a prompt adds to the step it joins
    tpot_s = step_s + (running - 1) * alone_s / output
    cycle_s = prompt_s + output * tpot_s
    load = min(running * prompt_s / cycle_s, 0.95)
    steady_s = step_s / 2.0 + prompt_s * (1.0 + load / (2.0 * (1.0 - load)))
    burst_s = prompt_s * (running + 1) / 2.0
    outside_s = (clients - running) * cycle_s / running
    ttft_s = BURST_SHARE * burst_s + (1.0 - BURST_SHARE) * steady_s + outside_s
    return Loop(ttft_s, tpot_s, running < clients)


def _requests_that_fit(row: Row, tokens: float) -> int:
    """Running requests of `tokens` at most; what runs holds three quarters of its final length on average."""
    count = int(row["tp_size"])
    system = machine(row["system"], count, row["backend"])
    model = checkpoint(row["model_path"], row["precision"], row["backend"])
    unit = system.units["gpu"]
    assert unit.type == "gpu"
    room = MEMORY_SHARE * unit.device.memory_capacity * count - model.weight_bytes - RESERVED_BYTES * count
    copies = max(1.0, count / model.key_value_heads)
    return max(1, int(room / (0.75 * model.kv_bytes(round(tokens)) * copies)))


@KINDS.register("serving-silicon")
class ServingSilicon:
    """Mean TTFT and TPOT, milliseconds, of dense models and experts under tensor parallelism."""

    kind = "serving-silicon"
    truth = ("ttft_ms", "tpot_ms")
    describe = ("system", "backend", "model_path", "precision", "input_len_tokens", "output_len_tokens", "concurrency",
                "tp_size")  # fmt: skip

    @staticmethod
    def group_of(row: Row) -> dict[str, str]:
        """By framework and model."""
        return {"backend": row["backend"], "model": row["model_path"]}

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[float | None]], list[str | None]]:
        """Predictions and, per row, the reason why there is none. TTFT only where the KV cache does not bind."""
        columns: dict[str, list[float | None]] = {"ttft_ms": [], "tpot_ms": []}
        reasons: list[str | None] = []
        for row in rows:
            reason, loop = _unsupported(row), None
            if reason is None:
                try:
                    loop = closed_loop(row)
                except ArchsimError as problem:
                    reason = str(problem)
            reasons.append(reason)
            columns["ttft_ms"].append(None if loop is None or loop.bound_by_kv else loop.ttft_s * 1e3)
            columns["tpot_ms"].append(None if loop is None else loop.tpot_s * 1e3)
        return columns, reasons


def _unsupported(row: Row) -> str | None:
    for column, known in (("system", SYSTEMS), ("model_path", MODELS), ("backend", FRAMEWORKS), ("precision", WEIGHTS)):
        if row[column] not in known:
            return f"unknown {column} {row[column]!r}"
    if row["pp_size"] != "1":
        return "pipeline parallelism"
    if row["moe_ep_size"] not in ("", "1"):
        return "expert parallelism"
    return None
