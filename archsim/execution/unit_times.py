"""How long each unit and link of a machine works in an iteration of a serving batch.

The parts of an iteration are those of the latency oracle: a decode step, the growth of the dense operators, the
attention of prompts, and the framework's work, which counts for a unit of its own, the host. Units may work at the same
time, so their times add up to the iteration only where nothing overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence

from archsim.execution.oracle import CONTEXT_GRID, HOST_UNIT, PROMPT_GRID, LatencyOracle, rounded_tokens

Busy = dict[str, float]  # seconds by unit


class UnitTimes:
    """Seconds by unit of what a latency oracle times."""

    def __init__(self, oracle: LatencyOracle) -> None:
        self._oracle = oracle

    def iteration(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> Busy:
        """Of one iteration; arguments as `LatencyOracle.iteration`."""
        count, new = len(decode_contexts), sum(tokens for tokens, _ in prefill_tokens)
        mean = sum(decode_contexts) / count if count else 0.0
        found: Busy = {}
        if count:
            _add(found, self.decode(count, mean))
        if not prefill_tokens:
            return found
        if self._oracle.dense(new + count).seconds > (self._oracle.dense(count).seconds if count else 0.0):
            _add(found, self.dense(new + count))
            if count:
                _add(found, self.dense(count), -1.0)
        for tokens, before in prefill_tokens:
            _add(found, self.prompt(tokens, before))
        _add(found, self.beside(count, mean, new) if count else self.host())
        return found

    def decode(self, count: int, context: float) -> Busy:
        """Of a decode step."""
        self._oracle.decode(count, context)
        return self._between(("decode", count), context, ())

    def beside(self, count: int, context: float, new: int) -> Busy:
        """What the attention of a decode step takes more in one launch with `new` prompt tokens."""
        if not self._oracle.one_launch:
            return {}
        self._oracle.beside(count, context, new)
        return self._between(("beside", count), context, (rounded_tokens(new),))

    def dense(self, tokens: int) -> Busy:
        """Of every operator but attention."""
        self._oracle.dense(tokens)
        known = self._oracle.busy_s.get(("dense", tokens))
        if known is not None:
            return dict(known)
        below = tokens // PROMPT_GRID * PROMPT_GRID
        found: Busy = {}
        _add(found, self.dense(below), 1.0 - (tokens - below) / PROMPT_GRID)
        _add(found, self.dense(below + PROMPT_GRID), (tokens - below) / PROMPT_GRID)
        return found

    def prompt(self, tokens: int, before: int) -> Busy:
        """Of the attention of a prompt chunk."""
        self._oracle.prompt(tokens, before)
        return dict(self._oracle.busy_s["prompt", rounded_tokens(tokens), -(-before // PROMPT_GRID) * PROMPT_GRID])

    def host(self) -> Busy:
        """Of the framework's work on an iteration of prompts alone."""
        return {HOST_UNIT: self._oracle.host.seconds}

    def _between(self, head: tuple[str | int, ...], context: float, tail: tuple[int, ...]) -> Busy:
        below = int(context // CONTEXT_GRID)
        share = context / CONTEXT_GRID - below
        found: Busy = {}
        _add(found, self._oracle.busy_s[(*head, below, *tail)], 1.0 - share)
        if share:
            _add(found, self._oracle.busy_s[(*head, below + 1, *tail)], share)
        return found


def _add(total: Busy, part: Busy, weight: float = 1.0) -> None:
    for unit, seconds in part.items():
        total[unit] = total.get(unit, 0.0) + weight * seconds
