"""Options that say how instances go and come, and where they load from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from archsim.config.schemas.model import Model
    from archsim.config.schemas.system import System
    from archsim.serving import LatencyOracle
    from archsim.serving.nodes import Loading, NodeEvent

F = TypeVar("F", bound=Callable[..., Any])


def _rate(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from archsim.units import parse_quantity

    if value is None:
        return None
    try:
        rate = parse_quantity(value, "byte/s")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not 0 < rate < 1e18:
        raise click.BadParameter(f"found {value[:40]!r}, expected bytes per second above 0, e.g. '7 GB/s'")
    return rate


def deployment_options(function: F) -> F:
    """Adds --instances, --stages, --router and --decode-system."""
    decodes = "Machine of the decode instances of a disaggregated policy."
    function = click.option("--decode-system", metavar="SYSTEM", help=decodes)(function)
    rules = "random, round-robin, least-outstanding or jsq-tokens."
    function = click.option("--router", default="round-robin", show_default=True, metavar="NAME", help=rules)(function)
    function = click.option("--stages", type=click.IntRange(1, 64), default=1, show_default=True,
                            help="Pipeline stages of each.")(function)  # fmt: skip
    return click.option("--instances", type=click.IntRange(1, 4096), default=1, show_default=True,
                        help="Copies of SYSTEM.")(function)  # fmt: skip


def fleet_options(function: F) -> F:
    """Adds --events, --max-adapters, --adapter-prefetch, --host-link and --storage-bandwidth."""
    storage = "Of an instance, where weights load from; none: the host's memory."
    function = click.option("--storage-bandwidth", callback=_rate, metavar="RATE", help=storage)(function)
    link = "Of each device to its host, for loading; default: what SYSTEM connects to a cpu."
    function = click.option("--host-link", metavar="LINK", help=link)(function)
    ahead = "First waiting requests whose adapters load while the machine computes."
    function = click.option("--adapter-prefetch", type=click.IntRange(0, 100_000), default=0, show_default=True,
                            help=ahead)(function)  # fmt: skip
    most = "Most adapters an instance holds; default: as many as have room."
    function = click.option("--max-adapters", type=click.IntRange(1, 1_000_000), metavar="N", help=most)(function)
    events = "Preset (`archsim list events`) or YAML file: instances that fail, leave and join."
    return click.option("--events", metavar="EVENTS", help=events)(function)


def make_loading(
    machine: System | LatencyOracle, link: str | None, storage_bytes_per_s: float | None
) -> Loading | None:
    """Where an instance loads from; None if nothing says so. An oracle is one device."""
    from archsim.config.loader import load
    from archsim.config.schemas.system import System
    from archsim.serving.nodes import Loading, host_link

    system = machine if isinstance(machine, System) else None
    found = load("link", link) if link is not None else None if system is None else host_link(system)
    devices = 1 if system is None else system.units[system.mapping.main].count
    return None if found is None else Loading(found, devices, storage_bytes_per_s)


def load_events(name: str, instances: int, model: Model, loading: Loading | None) -> tuple[NodeEvent, ...]:
    """The events of a preset or file, checked against the instances there are."""
    from archsim.config.loader import load
    from archsim.serving.nodes import node_events

    return node_events(load("events", name), instances, model, loading)
