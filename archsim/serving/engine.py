"""Runs the compiled event loop: builds its arrays, answers what it asks, and leaves with what there is on Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.serving import engine_kernels as kernels
from archsim.serving.compile_oracle import clear_counts, compile_oracles
from archsim.serving.nodes import NodeEvent, absent_at_first, event_rows
from archsim.serving.oracle import LatencyOracle
from archsim.serving.oracle_kernels import OracleArrays
from archsim.serving.routers import ROUTERS, random_choices
from archsim.serving.runlog import NS_PER_S, RunLog
from archsim.serving.state_kernels import (
    ADAPTER,
    BATCH_LOG,
    CLOCK,
    DOWN,
    GAP_BINS,
    INSTANCE,
    NEVER,
    NONE,
    OPTIONS,
    REQUEST,
    RESIDENT,
    SLOT,
    TENANT,
    State,
)
from archsim.serving.timing_kernels import MAX_ITERATION_S, launch, to_ns
from archsim.serving.unit_use import tabulated_unit_seconds
from archsim.workload.traces import Trace

EVENTS_AT_ONCE = 100_000
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Instance:
    """One instance: which of the oracles is its machine, the blocks of its KV cache, pipeline stages, role."""

    machine: int
    blocks: int
    stages: int = 1
    role: int = 0
    max_batch: int = 128
    watermark: int = 0


@dataclass(frozen=True)
class Fleet:
    """The instances, their machines and how requests are spread over them."""

    oracles: tuple[LatencyOracle, ...]
    instances: tuple[Instance, ...]
    router: str = "round-robin"
    seed: int = 0
    events: tuple[NodeEvent, ...] = ()
    adapters: NDArray[np.void] | None = None  # (machines, adapters) ADAPTER; None: requests run the model itself
    since_s: float | None = None  # when the instances are there; None: the first arrival of the trace


def simulate(
    fleet: Fleet,
    trace: Trace,
    settings: dict[str, float],
    *,
    weights: Sequence[float] = (),
    timeline: bool = False,
    units: bool = False,
    progress: Progress | None = None,
) -> RunLog:
    """Simulate `trace` until every request is served or rejected, or Ctrl-C.

    settings  fields of OPTIONS, by name
    weights   share of each tenant of the trace; missing ones count 1
    timeline  keep a record of every batch
    units     add up how long the units of described machines work
    """
    state = _state(fleet, trace, settings, weights, timeline)
    longest = int((trace.prompt_tokens + trace.output_tokens).max())
    most = min(len(trace), max(i.max_batch for i in fleet.instances))  # requests in a batch
    oracle = compile_oracles(fleet.oracles, most, longest, count_units=units)
    interrupted = _drive(state, oracle, fleet, len(trace), progress)
    while timeline and state.clock[0]["logged"] > state.log.size:  # more batches than expected: once more
        state = _state(fleet, trace, settings, weights, timeline, int(state.clock[0]["logged"]))
        clear_counts(oracle)
        interrupted = _drive(state, oracle, fleet, len(trace), progress)
    left = state.instances["waiting"].sum() + state.instances["allocated"].sum()
    if left and not interrupted and not fleet.events:
        raise AssertionError(f"the simulation stalled with {left} requests left")
    batches = state.log[: int(state.clock[0]["logged"])] if timeline else None
    log = RunLog.from_state(trace, state, batches, interrupted)
    return replace(log, unit_s=tabulated_unit_seconds(oracle, fleet.oracles)) if units else log


def _drive(state: State, oracle: OracleArrays, fleet: Fleet, count: int, progress: Progress | None) -> bool:
    """Advance to the end; whether Ctrl-C came before."""
    clock = state.clock[0]
    try:
        while True:
            code = kernels.advance(state, oracle, EVENTS_AT_ONCE)
            if code == kernels.BAD_TIME:
                limit = f"above 0, up to {MAX_ITERATION_S:g}"
                raise UsageError(f"the oracle gave an iteration of {float(clock['bad_s'])!r} s, allowed: {limit}")
            if code == kernels.ASKING:
                _answer(state, oracle, fleet)
            if progress is not None:
                progress(float(clock["finished"] + clock["rejected"]) / count)
            if code == kernels.DONE:
                return False
    except KeyboardInterrupt:
        return True


def _answer(state: State, oracle: OracleArrays, fleet: Fleet) -> None:
    """Ask the Python oracle of every slot that waits for a duration."""
    requests = state.requests
    for slot in np.flatnonzero(state.slots["asked"]).tolist():
        rec = state.slots[slot]
        instance = int(rec["instance"])
        prompts, contexts = [], []
        for place in range(int(rec["size"])):
            request = requests[state.batch[slot, place]]
            if request["processed"] < request["target"]:
                prompts.append((int(state.new[slot, place]), int(request["processed"])))
            else:
                contexts.append(int(request["processed"]))
        machine = fleet.oracles[fleet.instances[instance].machine]
        seconds = machine.iteration_s(prompts, contexts)
        rec["steps"] = 1
        launch(state, oracle, slot, to_ns(state, float(seconds) + float(rec["adapter_s"])))
        joules = getattr(machine, "iteration_j", None)
        if joules is not None:
            rec["asked_j"] = joules(prompts, contexts)
    state.clock[0]["asked"] = 0


def _state(
    fleet: Fleet, trace: Trace, settings: dict[str, float], weights: Sequence[float], timeline: bool, logged: int = 0
) -> State:
    count, tenants = len(trace), len(trace.tenants)
    instances = _instances(fleet)
    instances["up_since"] = np.rint((trace.arrival_s[0] if fleet.since_s is None else fleet.since_s) * NS_PER_S)
    stages = int(instances["stages"].max())
    slots = np.zeros(len(instances) * stages, dtype=SLOT)
    slots["end"] = NEVER
    slots["instance"] = np.repeat(np.arange(len(instances)), stages)
    cap = int(instances["max_batch"].max()) + 1
    options = np.zeros(1, dtype=OPTIONS)
    for name, value in {"join": 1, "decode_limit": 2**60, "router": ROUTERS.index(fleet.router), **settings}.items():
        if name != "prefix":
            options[name] = value
    share = np.ones(tenants)
    share[: len(weights)] = weights[:tenants]
    queues = np.zeros((len(instances), tenants), dtype=TENANT)
    queues["head"] = queues["tail"] = NONE
    queues["weight"] = share
    adapters = np.zeros((len(fleet.oracles), 0), dtype=ADAPTER) if fleet.adapters is None else fleet.adapters
    clock = np.zeros(1, dtype=CLOCK)
    clock["bad_s"] = np.nan
    clock["lobby_head"] = clock["lobby_tail"] = NONE
    routed = int(options[0]["prefill_instances"]) or len(instances)
    routes = random_choices(fleet.seed, routed, count)
    room = (logged or 4 * count + 1024) if timeline else 0
    requests = _requests(trace, bool(settings.get("prefix", 0)))
    return State(
        requests, instances, slots, np.zeros((len(slots), cap), dtype=np.int32),
        np.zeros((len(slots), cap), dtype=np.int32), np.zeros((len(instances), cap), dtype=np.int32),
        np.zeros((len(instances), 2 * cap), dtype=np.int32), np.zeros(cap + 1, dtype=np.int64),
        np.zeros(cap + 1, dtype=np.int64), queues, options, np.zeros(len(slots), dtype=np.int64), routes,
        np.zeros(GAP_BINS, dtype=np.int64), clock, np.zeros(room, dtype=BATCH_LOG),
        event_rows(fleet.events), adapters, np.zeros((len(instances), adapters.shape[1]), dtype=RESIDENT),
    )  # fmt: skip


def _requests(trace: Trace, prefix_caching: bool) -> NDArray[np.void]:
    requests = np.zeros(len(trace), dtype=REQUEST)
    requests["arrival"] = np.rint(trace.arrival_s * NS_PER_S)
    requests["prompt"] = requests["target"] = trace.prompt_tokens
    requests["output"] = trace.output_tokens
    requests["tenant"] = trace.tenant
    requests["adapter"] = NONE if trace.adapter is None else trace.adapter
    if prefix_caching and trace.cached_tokens is not None:
        requests["cached"] = trace.cached_tokens
    for name in ("first_scheduled", "first_token", "last_token", "completed", "next", "instance"):
        requests[name] = NONE
    return requests


def _instances(fleet: Fleet) -> NDArray[np.void]:
    instances = np.zeros(len(fleet.instances), dtype=INSTANCE)
    for row, instance in zip(instances, fleet.instances, strict=True):
        row["total"] = row["free"] = instance.blocks
        row["machine"], row["role"], row["stages"] = instance.machine, instance.role, instance.stages
        row["max_batch"], row["watermark"] = instance.max_batch, instance.watermark
        row["micro_batch"] = max(1, instance.max_batch // instance.stages)
    for name in ("head", "tail", "swap_head", "swap_tail", "bridge_head", "bridge_tail", "pull"):
        instances[name] = NONE
    for k in absent_at_first(fleet.events):
        instances[k]["closed"] = DOWN
    return instances
