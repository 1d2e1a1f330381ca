"""What a number of clients get from a machine that serves one model: what a benchmark of a server prints.

All clients start at once and send their next request when their last one has ended; lengths are spread evenly between a
share of the nominal one and the nominal one, as `vllm bench serve --max-concurrency` with random lengths does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.errors import InfeasibleError, UsageError
from archsim.serving.closed_loop import Limits, StepTimes, run_closed_loop
from archsim.serving.framework import UNNAMED, cache_bytes, launch_of, machine_notes
from archsim.serving.results import Distribution

CLIENTS_SCHEMA = "archsim.clients/1"


@dataclass(frozen=True)
class ClientsPoint:
    """One number of clients. Seconds, tokens per second.

    requests_per_s, output_tokens_per_s  over the whole run, its start and end included
    cache_full_share                     of the run in which a request waited for room in the KV cache
    """

    clients: int
    requests: int
    ttft_s: Distribution
    tpot_s: Distribution
    requests_per_s: float
    output_tokens_per_s: float
    cache_full_share: float


@dataclass(frozen=True)
class ClientsReport:
    """A machine, a model, a framework, and what each number of clients gets."""

    system: str
    model: str
    framework: str
    input_len: int
    output_len: int
    cache_tokens: int
    points: tuple[ClientsPoint, ...]
    notes: tuple[str, ...] = ()  # what a reader must know about the models of the machine and its framework
    schema: str = CLIENTS_SCHEMA


def cache_tokens(system: System, model: Model, tokens: int) -> int:
    """Tokens of requests as long as `tokens` whose keys and values fit. Raises InfeasibleError where not one fits."""
    found = int(cache_bytes(system, model, tokens) / (model.kv_bytes(tokens) / tokens))
    if found < tokens:
        raise InfeasibleError(f"{system.name} cannot hold {model.name} and one request of {tokens} tokens")
    return found


def spread_lengths(nominal: int, shortest: float, count: int, seed: int, stream: int) -> NDArray[np.int64]:
    """`count` whole numbers, evenly spread from `shortest` x nominal to nominal."""
    random = np.random.default_rng((seed, stream))
    return random.integers(max(1, int(shortest * nominal)), nominal + 1, count)


def serve_clients(
    system: System, model: Model, clients: Iterable[int], input_len: int, output_len: int, *, shortest: float = 0.8,
    requests_per_client: int = 10, most_running: int | None = None, seed: int = 0,
) -> ClientsReport:  # fmt: skip
    """Serve each number of `clients` in turn.

    shortest      share of the nominal lengths that the shortest request has
    most_running  requests that run together at most (`--max-num-seqs`); none: what the framework's record says
    Raises InfeasibleError if the model leaves no room for one request, UsageError for numbers that make no sense.
    """
    numbers = list(clients)
    if not numbers or min(numbers) < 1 or input_len < 1 or output_len < 2 or not 0.0 < shortest <= 1.0:
        raise UsageError("clients needs at least one client, a prompt token, two output tokens, and 0 < shortest <= 1")
    launch, room = launch_of(system), cache_tokens(system, model, input_len + output_len)
    most = most_running or launch.server.max_requests or max(numbers)
    times, points = StepTimes.of(system, model), []
    for number in numbers:
        count = number * requests_per_client
        prompts = spread_lengths(input_len, shortest, count, seed, 0)
        outputs = np.maximum(spread_lengths(output_len, shortest, count, seed, 1), 2)
        limits = Limits(min(number, most), room, launch.server.batched_tokens)
        loop = run_closed_loop(times, launch, model.layers, number, prompts, outputs, limits)
        points.append(
            ClientsPoint(
                number, count, _distribution(loop.ttft_s), _distribution(loop.tpot_s), count / loop.end_s,
                float(outputs.sum()) / loop.end_s, loop.full_s / loop.end_s,
            )
        )  # fmt: skip
    name = "no framework" if launch.name == UNNAMED else launch.name
    return ClientsReport(
        system.name, model.name, name, input_len, output_len, room, tuple(points), machine_notes(system)
    )


def _distribution(values: NDArray[np.float64]) -> Distribution:
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return Distribution(float(values.mean()), p50, p90, p99, float(values.max()))
