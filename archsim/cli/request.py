"""Options that describe the request shape, shared by the commands that evaluate a workload."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from archsim.errors import UsageError

if TYPE_CHECKING:
    from archsim.workload.onnx_import import OnnxWorkload

F = TypeVar("F", bound=Callable[..., Any])
_MOST = 10_000_000


def _parse_batch(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    if value == "max":
        return None
    if value.isascii() and value.isdigit() and 0 < int(value[:20]) <= _MOST:
        return int(value)
    raise click.BadParameter(f"found {value[:40]!r}, expected a whole number from 1 to {_MOST:,} or 'max'")


def request_options(function: F) -> F:
    """Adds --batch N|max (None for max), --input-len and --output-len."""
    tokens = click.IntRange(1, _MOST)
    lengths = {"--output-len": "Tokens generated for each request.", "--input-len": "Prompt tokens of each request."}
    for name, text in lengths.items():
        function = click.option(name, type=tokens, default=2048, show_default=True, help=text)(function)
    return click.option(
        "--batch", callback=_parse_batch, default="max", show_default=True, metavar="N|max",
        help="Requests that run together; max: the largest batch that fits.",
    )(function)  # fmt: skip


def split_overrides(overrides: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """`--set` texts for the system, and those that begin with `workload.` for the workload."""
    of_workload = [text.removeprefix("workload.") for text in overrides if text.startswith("workload.")]
    return [text for text in overrides if not text.startswith("workload.")], of_workload


def load_onnx_workload(path: str, sizes: list[str], preset_only: tuple[str, ...]) -> OnnxWorkload:
    """An ONNX file with `NAME=SIZE` texts for its free dimensions.

    Raises UsageError for a text that is anything else, and if the command line gives an option of `preset_only`.
    """
    from archsim.workload.onnx_import import load_onnx

    context = click.get_current_context()
    for name in preset_only:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} does not apply to {path}: an ONNX file says itself what one pass is")
    return load_onnx(path, dict(_parse_size(text) for text in sizes))


def _parse_size(text: str) -> tuple[str, int]:
    """`NAME=SIZE` of an ONNX file's free dimension. Raises UsageError if it is anything else."""
    name, equals, size = text.partition("=")
    if not equals or not (size.isascii() and size.isdigit() and 0 < int(size[:20]) <= _MOST):
        raise UsageError(f"--set workload.{text}: expected workload.DIMENSION=SIZE with a size from 1 to {_MOST:,}")
    return name, int(size)
