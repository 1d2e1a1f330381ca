"""How long one iteration of a serving batch takes on a machine, from the same models as `evaluate`.

A pure decode iteration of n requests is the scheduled decode step of batch n at their mean context. A prompt (or a
chunk of one) adds its attention and the growth of the dense operators by its tokens: weights that a decode of the
same iteration reads anyway are not read twice (Orca's selective batching). Where a GPU's library attends to prompts and
decodes in one launch, the decodes are timed in it: the prompts' kernel does not split their keys and reads them once a
query head, not once a group. An iteration with prompts takes no less than the host's launches of their kernels; the
energy of devices that wait for those is left out.

Step times are simulated at contexts CONTEXT_GRID apart and taken as linear in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.errors import InfeasibleError
from archsim.execution.attention import AttentionModel, simulated_attention
from archsim.execution.costing import Costing
from archsim.execution.launch import launches_s
from archsim.execution.step import ROUNDING, Step, simulate_pass, simulate_shared_launch
from archsim.mapping.capacity import check_fits, kv_room_bytes
from archsim.mapping.plan import attends_in_one_launch, timed_by_kernels
from archsim.mapping.shard import ATTENTION

CONTEXT_GRID = 128
PROMPT_GRID = 32
NOMINAL_TOKENS = 4096  # of a request, where the room for the KV cache depends on it
_ATTENTION = (*ATTENTION, "attention")
HOST = ("framework",)  # the one task of a plan that is no operator
HOST_UNIT = "host"


class Work(NamedTuple):
    """What (a part of) an iteration takes."""

    seconds: float
    joules: float


class LatencyOracle:
    """Iteration times of one model on one machine; every simulated point is remembered.

    Raises InfeasibleError at once if the model leaves no room for a KV cache.
    """

    def __init__(self, system: System, model: Model, attention: AttentionModel = simulated_attention) -> None:
        self.system, self.model = system, model
        self._costing = Costing(system, attention, coprocess_limit=0.0)  # the memory belongs to the KV cache
        self.one_launch = attends_in_one_launch(system)
        self._decode: dict[tuple[int, int], Work] = {}
        self._attention: dict[tuple[int, int], Work] = {}  # of the decode steps
        self._beside: dict[tuple[int, int, int], Work] = {}
        self._dense: dict[int, Work] = {}
        self._prompt: dict[tuple[int, int], Work] = {}
        self.busy_s: dict[tuple[str | int, ...], dict[str, float]] = {}  # by simulated point, see `unit_times`
        self.usd_per_hour: float | None = None
        check_fits(system, model, 1, 1, 1)
        if self.max_tokens < 1:
            rule = "".join(f" ({rule})" for rule in self._memory_rules())
            raise InfeasibleError(f"{system.name} has no room for a KV cache beside {model.name}{rule}")

    def _memory_rules(self) -> tuple[str, ...]:
        """What else limits the memory, for who is told that there is not enough."""
        return ()

    @cached_property
    def kv_bytes_per_token(self) -> float:
        """Bytes of KV cache of one token, all layers; with windowed layers the mean over NOMINAL_TOKENS."""
        return self.model.kv_bytes(NOMINAL_TOKENS) / NOMINAL_TOKENS

    @cached_property
    def kv_capacity_bytes(self) -> float:
        """Bytes for the KV cache: the memory decode attention runs from, less what else it holds."""
        return kv_room_bytes(self.system, self.model, min(self.model.max_positions, NOMINAL_TOKENS))

    @cached_property
    def max_tokens(self) -> int:
        """Tokens whose keys and values fit."""
        return int(self.kv_capacity_bytes // self.kv_bytes_per_token)

    def iteration_s(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Seconds of one iteration; see `archsim.serving.oracle.LatencyOracle`."""
        return self.iteration(prefill_tokens, decode_contexts).seconds

    def iteration_j(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Joules of one iteration, by the same sum."""
        return self.iteration(prefill_tokens, decode_contexts).joules

    def iteration(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> Work:
        """Seconds and joules of one iteration."""
        count = len(decode_contexts)
        seconds, joules = self.decode(count, sum(decode_contexts) / count) if count else Work(0.0, 0.0)
        if prefill_tokens:
            new = sum(tokens for tokens, _ in prefill_tokens)
            shared, both = self.dense(count) if count else Work(0.0, 0.0), self.dense(new + count)
            parts = [self.prompt(tokens, before) for tokens, before in prefill_tokens]
            parts.append(self.beside(count, sum(decode_contexts) / count, new) if count else self.host)
            seconds += max(0.0, both.seconds - shared.seconds) + sum(part.seconds for part in parts)
            joules += max(0.0, both.joules - shared.joules) + sum(part.joules for part in parts)
            seconds = max(seconds, self.host.seconds + self.launches_s(new + count))
        return Work(seconds, joules)

    def decode(self, count: int, context: float) -> Work:
        """A decode step of `count` requests that attend to `context` tokens on average."""
        below = int(context // CONTEXT_GRID)
        low = self._decode_at(count, below)
        share = context / CONTEXT_GRID - below
        return low if share == 0.0 else _between(low, self._decode_at(count, below + 1), share)

    def _decode_at(self, count: int, grid: int) -> Work:
        key = (count, grid)
        if key not in self._decode:
            step = simulate_pass(self._costing, self.model, "decode", count, 1, max(1, grid * CONTEXT_GRID))
            self._decode[key] = Work(step.seconds, step.joules)
            self._attention[key] = _part(step, only=_ATTENTION)
            self.busy_s["decode", *key] = busy_seconds(step)
            self.busy_s["attention", *key] = busy_seconds(step, only=_ATTENTION)
        return self._decode[key]

    def beside(self, count: int, context: float, new: int) -> Work:
        """What the attention of a decode step takes more (or less) in one launch with `new` prompt tokens.

        How many tokens of the prompts were cached before makes little difference to it and is left out.
        """
        if not self.one_launch:
            return Work(0.0, 0.0)
        below = int(context // CONTEXT_GRID)
        low = self._beside_at(count, below, new)
        share = context / CONTEXT_GRID - below
        return low if share == 0.0 else _between(low, self._beside_at(count, below + 1, new), share)

    def _beside_at(self, count: int, grid: int, new: int) -> Work:
        new = rounded_tokens(new)
        key = (count, grid, new)
        if key not in self._beside:
            self._decode_at(count, grid)
            step = simulate_shared_launch(self._costing, self.model, new, count, max(1, grid * CONTEXT_GRID))
            shared, prompt, decodes = _part(step, only=_ATTENTION), self.prompt(new, 0), self._attention[count, grid]
            added = busy_seconds(step, only=_ATTENTION)
            for known in (self.busy_s["prompt", new, 0], self.busy_s["attention", count, grid]):
                for name, seconds in known.items():
                    added[name] = added.get(name, 0.0) - seconds
            self.busy_s["beside", *key] = added
            self._beside[key] = Work(
                shared.seconds - prompt.seconds - decodes.seconds, shared.joules - prompt.joules - decodes.joules
            )
        return self._beside[key]

    def dense(self, tokens: int) -> Work:
        """Every operator but attention for `tokens` rows; long batches interpolate between multiples of PROMPT_GRID."""
        if tokens <= PROMPT_GRID or tokens % PROMPT_GRID == 0:
            if tokens not in self._dense:
                step = simulate_pass(self._costing, self.model, "prefill", 1, tokens, tokens, logits=False)
                self._dense[tokens] = _part(step, without=(*_ATTENTION, *HOST))
                self.busy_s["dense", tokens] = busy_seconds(step, without=(*_ATTENTION, *HOST))
            return self._dense[tokens]
        below = tokens // PROMPT_GRID * PROMPT_GRID
        return _between(self.dense(below), self.dense(below + PROMPT_GRID), (tokens - below) / PROMPT_GRID)

    def prompt(self, tokens: int, before: int) -> Work:
        """Attention of one prompt chunk of `tokens` after `before` cached ones, rounded up to the grid when long."""
        tokens = rounded_tokens(tokens)
        before = -(-before // PROMPT_GRID) * PROMPT_GRID
        key = (tokens, before)
        if key not in self._prompt:
            step = simulate_pass(self._costing, self.model, "prefill", 1, tokens, before + tokens, logits=False)
            self._prompt[key] = _part(step, only=_ATTENTION)
            self.busy_s["prompt", *key] = busy_seconds(step, only=_ATTENTION)
        return self._prompt[key]

    @cached_property
    def host(self) -> Work:
        """The framework's work on an iteration of prompts alone; a decode step contains its own."""
        step = simulate_pass(self._costing, self.model, "decode", 1, 1, 1, logits=False)
        return _part(step, only=HOST)

    def launches_s(self, tokens: int) -> float:
        """Host time of launching an iteration of `tokens` tokens, some of them of prompts."""
        unit = self.system.units[self.system.mapping.main]
        if unit.type != "gpu" or not timed_by_kernels(self.system, self.system.mapping.main):
            return 0.0
        return launches_s(unit.launch, self.model.layers, tokens)


def rounded_tokens(tokens: int) -> int:
    """Up to the grid, when long."""
    return tokens if tokens <= PROMPT_GRID else -(-tokens // PROMPT_GRID) * PROMPT_GRID


def _between(low: Work, high: Work, share: float) -> Work:
    seconds = low.seconds + share * (high.seconds - low.seconds)
    return Work(seconds, low.joules + share * (high.joules - low.joules))


def _part(step: Step, *, only: Sequence[str] | None = None, without: Sequence[str] = ()) -> Work:
    """What the tasks of a pass with these names (or all but those) account for."""
    chosen = [task.planned.name not in without and (only is None or task.planned.name in only) for task in step.tasks]
    seconds = float(sum(exposed for exposed, own in zip(step.exposed_s, chosen, strict=True) if own))
    joules = sum(task.joules * task.planned.repeat for task, own in zip(step.tasks, chosen, strict=True) if own)
    return Work(seconds, joules)


def busy_seconds(step: Step, *, only: Sequence[str] | None = None, without: Sequence[str] = ()) -> dict[str, float]:
    """How long each unit works on the tasks of a pass with these names (or all but those).

    A task that two units share counts for both; the framework's work for HOST_UNIT.
    """
    busy: dict[str, float] = {}
    for task, exposed in zip(step.tasks, step.exposed_s, strict=True):
        name, seconds = task.planned.name, task.seconds * task.planned.repeat
        if name in without or (only is not None and name not in only):
            continue
        if abs(seconds - exposed) <= ROUNDING * seconds:
            seconds = float(exposed)  # as in `Step.operators`
        for unit in (HOST_UNIT,) if name in HOST else task.unit.split("+"):
            busy[unit] = busy.get(unit, 0.0) + seconds
    return busy
