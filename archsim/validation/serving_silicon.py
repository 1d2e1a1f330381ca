"""Kind `serving-silicon`: mean TTFT and TPOT of a server under a constant number of concurrent requests.

What the public benchmark does whose results these are: all clients start at once, each sends ten requests with lengths
spread evenly over 0.8 to 1.0 of the nominal ones. The server is simulated iteration by iteration
(`archsim.serving.closed_loop`) under the framework's record in hwconfigs/framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load_model, load_system
from archsim.config.schemas.launch import Launch
from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.errors import ArchsimError
from archsim.serving.clients import cache_tokens, spread_lengths
from archsim.serving.closed_loop import Limits, Loop, StepTimes, run_closed_loop
from archsim.serving.framework import launch_of
from archsim.validation.registry import KINDS
from archsim.validation.silicon.recipes import recipe_of

Row = dict[str, str]
_DEVICE = "units.gpu.device={{use: gpu/{}}}"
SYSTEMS: dict[str, tuple[str, tuple[str, ...]]] = {  # preset, and another device in it
    "a100_sxm": ("hgx-a100", ()), "h100_sxm": ("hgx-h100", ()), "h200_sxm": ("hgx-h200", ()),
    "b200_sxm": ("hgx-b200", ()), "b300_sxm": ("hgx-b300", ()), "h20_sxm": ("hgx-h100", (_DEVICE.format("h20-sxm"),)),
    "gb200": ("hgx-b200", (_DEVICE.format("gb200"),)), "gb300": ("hgx-b200", (_DEVICE.format("gb300"),)),
    "rtx_pro_6000_server": ("rtx-pro-6000-8", ()),
}  # fmt: skip
MODELS = {"meta-llama/Llama-3.1-70B": "llama3-70b", "openai/gpt-oss-120b": "gpt-oss-120b",
          "MiniMaxAI/MiniMax-M2.5": "minimax-m2.5", "meta-llama/Llama-3.1-8B": "llama3-8b"}  # fmt: skip
FRAMEWORKS = {"vllm": "vllm", "trtllm": "tensorrt-llm", "sglang": "sglang"}
WEIGHTS = {"fp8": "fp8", "fp4": "nvfp4", "bf16": "bf16", "fp16": "fp16"}
SHORTEST = 0.8  # of the nominal length; the benchmark's --random-range-ratio
REQUESTS_PER_CLIENT = 10  # its --num-prompts
SEED = 0


@dataclass(frozen=True)
class Server:
    """A framework that serves a model on some GPUs."""

    system: System
    model: Model
    times: StepTimes

    @property
    def launch(self) -> Launch:
        """The framework's record."""
        return launch_of(self.system)


def server_of(row: Row, overrides: tuple[str, ...] = ()) -> Server:
    """The server of one row; `overrides` of its system beside what the row says."""
    recipe = recipe_of(row)
    return _server(
        row["system"], row["backend"], row["model_path"], row["precision"],
        recipe.gpus, recipe.expert_groups, recipe.kv_dtype, overrides,
    )  # fmt: skip


@cache
def _server(
    gpu: str, backend: str, path: str, precision: str, count: int, groups: int, kv_dtype: str,
    overrides: tuple[str, ...] = (),
) -> Server:  # fmt: skip
    preset, own = SYSTEMS[gpu]
    keys = (f"units.gpu.count={count}", f"mapping.expert_parallel={groups}", f"framework={FRAMEWORKS[backend]}")
    system = load_system(preset, (*own, *keys, *overrides))
    model = load_model(MODELS[path], _checkpoint(MODELS[path], precision, kv_dtype))
    return Server(system, model, StepTimes.of(system, model))


def _checkpoint(name: str, precision: str, kv_dtype: str) -> tuple[str, ...]:
    """Quantised checkpoints leave router and tables as they are; that of gpt-oss is described as it is published."""
    if name == "gpt-oss-120b":
        return (f"kv_dtype={kv_dtype}",)
    groups = () if precision == "fp8" else ("weight_group=0",)
    return (f"weight_dtype={WEIGHTS[precision]}", f"kv_dtype={kv_dtype}", "unquantized=[router, embeddings]", *groups)


def closed_loop(row: Row, launch: Launch | None = None, server: Server | None = None) -> Loop:
    """The requests of one row, on its server under its framework's record, or on another one under another."""
    server, recipe = server or server_of(row), recipe_of(row)
    clients = int(row["concurrency"])
    slots = min(clients, recipe.max_requests)
    nominal = [int(row[name]) for name in ("input_len_tokens", "output_len_tokens")]
    prompts, outputs = (
        spread_lengths(tokens, SHORTEST, REQUESTS_PER_CLIENT * slots, SEED, i) for i, tokens in enumerate(nominal)
    )
    room = cache_tokens(server.system, server.model, sum(nominal))
    limits = Limits(slots, room, recipe.batched_tokens, recipe.wait_tokens, recipe.wait_steps)
    how = launch or server.launch
    if recipe.captured_tokens is not None:
        how = how.model_copy(update={"captured_prompt_tokens": recipe.captured_tokens})
    return run_closed_loop(server.times, how, server.model.layers, clients, prompts, outputs, limits)


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
        """Predictions and, per row, the reason why there is none. TTFT only where the KV cache never binds."""
        columns: dict[str, list[float | None]] = {"ttft_ms": [], "tpot_ms": []}
        reasons: list[str | None] = []
        for row in rows:
            reason, loop = unsupported(row), None
            if reason is None:
                try:
                    loop = closed_loop(row)
                except ArchsimError as problem:
                    reason = str(problem)
            reasons.append(reason)
            bound = loop is None or loop.full_s > 0.0
            columns["ttft_ms"].append(None if loop is None or bound else float(loop.ttft_s.mean()) * 1e3)
            columns["tpot_ms"].append(None if loop is None else float(loop.tpot_s.mean()) * 1e3)
        return columns, reasons


def unsupported(row: Row) -> str | None:
    for column, known in (("system", SYSTEMS), ("model_path", MODELS), ("backend", FRAMEWORKS), ("precision", WEIGHTS)):
        if row[column] not in known:
            return f"unknown {column} {row[column]!r}"
    if row["pp_size"] != "1":
        return "pipeline parallelism"
    if int(row["tp_size"]) % int(row["moe_ep_size"] or 1):
        return f"{row['moe_ep_size']} groups of experts on {row['tp_size']} GPUs"
    return None
