"""What the simulator asks of a machine: how long an iteration takes and how many tokens its KV cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class LatencyOracle(Protocol):
    """A machine that serves one model.

    kv_bytes_per_token  bytes of KV cache one token takes, all layers
    kv_capacity_bytes   bytes there are for it
    max_tokens          tokens that fit
    usd_per_hour        price of the machine while it is on; None if unknown
    """

    @property
    def kv_bytes_per_token(self) -> float: ...

    @property
    def kv_capacity_bytes(self) -> float: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def usd_per_hour(self) -> float | None: ...

    def iteration_s(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Seconds of one iteration, more than 0.

        prefill_tokens   per prompt (or chunk) (new tokens, tokens of it in the cache before)
        decode_contexts  per decoding request the KV length attended to, the new token included
        """
        ...


@runtime_checkable
class DecodeRunOracle(LatencyOracle, Protocol):
    """An oracle that also times many decode steps of an unchanged batch at once; the simulator then is much faster."""

    def decode_run_s(self, decode_contexts: Sequence[int], steps: int) -> NDArray[np.float64]:
        """Seconds of each of `steps` iterations, shape (steps,); step j has every context longer by j.

        Must equal `iteration_s((), [c + j for c in decode_contexts])` to the last bit.
        """
        ...


@dataclass(frozen=True)
class AffineOracle:
    """Iteration time affine in tokens and contexts; coefficients in seconds.

    base + per prompt (n new tokens after p): per_request + per_prompt_token * n + per_prompt_pair * n * (p + n / 2)
         + per decode with context c:         per_request + per_context_token * c
    """

    base_s: float
    per_request_s: float = 0.0
    per_prompt_token_s: float = 0.0
    per_prompt_pair_s: float = 0.0
    per_context_token_s: float = 0.0
    max_tokens: int = 100_000
    kv_bytes_per_token: float = 1.0
    usd_per_hour: float | None = None

    @property
    def kv_capacity_bytes(self) -> float:
        """Bytes of all tokens that fit."""
        return self.max_tokens * self.kv_bytes_per_token

    def iteration_s(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Seconds of one iteration."""
        new = sum(n for n, _ in prefill_tokens)
        twice_pairs = sum(n * (2 * before + n) for n, before in prefill_tokens)
        requests = len(prefill_tokens) + len(decode_contexts)
        prompts = self.per_prompt_token_s * new + self.per_prompt_pair_s * (twice_pairs / 2)
        fixed = self.base_s + self.per_request_s * requests + prompts
        return fixed + self.per_context_token_s * sum(decode_contexts)

    def decode_run_s(self, decode_contexts: Sequence[int], steps: int) -> NDArray[np.float64]:
        """Seconds of each of `steps` decode iterations: the same sums, in the same order, as `iteration_s`."""
        requests = len(decode_contexts)
        contexts = sum(decode_contexts) + requests * np.arange(steps, dtype=np.int64)
        fixed = self.base_s + self.per_request_s * requests
        return fixed + np.float64(self.per_context_token_s) * contexts.astype(np.float64)
