"""How long one iteration of a serving batch takes on a machine, from the same models as `evaluate`.

A pure decode iteration of n requests is the scheduled decode step of batch n at their mean context. A prompt (or a
chunk of one) adds its attention and the growth of the dense operators by its tokens: weights that a decode of the
same iteration reads anyway are not read twice (Orca's selective batching).

Step times are simulated at contexts CONTEXT_GRID apart and taken as linear in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.errors import InfeasibleError
from archsim.execution.attention import AttentionModel, simulated_attention
from archsim.execution.costing import Costing
from archsim.execution.step import Step, simulate_pass
from archsim.mapping.capacity import check_fits, kv_room_bytes
from archsim.mapping.shard import ATTENTION

CONTEXT_GRID = 128
PROMPT_GRID = 32


class LatencyOracle:
    """Iteration times of one model on one machine; every simulated point is remembered.

    Raises InfeasibleError at once if the model leaves no room for a KV cache.
    """

    def __init__(self, system: System, model: Model, attention: AttentionModel = simulated_attention) -> None:
        self.system, self.model = system, model
        self._costing = Costing(system, attention, coprocess_limit=0.0)  # the memory belongs to the KV cache
        self._decode: dict[tuple[int, int], float] = {}
        self._dense: dict[int, float] = {}
        self._prompt: dict[tuple[int, int], float] = {}
        self.usd_per_hour: float | None = None
        check_fits(system, model, 1, 1, 1)
        if self.max_tokens < 1:
            raise InfeasibleError(f"{system.name} has no room for a KV cache beside {model.name}")

    @cached_property
    def kv_bytes_per_token(self) -> float:
        """Bytes of KV cache of one token, all layers."""
        return self.model.kv_bytes(1)

    @cached_property
    def kv_capacity_bytes(self) -> float:
        """Bytes for the KV cache: the memory decode attention runs from, less what else it holds."""
        return kv_room_bytes(self.system, self.model, min(self.model.max_positions, 4096))

    @cached_property
    def max_tokens(self) -> int:
        """Tokens whose keys and values fit."""
        return int(self.kv_capacity_bytes // self.kv_bytes_per_token)

    def iteration_s(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Seconds of one iteration; see `archsim.serving.oracle.LatencyOracle`."""
        count = len(decode_contexts)
        seconds = self._decode_s(count, sum(decode_contexts) / count) if count else 0.0
        if prefill_tokens:
            new = sum(tokens for tokens, _ in prefill_tokens)
            shared_s = self._dense_s(count) if count else 0.0
            seconds += max(0.0, self._dense_s(new + count) - shared_s)
            seconds += sum(self._prompt_s(tokens, before) for tokens, before in prefill_tokens)
        return seconds

    def decode_run_s(self, decode_contexts: Sequence[int], steps: int) -> NDArray[np.float64]:
        """Seconds of `steps` decode iterations of an unchanged batch, (steps,); equals `iteration_s` step by step."""
        count, total = len(decode_contexts), sum(decode_contexts)
        return np.array([self._decode_s(count, (total + count * step) / count) for step in range(steps)])

    def decode_power_w(self, count: int, context: int) -> float:
        """Mean power of the modelled devices in a decode iteration."""
        step = self._step(count, max(1, context))
        return step.joules / step.seconds

    def _step(self, count: int, context: int) -> Step:
        return simulate_pass(self._costing, self.model, "decode", count, 1, context)

    def _decode_s(self, count: int, context: float) -> float:
        below = int(context // CONTEXT_GRID)
        share = context / CONTEXT_GRID - below
        low = self._decode_at(count, below)
        return low if share == 0.0 else low + share * (self._decode_at(count, below + 1) - low)

    def _decode_at(self, count: int, grid: int) -> float:
        key = (count, grid)
        if key not in self._decode:
            self._decode[key] = self._step(count, max(1, grid * CONTEXT_GRID)).seconds
        return self._decode[key]

    def _dense_s(self, tokens: int) -> float:
        """Everything but attention for `tokens` rows; long batches interpolate between multiples of PROMPT_GRID."""
        if tokens <= PROMPT_GRID or tokens % PROMPT_GRID == 0:
            if tokens not in self._dense:
                step = simulate_pass(self._costing, self.model, "prefill", 1, tokens, tokens, logits=False)
                self._dense[tokens] = _sum_s(step, attention=False)
            return self._dense[tokens]
        below = tokens // PROMPT_GRID * PROMPT_GRID
        low, high = self._dense_s(below), self._dense_s(below + PROMPT_GRID)
        return low + (tokens - below) / PROMPT_GRID * (high - low)

    def _prompt_s(self, tokens: int, before: int) -> float:
        """Attention of one prompt chunk of `tokens` after `before` cached ones, rounded up to the grid when long."""
        if tokens > PROMPT_GRID:
            tokens = -(-tokens // PROMPT_GRID) * PROMPT_GRID
        before = -(-before // PROMPT_GRID) * PROMPT_GRID
        key = (tokens, before)
        if key not in self._prompt:
            step = simulate_pass(self._costing, self.model, "prefill", 1, tokens, before + tokens, logits=False)
            self._prompt[key] = _sum_s(step, attention=True)
        return self._prompt[key]


def _sum_s(step: Step, attention: bool) -> float:
    """Seconds the attention operators of a pass (or all others) account for."""
    parts = zip(step.tasks, step.exposed_s, strict=True)
    return float(
        sum(exposed for task, exposed in parts if (task.planned.name in (*ATTENTION, "attention")) == attention)
    )
