"""`archsim network`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import Output, output_options, override_option

if TYPE_CHECKING:
    from archsim.config.schemas.expander import Expander
    from archsim.config.schemas.link import Link


@click.group()
def network() -> None:
    """Simulate CXL links and the memory behind them, flit by flit."""


@network.command()
@click.argument("link")
@click.option("--read-fraction", type=float, default=1.0, show_default=True, help="Share of reads, 0 to 1.")
@click.option("--load", "load", default="max", show_default=True, help="Offered rate, e.g. '20 GB/s', or max.")
@click.option("--requests", type=int, default=20_000, show_default=True, help="Lines to read or write.")
@click.option(
    "--sources",
    type=click.IntRange(0, 100_000),
    default=32,
    show_default=True,
    help="Cores that issue the requests, each one in every interval; 0: exponential gaps.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--memory-latency", default="0 ns", show_default=True, help="Access time behind a bare link.")
@click.option("--banks", type=int, default=0, help="Banks behind a bare link; 0: nothing occupies them.")
@click.option("--bank-time", default="46 ns", show_default=True, help="How long an access occupies its bank.")
@click.option("--accelerator", help="Rate of the accelerator beside an expander's memory, e.g. '500 GB/s', or max.")
@override_option
@output_options("json")
def run(
    link: str,
    read_fraction: float,
    load: str,
    requests: int,
    sources: int,
    seed: int,
    memory_latency: str,
    banks: int,
    bank_time: str,
    accelerator: str | None,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Loads and stores over LINK: bandwidth and its bound, latency under load, what fills the slots.

    LINK is a link with flits (`archsim list links`) or an expander (`archsim list expanders`), whose DRAM is simulated
    command by command and shared with its accelerator.
    """
    from archsim.errors import UsageError
    from archsim.report.network import print_expander, print_link

    device = _described(link, overrides)
    rate = _rate(load, "--load")
    if device.kind == "expander":
        found = _expander(device, (read_fraction, rate, requests, seed, sources), accelerator)
        output.emit(found, lambda console: print_expander(found, console))
        return
    if accelerator is not None:
        raise UsageError(f"--accelerator: {device.name} is a link, only an expander has an accelerator")
    result = _link(device, (read_fraction, rate, requests, seed, sources), memory_latency, banks, bank_time)
    output.emit(result, lambda console: print_link(result, console))


def _described(name: str, overrides: tuple[str, ...]) -> Any:
    from pathlib import Path

    from archsim.config import load
    from archsim.config.loader import kind_of_file
    from archsim.config.presets import preset_names
    from archsim.errors import UsageError, unknown_name

    if "/" in name or name.endswith((".yaml", ".yml")):
        return load(kind_of_file(Path(name)), name, overrides)
    for kind in ("link", "expander"):
        if name in preset_names(kind):
            return load(kind, name, overrides)
    raise UsageError(unknown_name("link or expander", name, [*preset_names("link"), *preset_names("expander")]))


def _rate(text: str, option: str) -> float | None:
    """Bytes/s, or None for `max`."""
    from archsim.errors import UsageError
    from archsim.units import parse_quantity

    if text == "max":
        return None
    try:
        rate = parse_quantity(text, "byte/s")
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if rate <= 0:
        raise UsageError(f"{option}: found {text!r}, allowed: more than 0, or max")
    return rate


def _seconds(text: str, option: str) -> float:
    from archsim.errors import UsageError
    from archsim.units import parse_quantity

    try:
        found = parse_quantity(text, "s")
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
    if not 0 <= found < 1:
        raise UsageError(f"{option}: found {text!r}, allowed: 0 to 1 s")
    return found


def _link(link: Link, load: tuple[float, float | None, int, int, int], latency: str, banks: int, bank_time: str) -> Any:
    from archsim.errors import UsageError
    from archsim.network.cxl import LinkMemory, overload, random_requests, simulate_link

    if not 0 <= banks <= 1 << 20:
        raise UsageError(f"--banks: found {banks}, allowed: 0 to {1 << 20}")
    reads, rate, count, seed, sources = load
    memory = LinkMemory(_seconds(latency, "--memory-latency"), banks, _seconds(bank_time, "--bank-time"))
    offered = rate if rate is not None else overload(link, reads)
    line = link.flit.line if link.flit else 64.0
    requests = random_requests(count, reads, offered, line, banks, seed, sources)
    return simulate_link(link, requests, memory, offered_bytes_per_s=offered)


def _expander(expander: Expander, load: tuple[float, float | None, int, int, int], accelerator: str | None) -> Any:
    from archsim.execution.expander import Load, simulate_expander
    from archsim.network.cxl import overload

    reads, rate, count, seed, sources = load
    offered = rate if rate is not None else overload(expander.link, reads)
    other = None if accelerator is None else _rate(accelerator, "--accelerator") or float("inf")
    return simulate_expander(expander, Load(reads, offered, count, seed, other, sources))
