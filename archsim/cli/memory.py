"""`archsim memory`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from archsim.cli.options import Output, output_options, override_option, progress

if TYPE_CHECKING:
    from archsim.memory.dram.result import MemoryResult
    from archsim.memory.dram.streams import Stream

F = TypeVar("F", bound=Callable[..., Any])
_STREAM = (
    click.option("--pattern", metavar="NAME", help="Access pattern, see `archsim list patterns`."),
    click.option("--param", "params", multiple=True, metavar="K=V", help="Parameter of the pattern, e.g. N=100000."),
    click.option(
        "--trace", "trace", type=click.Path(path_type=Path), metavar="F", help="Requests from a text or HDF5 file."
    ),
    click.option(
        "--controller", "controller", multiple=True, metavar="K=V",
        help="Controller option, e.g. mapping=MOP4CLXOR, refresh=pb, row_policy=closed4, channels=4.",
    ),
)  # fmt: skip


def _stream_options(function: F) -> F:
    for option in reversed(_STREAM):
        function = option(function)
    return function


@click.group()
def memory() -> None:
    """Simulate DRAM and PIM devices command by command."""


@memory.command()
@click.argument("device")
@_stream_options
@click.option("--no-stack", is_flag=True, help="Skip the bandwidth stack: about twice as fast.")
@override_option
@output_options("json", "hdf5")
def run(
    device: str,
    pattern: str | None,
    params: tuple[str, ...],
    trace: Path | None,
    controller: tuple[str, ...],
    no_stack: bool,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Simulate a stream of requests on DEVICE: bandwidth and what bounds it, latencies, commands, energy.

    With --hdf5 every command and the end of every request is kept in the file.
    """
    from archsim.report.memory import document_of, print_memory, write_memory_hdf5

    keep = output.hdf5 is not None
    result, configuration = _simulate(
        device, pattern, params, trace, controller, overrides, explain=not no_stack, keep=keep
    )

    def write(path: Path) -> None:
        write_memory_hdf5(path, result, configuration)

    output.emit(document_of(result), lambda console: print_memory(result, console), write_hdf5=write)


@memory.command()
@click.argument("devices", nargs=-1, required=True, metavar="DEVICE...")
@_stream_options
@output_options("json")
def compare(
    devices: tuple[str, ...],
    pattern: str | None,
    params: tuple[str, ...],
    trace: Path | None,
    controller: tuple[str, ...],
    output: Output,
) -> None:
    """The same stream on several devices, side by side."""
    from archsim.report.memory import document_of
    from archsim.report.memory_table import print_comparison

    results = [
        _simulate(device, pattern, params, trace, controller, (), explain=True, keep=False)[0] for device in devices
    ]
    document = {"schema": "archsim.memory-comparison/1", "runs": [document_of(result) for result in results]}
    output.emit(document, lambda console: print_comparison(results, console))


def _simulate(
    device: str, pattern: str | None, params: tuple[str, ...], trace: Path | None, controller: tuple[str, ...],
    overrides: tuple[str, ...], *, explain: bool, keep: bool,
) -> tuple[MemoryResult, dict[str, Any]]:  # fmt: skip
    from archsim.config import load
    from archsim.memory import simulate_memory
    from archsim.memory.dram.controller import controller_from

    loaded, options = load("memory", device, overrides), controller_from(_pairs(controller, "--controller"))
    parameters = _pairs(params, "--param")
    stream = _stream(pattern, trace, parameters)
    total = parameters.get("N") if isinstance(stream, str) else stream.n_requests
    with progress(f"simulating {loaded.name}", float(total) if isinstance(total, int | float) else None) as advance:
        result = simulate_memory(
            loaded, stream, options, parameters=parameters, explain=explain, trace=keep, requests=keep, advance=advance
        )
    configuration = {
        "device": loaded.model_dump(mode="json"), "controller": options.model_dump(mode="json"),
        "stream": {"pattern": pattern, "parameters": parameters, "trace": str(trace) if trace else None},
    }  # fmt: skip
    return result, configuration


def _stream(pattern: str | None, trace: Path | None, parameters: dict[str, Any]) -> Stream | str:
    from archsim.errors import UsageError

    if (pattern is None) == (trace is None):
        raise UsageError("give either --pattern NAME or --trace FILE")
    if trace is None:
        assert pattern is not None
        return pattern
    if parameters:
        raise UsageError("--param belongs to --pattern")
    if trace.suffix in (".h5", ".hdf5"):
        from archsim.report.memory import read_hdf5_trace

        return read_hdf5_trace(trace)
    from archsim.memory.dram.traces import read_text_trace

    return read_text_trace(trace)


def _pairs(texts: tuple[str, ...], option: str) -> dict[str, Any]:
    from archsim.config.yaml_reader import parse_scalar
    from archsim.errors import UsageError

    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{option}: found {text[:60]!r}, expected KEY=VALUE")
        # text options stay text: `refresh=no` is no truth value, and a bit layout no mapping
        plain = key.strip() in ("mapping", "refresh", "row_policy", "scheduler")
        found[key.strip()] = value if plain else parse_scalar(value)
    return found
