"""A server under a constant number of clients: each sends its next request when its last one has ended.

Iterations take decode steps, dense operators and attention of `simulate_pass`, tabulated, and the host time of the
serving framework; the rules are those of a server with one token budget an iteration, decodes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.launch import Launch
from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.execution.costing import Costing
from archsim.execution.step import Step, simulate_pass
from archsim.mapping.shard import ATTENTION

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
BATCHES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 256, 512)
CONTEXTS = (1, 512, 2048, 8192, 16384)
TOKENS = (1, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192, 16384, 20480)
PROMPTS = (1, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768)
HOST = "framework"  # the task of a pass that is no operator


@dataclass(frozen=True)
class StepTimes:
    """Device seconds of one model on one machine, without the host's.

    step_s       (batches, contexts) of a decode step
    dense_s      (tokens,) of every operator but attention
    attention_s  (prompts,) of the attention of a whole prompt
    """

    step_s: Array
    dense_s: Array
    attention_s: Array

    @classmethod
    def of(cls, system: System, model: Model) -> StepTimes:
        """Tabulated from simulated passes."""
        costing = Costing.of(system)

        def prompt(tokens: int) -> Step:
            return simulate_pass(costing, model, "prefill", 1, tokens, tokens, logits=False)

        core = {*ATTENTION, "attention"}
        steps = [
            [_without(simulate_pass(costing, model, "decode", n, 1, c), {HOST}) for c in CONTEXTS] for n in BATCHES
        ]
        dense = [_without(prompt(tokens), {HOST, *core}) for tokens in TOKENS]
        attention = [_without(one, {HOST}) - _without(one, {HOST, *core}) for one in map(prompt, PROMPTS)]
        return cls(np.array(steps), np.array(dense), np.array(attention))

    def tables(self) -> tuple[Array, ...]:
        """As the kernel takes them."""
        grids = [np.array(grid, dtype=np.float64) for grid in (BATCHES, CONTEXTS, TOKENS, PROMPTS)]
        return grids[0], grids[1], self.step_s, grids[2], self.dense_s, grids[3], self.attention_s


def _without(step: Step, names: set[str]) -> float:
    return sum(float(s) for s, task in zip(step.exposed_s, step.tasks, strict=True) if task.planned.name not in names)


@dataclass(frozen=True)
class Limits:
    """What a server may hold and take at once, beside what its framework says.

    requests         that run together; cache_tokens: room for keys and values
    batched_tokens   of one iteration
    wait_tokens, wait_steps  prompts are held back until decodes and they make up as many tokens, or for so many steps
    """

    requests: int
    cache_tokens: int
    batched_tokens: int
    wait_tokens: int = 0
    wait_steps: int = 0


@dataclass(frozen=True)
class Loop:
    """Times of every request, seconds.

    full_s  in which the cache was too full for a request that waited; end_s: when the last request ended
    """

    ttft_s: Array
    tpot_s: Array
    full_s: float
    end_s: float


def run_closed_loop(
    times: StepTimes, launch: Launch, layers: int, clients: int, prompts: Counts, outputs: Counts, limits: Limits
) -> Loop:
    """Serve requests of `prompts` and `outputs` tokens (the first of which comes with the prompt), `clients` at a time.

    All clients start at once. TPOT is the time from the first token to the last over the tokens after the first.
    """
    from archsim.serving import closed_loop_kernels as kernels

    asked = np.zeros((len(prompts), 4), dtype=np.int64)
    asked[:, kernels.PROMPT], asked[:, kernels.OUTPUT] = prompts, np.maximum(outputs, 2)
    when = np.zeros((len(prompts), 4))
    server = launch.server
    host = np.array([
        launch.graph_launch + launch.step_overhead, launch.request_overhead, launch.prefill_layer_overhead * layers,
        server.request_admission, server.token_admission, launch.captured_prompt_tokens,
        server.request_latency,
    ])  # fmt: skip
    bounds = np.array([
        limits.requests, limits.cache_tokens, limits.batched_tokens, server.whole_prompts, server.reserve_output,
        limits.wait_tokens, limits.wait_steps,
    ], dtype=np.int64)  # fmt: skip
    full_s = kernels.closed_loop(clients, asked, when, times.tables(), host, bounds)
    first, end = when[:, kernels.FIRST], when[:, kernels.END]
    tpot_s = (end - first) / (np.maximum(outputs, 2) - 1)
    return Loop(first - when[:, kernels.SENT], tpot_s, full_s, float(end.max()))
