"""Options that describe the request shape, shared by the commands that evaluate a workload."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from archsim.config.schemas.model import Model
    from archsim.config.schemas.system import System

F = TypeVar("F", bound=Callable[..., Any])
Batch = int | Literal["max"]
_MOST = 10_000_000


def _parse_batch(ctx: click.Context, param: click.Parameter, value: str) -> Batch:
    if value == "max":
        return "max"
    if value.isascii() and value.isdigit() and 0 < int(value[:20]) <= _MOST:
        return int(value)
    raise click.BadParameter(f"found {value[:40]!r}, expected a whole number from 1 to {_MOST:,} or 'max'")


def request_options(function: F) -> F:
    """Adds --batch N|max, --input-len and --output-len."""
    tokens = click.IntRange(1, _MOST)
    function = click.option(
        "--output-len", type=click.IntRange(0, _MOST), default=2048, show_default=True,
        help="Tokens generated for each request.",
    )(function)  # fmt: skip
    function = click.option(
        "--input-len", type=tokens, default=2048, show_default=True, help="Prompt tokens of each request."
    )(function)
    return click.option(
        "--batch", callback=_parse_batch, default="1", show_default=True, metavar="N|max",
        help="Requests that run together; max: the largest batch that fits.",
    )(function)  # fmt: skip


def batch_size(batch: Batch, system: System, model: Model, input_len: int, output_len: int) -> int:
    """The batch asked for; for `max` the largest that fits, and at least 1 so that evaluating says what lacks."""
    if batch != "max":
        return batch
    from archsim.mapping.capacity import largest_batch

    return max(1, largest_batch(system, model, input_len, output_len))


def split_overrides(overrides: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """`--set` texts for the system, and those that begin with `workload.` for the workload."""
    of_workload = [text.removeprefix("workload.") for text in overrides if text.startswith("workload.")]
    return [text for text in overrides if not text.startswith("workload.")], of_workload
