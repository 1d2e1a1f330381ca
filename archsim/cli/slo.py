"""Options that name a service level objective, shared by the commands that search for a rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from archsim.serving.capacity import Criterion

F = TypeVar("F", bound=Callable[..., Any])
_SECONDS = click.FloatRange(0, min_open=True)


def criterion_options(function: F) -> F:
    """Adds --ttft, --tpot, --attainment, --tbt-p99, --median-delay and passes them as one `criterion: Criterion`."""

    @wraps(function)
    def wrapped(
        *args: Any, ttft: float | None, tpot: float | None, attainment: float, tbt_p99: float | None,
        median_delay: float | None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        return function(*args, criterion=_criterion(ttft, tpot, attainment, tbt_p99, median_delay), **kwargs)

    options = {
        "--ttft": "Limit of a request's time to first token, s.",
        "--tpot": "Limit of a request's time per output token, s.",
        "--tbt-p99": "Limit of the 99th percentile of all times between tokens, s.",
        "--median-delay": "Limit of the median scheduling delay, s.",
    }
    result: Callable[..., Any] = wrapped
    for name, text in reversed(options.items()):
        result = click.option(name, type=_SECONDS, metavar="S", help=text)(result)
    result = click.option(
        "--attainment", type=click.FloatRange(0, 1, min_open=True), default=0.9, show_default=True, metavar="SHARE",
        help="Share of requests that must keep both --ttft and --tpot.",
    )(result)  # fmt: skip
    return result  # type: ignore[return-value]


def _criterion(
    ttft: float | None, tpot: float | None, attainment: float, tbt_p99: float | None, median_delay: float | None
) -> Criterion:
    from archsim.serving.capacity import Criterion
    from archsim.serving.results import Slo

    limits = [float("inf") if limit is None else limit for limit in (ttft, tpot, tbt_p99, median_delay)]
    return Criterion(Slo(limits[0], limits[1]), attainment, limits[2], limits[3])
