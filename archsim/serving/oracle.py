"""What the simulator asks of a machine: how long an iteration takes and how many tokens its KV cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from archsim.serving.oracle_kernels import DECODES, MIXED, PROMPTS, affine

Rows = NDArray[np.float64]


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


@dataclass(frozen=True)
class AffineTerms:
    """Coefficients of one kind of iteration, in seconds, for batches with at least `from_decodes` decodes."""

    base_s: float
    per_request_s: float = 0.0
    per_prompt_token_s: float = 0.0
    per_prompt_pair_s: float = 0.0
    per_context_token_s: float = 0.0
    from_decodes: int = 0

    def row(self) -> list[float]:
        """As the kernels want it."""
        return [
            self.from_decodes, self.base_s, self.per_request_s, self.per_prompt_token_s, self.per_prompt_pair_s,
            self.per_context_token_s,
        ]  # fmt: skip


@dataclass(frozen=True)
class AffineOracle:
    """Iteration time affine in tokens and contexts; coefficients in seconds.

    base + per prompt (n new tokens after p): per_request + per_prompt_token * n + per_prompt_pair * n * (p + n / 2)
         + per decode with context c:         per_request + per_context_token * c

    prompts, decodes  coefficients of their own for iterations without decodes, or without prompts, ordered by
                      `from_decodes`; empty: the ones above
    *_j               the same sum in joules; all 0: energy unknown
    adapter_*_s       per byte of an adapter that an iteration uses, per operation of a token with it
    """

    base_s: float
    per_request_s: float = 0.0
    per_prompt_token_s: float = 0.0
    per_prompt_pair_s: float = 0.0
    per_context_token_s: float = 0.0
    max_tokens: int = 100_000
    kv_bytes_per_token: float = 1.0
    usd_per_hour: float | None = None
    prompts: tuple[AffineTerms, ...] = ()
    decodes: tuple[AffineTerms, ...] = ()
    base_j: float = 0.0
    per_request_j: float = 0.0
    per_prompt_token_j: float = 0.0
    per_prompt_pair_j: float = 0.0
    per_context_token_j: float = 0.0
    adapter_byte_s: float = 0.0
    adapter_flop_s: float = 0.0
    name: str = "affine"

    @property
    def kv_capacity_bytes(self) -> float:
        """Bytes of all tokens that fit."""
        return self.max_tokens * self.kv_bytes_per_token

    @property
    def has_energy(self) -> bool:
        """Whether any joule coefficient is given."""
        return any(getattr(self, term.name) for term in fields(self) if term.name.endswith("_j"))

    def rows(self) -> Rows:
        """Coefficients of seconds, shape (3, R, 6), see `oracle_kernels`."""
        common = AffineTerms(
            self.base_s, self.per_request_s, self.per_prompt_token_s, self.per_prompt_pair_s, self.per_context_token_s
        )
        phases = {MIXED: (common,), PROMPTS: self.prompts or (common,), DECODES: self.decodes or (common,)}
        rows = np.zeros((3, max(map(len, phases.values())), 6))
        rows[:, :, 0] = np.inf
        for phase, terms in phases.items():
            rows[phase, : len(terms)] = [term.row() for term in terms]
        return rows

    def joules(self) -> Rows:
        """Coefficients of joules, shape (3, 1, 6)."""
        terms = (self.base_j, self.per_request_j, self.per_prompt_token_j, self.per_prompt_pair_j)
        return np.tile(np.array([0.0, *terms, self.per_context_token_j]), (3, 1, 1))

    def adapter_s(self, weight_bytes: float, flop_per_token: float) -> tuple[float, float]:
        """Seconds to read an adapter, and for each token with it."""
        return self.adapter_byte_s * weight_bytes, self.adapter_flop_s * flop_per_token

    def iteration_s(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Seconds of one iteration."""
        return _value(self.rows(), prefill_tokens, decode_contexts)

    def iteration_j(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Joules of one iteration."""
        return _value(self.joules(), prefill_tokens, decode_contexts)


def _value(rows: Rows, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
    new = sum(n for n, _ in prefill_tokens)
    twice_pairs = sum(n * (2 * before + n) for n, before in prefill_tokens)
    return float(affine(rows, len(prefill_tokens), len(decode_contexts), new, twice_pairs, sum(decode_contexts)))


@dataclass(frozen=True)
class StepTables:
    """Measured or computed iteration times on grids; between them linear, beyond the ends continued.

    batch (N,), context (C,), step_s (N, C)      a decode step by batch and mean context
    dense (D,), dense_s (D,)                     every operator but attention, by tokens in the iteration
    chunk (P,), before (B,), prompt_s (P, B)     attention of a prompt chunk after so many cached tokens
    host_s                                       the host's work on prompts alone; a decode step has its own
    launches_s, captured_tokens                  what an iteration with prompts takes at least, beside that work;
                                                 tokens up to which it has no such least time (captured graphs)
    shared_new (T,), shared_batch (M,), shared_s (T, M, C)
                                                 what attention of decodes takes more beside so many prompt tokens;
                                                 empty: nothing
    *_j                                          the same in joules, zeros if unknown
    """

    batch: Rows
    context: Rows
    step_s: Rows
    step_j: Rows
    dense: Rows
    dense_s: Rows
    dense_j: Rows
    chunk: Rows
    before: Rows
    prompt_s: Rows
    prompt_j: Rows
    host_s: float
    host_j: float
    launches_s: float = 0.0
    captured_tokens: float = 0.0
    shared_new: Rows = field(default_factory=lambda: np.zeros(0))
    shared_batch: Rows = field(default_factory=lambda: np.zeros(0))
    shared_s: Rows = field(default_factory=lambda: np.zeros((0, 0, 0)))
    shared_j: Rows = field(default_factory=lambda: np.zeros((0, 0, 0)))


@runtime_checkable
class TabulatedOracle(LatencyOracle, Protocol):
    """An oracle that can give its tables to the compiled simulator."""

    def tables(self, max_batch: int, longest_tokens: int) -> StepTables:
        """Tables for batches up to `max_batch` and contexts up to `longest_tokens`."""
        ...
