"""From descriptions of instances that go and come to what the event loops want, and the time an instance loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.network.collectives import transfer_seconds
from archsim.serving.state_kernels import NODE_EVENT

if TYPE_CHECKING:
    from archsim.config.schemas.events import NodeEvents
    from archsim.config.schemas.link import Link
    from archsim.config.schemas.model import Model
    from archsim.config.schemas.system import System

KINDS = ("drain", "leave", "remove", "add")  # in the order of `node_kernels`


@dataclass(frozen=True)
class NodeEvent:
    """What happens to an instance: no new requests (`drain`), gone once drained (`leave`), gone, or back.

    since_s  of one that is added: when it started to load, from when on it is paid for; None: `time_s`
    """

    time_s: float
    instance: int
    event: Literal["drain", "leave", "remove", "add"]
    since_s: float | None = None


@dataclass(frozen=True)
class Loading:
    """Where weights and adapters come from. link: of each device to its host; storage_bytes_per_s: of an instance."""

    link: Link
    devices: int = 1
    storage_bytes_per_s: float | None = None

    def link_seconds(self, bytes_: float) -> float:
        """Time to move `bytes_` between the host and the devices of an instance, each with its part."""
        return transfer_seconds(self.link, bytes_ / self.devices)

    def seconds(self, bytes_: float) -> float:
        """Time to load `bytes_`, spread over the devices of an instance; the slower of link and storage counts."""
        return max(self.link_seconds(bytes_), bytes_ / self.storage_bytes_per_s if self.storage_bytes_per_s else 0.0)


def host_link(system: System) -> Link | None:
    """The connection of the main unit to a host processor; None if the description has none."""
    main = system.mapping.main
    for connection in system.connections.values():
        ends = set(connection.between)
        if main in ends and any(system.units[name].type == "cpu" for name in ends):
            return connection.link
    return None


def node_events(
    description: NodeEvents, instances: int, model: Model | None, loading: Loading | None
) -> tuple[NodeEvent, ...]:
    """Events by time. Raises UsageError for an instance there is not, or an event that cannot happen to it."""
    found: list[NodeEvent] = []
    there = dict.fromkeys(range(instances), True)
    busy_until = dict.fromkeys(range(instances), 0.0)
    pending: dict[int, NodeEvent] = {}
    first = {event.instance: event.event for event in sorted(description.events, key=lambda e: -e.time)}
    there.update({index: False for index, event in first.items() if event == "join"})
    for event in sorted(description.events, key=lambda e: e.time):
        where, k = f"{description.name}: at {event.time:g} s", event.instance
        if k >= instances:
            raise UsageError(f"{where}: instance {k}, there are {instances}: 0 to {instances - 1}")
        if event.event == "join":
            if there[k]:
                raise UsageError(f"{where}: instance {k} joins, but it is there")
            if event.time < busy_until[k]:
                raise UsageError(f"{where}: instance {k} joins, but it is there until {busy_until[k]:g} s")
            span = event.load_time
            if span is None:
                span = description.startup + _weights_s(model, loading, where)
            there[k] = True
            pending[k] = NodeEvent(event.time + span, k, "add", event.time)
            found.append(pending[k])
            continue
        if not there[k] and event.event != "fail":
            raise UsageError(f"{where}: instance {k} gets {event.event!r}, but it is not there")
        loads = pending.pop(k, None)
        if loads is not None and loads.time_s > event.time:  # gone before it was ready
            found.remove(loads)
        there[k] = False
        found += _goes(event.time, k, event.event, event.grace or 0.0)
        busy_until[k] = event.time + (event.grace or 0.0)
    return tuple(sorted(found, key=lambda e: e.time_s))


def _goes(time_s: float, instance: int, event: str, grace_s: float) -> list[NodeEvent]:
    if event == "leave":
        return [NodeEvent(time_s, instance, "leave")]
    if event == "fail":
        return [NodeEvent(time_s, instance, "remove")]
    return [NodeEvent(time_s, instance, "drain"), NodeEvent(time_s + grace_s, instance, "remove")]


def _weights_s(model: Model | None, loading: Loading | None, where: str) -> float:
    if model is None or loading is None:
        missing = "nothing says how fast weights load: give --host-link LINK, or load_time in the event"
        raise UsageError(f"{where}: {missing}")
    return loading.seconds(model.weight_bytes)


def absent_at_first(events: Sequence[NodeEvent]) -> set[int]:
    """Instances whose first event is that they are added."""
    first: dict[int, str] = {}
    for event in events:
        first.setdefault(event.instance, event.event)
    return {instance for instance, event in first.items() if event == "add"}


def event_rows(events: Sequence[NodeEvent]) -> NDArray[np.void]:
    """As the event loop wants them."""
    rows = np.zeros(len(events), dtype=NODE_EVENT)
    for row, event in zip(rows, sorted(events, key=lambda e: e.time_s), strict=True):
        row["time"], row["kind"] = round(event.time_s * 1e9), KINDS.index(event.event)
        row["since"] = row["time"] if event.since_s is None else round(event.since_s * 1e9)
        row["instance"] = event.instance
    return rows
