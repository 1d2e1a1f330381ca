"""`archsim memory pim`: one program on one PIM device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import Output, output_options, override_option

if TYPE_CHECKING:
    from rich.console import Console

    from archsim.config.schemas.pim import Pim
    from archsim.memory.pim.device import PimDevice
    from archsim.memory.pim.program import Program
    from archsim.memory.pim.result import PimResult

SCHEMA = "archsim.pim/1"
Size = dict[str, int | str | None]


@click.command()
@click.argument("device")
@click.option("--program", type=click.Choice(("attention", "gemv", "stream")), default="attention", show_default=True)
@click.option("--kv-len", type=int, help="attention: tokens in the KV cache")
@click.option("--heads", type=int, help="attention: KV heads x requests on the whole device")
@click.option("--head-dim", type=int, default=128, show_default=True, help="attention: elements of a head")
@click.option("--queries-per-kv", type=int, default=1, show_default=True, help="attention: query heads per KV head")
@click.option("--rows", type=int, help="gemv: rows of the matrix")
@click.option("--columns", type=int, help="gemv: columns of the matrix; stream: MACs per channel")
@click.option("--command", help="stream: the MAC command, e.g. MACAB")
@click.option("--element-bytes", type=int, default=2, show_default=True, help="bytes of an element")
@override_option
@output_options()
def pim(device: str, program: str, overrides: tuple[str, ...], output: Output, **size: int | str | None) -> None:
    """Cycles, time split, bandwidth and energy of a program in the memory DEVICE (a preset of kind pim or a path)."""
    from archsim.config import load

    config: Pim = load("pim", device, overrides)
    compiled, result, build = run(config, program, size)
    given = {name: value for name, value in size.items() if value is not None}
    document = {
        "schema": SCHEMA,
        "device": config.name,
        "program": program,
        "size": given,
        **asdict(result),
        "total_energy_j": result.total_energy_j,
        "bound": result.bound,
    }
    output.emit(
        document,
        lambda console: show(console, config.name, program, result),
        write_hdf5=lambda path: write_hdf5(path, config, compiled, build(), document),
        write_perfetto=lambda path: write_perfetto(path, compiled, build(), program),
    )


def run(config: Pim, program: str, size: Size) -> tuple[PimDevice, PimResult, Callable[[], Program]]:
    """The compiled device, the result, and a function that builds one stack's program again (for its commands)."""
    from archsim.memory.pim.device import compile_pim

    compiled = compile_pim(config)
    element_bytes = number(size, "element_bytes")
    if program == "attention":
        from archsim.memory.pim.attacc import simulate_device_attention
        from archsim.memory.pim.attacc_program import attention_program

        kv_len, heads, dim, queries = (number(size, n) for n in ("kv_len", "heads", "head_dim", "queries_per_kv"))
        result = simulate_device_attention(compiled, kv_len, heads, dim, element_bytes, queries)
        share = -(-heads // config.stacks)
        return compiled, result, lambda: attention_program(compiled, kv_len, share, dim, element_bytes, queries)
    columns = number(size, "columns")
    if program == "gemv":
        from archsim.memory.pim.gemv import gemv_program, simulate_gemv

        rows = number(size, "rows")
        result = simulate_gemv(compiled, rows, columns, element_bytes)
        return compiled, result, lambda: gemv_program(compiled, rows, columns, element_bytes)
    from archsim.memory.pim.stream import stream_program, stream_time

    mac = str(size["command"] or config.program.mac)
    result = stream_time(compiled, mac, columns, element_bytes)
    return compiled, result, lambda: stream_program(compiled, mac, columns)


def number(size: Size, name: str) -> int:
    """A size that the chosen program needs."""
    value = size[name]
    if not isinstance(value, int):
        raise click.UsageError(f"this program needs --{name.replace('_', '-')}")
    return value


def show(console: Console, device: str, program: str, result: PimResult) -> None:
    """The result as a table."""
    from rich.table import Table

    from archsim.report.terminal import seconds, shares
    from archsim.units import format_si

    table = Table(title=f"{program} on {device}", show_header=False)
    table.add_row("time", f"{seconds(result.seconds)} ({result.cycles} clocks), bound by {result.bound}")
    table.add_row("", shares(result.time_split_s))
    bandwidth = format_si(result.internal_bandwidth_bytes_per_s, "B/s")
    table.add_row(
        "internal bandwidth", f"{bandwidth}, {result.internal_bandwidth_share:.1%} of what the banks can deliver"
    )
    table.add_row("MAC utilisation", f"{result.mac_utilisation:.1%}")
    table.add_row("energy", format_si(result.total_energy_j, "J"))
    table.add_row("", shares(result.energy_j))
    table.add_row("commands", ", ".join(f"{name} {count}" for name, count in result.counts.items()))
    console.print(table)


def write_hdf5(path: Path, config: Pim, device: PimDevice, program: Program, document: dict[str, Any]) -> None:
    """/summary and /commands/<channel>, one group for each class of channels that do the same."""
    from archsim.memory.pim.commands import command_log
    from archsim.report.hdf5 import Column, new_file, write_columns, write_summary

    logs = command_log(device, program)
    with new_file(path, SCHEMA, config.model_dump(mode="json")) as file:
        write_summary(file.create_group("summary"), document)
        for log in logs:
            group = file.create_group(f"commands/{log.channels[0]}")
            group.attrs["channels"] = f"{log.channels[0]} to {log.channels[1] - 1} of one stack do the same"
            columns: dict[str, Column] = {
                "tick": (log.tick, "1", "clock of issue"),
                "time_s": (log.time_s, "s", "time of issue"),
                "name": (log.command, "", "command"),
                "bank": (log.bank, "1", "flat bank number in the channel"),
                "row": (log.row, "1", "row that the request wants, -1: none"),
            }
            write_columns(group, columns, "command")


def write_perfetto(path: Path, device: PimDevice, program: Program, name: str) -> None:
    """One track for each bus of each class of channels."""
    import numpy as np

    from archsim.memory.pim.commands import command_log
    from archsim.report.perfetto import write_perfetto as write
    from archsim.results import Timeline

    logs = command_log(device, program)
    tracks = [f"channels {log.channels[0]}-{log.channels[1] - 1} {bus}" for log in logs for bus in log.bus]
    start_s = np.concatenate([log.time_s for log in logs])
    timeline = Timeline(
        name=tuple(command for log in logs for command in log.command),
        resource=tuple(tracks),
        phase=(name,) * len(tracks),
        layer=np.full(len(tracks), -1),
        start_s=start_s,
        end_s=start_s + np.concatenate([log.duration_s for log in logs]),
    )
    write(path, timeline)
