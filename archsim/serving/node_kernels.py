"""Instances that go and come: who is lost, where requests start again, and who waits while nobody takes them.

An instance that is gone loses its memory and the iteration in flight. Its requests start again, in order of arrival:
what they had generated becomes part of their prompt. While no instance is open, requests wait in a lobby.
"""

from __future__ import annotations

from archsim.serving.arrival_kernels import arrive
from archsim.serving.finish_kernels import finish_batch, pull
from archsim.serving.oracle_kernels import ASK, OracleArrays, iteration_j
from archsim.serving.policies.distserve_kernels import PREFILL, bridge_push, decode_instance, forget_source
from archsim.serving.state_kernels import DISTSERVE, DOWN, DRAINING, LEAVING, NEVER, NONE, OPEN, Int, State, kernel
from archsim.serving.timing_kernels import log_batch, settle, step_ns
from archsim.serving.unit_kernels import count_units

DRAIN, LEAVE, REMOVE, ADD = 0, 1, 2, 3


@kernel
def settle_before_events(s: State, o: OracleArrays, now: Int) -> None:
    """Cut the runs of the instances to which something happens at `now`."""
    place = s.clock[0]["event"]
    while place < s.events.size and s.events[place]["time"] == now:
        settle(s, o, s.events[place]["instance"], now)
        place += 1


@kernel
def handle_events(s: State, o: OracleArrays, now: Int) -> None:
    """What happens to instances at `now`, in the order of the list."""
    c = s.clock[0]
    while c["event"] < s.events.size and s.events[c["event"]]["time"] == now:
        event = s.events[c["event"]]
        c["event"] += 1
        k = event["instance"]
        inst = s.instances[k]
        inst["dirty"] = 1
        if event["kind"] == ADD:
            if inst["closed"] == DOWN:
                inst["up_since"] = event["since"]
            inst["closed"] = OPEN
            _let_in(s, o, k, now)
        elif event["kind"] == REMOVE:
            if inst["closed"] != DOWN:
                _remove(s, o, k, now)
        elif inst["closed"] == OPEN:
            inst["closed"] = LEAVING if event["kind"] == LEAVE else DRAINING


@kernel
def leave_if_drained(s: State, k: Int, now: Int) -> None:
    """An instance that was asked to leave goes with its last request."""
    inst = s.instances[k]
    if inst["closed"] == LEAVING and inst["requests"] == 0 and inst["allocated"] == 0 and inst["in_flight"] == 0:
        inst["closed"] = DOWN
        inst["up_ns"] += now - inst["up_since"]
        _forget_adapters(s, k)


@kernel
def _let_in(s: State, o: OracleArrays, k: Int, now: Int) -> None:
    """Instance k is open: the lobby is routed, and caches without a decode instance find one."""
    c = s.clock[0]
    i = c["lobby_head"]
    c["lobby_head"], c["lobby_tail"], c["lobby"] = NONE, NONE, 0
    while i != NONE:
        following = s.requests[i]["next"]
        arrive(s, o, i, now)
        i = following
    if s.options[0]["policy"] == DISTSERVE and s.instances[k]["role"] != PREFILL:
        for d in range(s.options[0]["prefill_instances"], s.instances.size):
            if s.instances[d]["closed"] == DOWN:
                _hand_on(s, o, d, now)


@kernel
def _remove(s: State, o: OracleArrays, k: Int, now: Int) -> None:
    inst = s.instances[k]
    inst["closed"] = DOWN
    inst["up_ns"] += now - inst["up_since"]
    width = s.slots.size // s.instances.size
    for slot in range(k * width, (k + 1) * width):
        if s.slots[slot]["end"] < NEVER:
            _lose_batch(s, o, slot, now)
    if s.options[0]["policy"] == DISTSERVE:
        if inst["role"] == PREFILL:
            for d in range(s.options[0]["prefill_instances"], s.instances.size):
                forget_source(s, d, k)
        elif inst["pull"] != NONE:  # its cache is still where it was computed
            s.requests[inst["pull"]]["next"] = inst["bridge_head"]
            inst["bridge_head"] = inst["pull"]
            if inst["bridge_tail"] == NONE:
                inst["bridge_tail"] = inst["pull"]
    _forget(s, k)
    for i in range(s.clock[0]["arrived"]):
        r = s.requests[i]
        if r["instance"] == k and r["completed"] == NONE and not r["rejected"]:
            _displace(s, k, i)
            arrive(s, o, i, now)
    if s.options[0]["policy"] == DISTSERVE:
        for d in range(s.options[0]["prefill_instances"], s.instances.size):
            pull(s, o, d, now)
        if inst["role"] != PREFILL:
            _hand_on(s, o, k, now)


@kernel
def _lose_batch(s: State, o: OracleArrays, slot: Int, now: Int) -> None:
    """The iteration in flight makes nothing, those of its run before it count."""
    rec = s.slots[slot]
    inst = s.instances[rec["instance"]]
    done, since, span = rec["steps"] - 1, rec["start"], rec["first"] - rec["start"]
    if done > 0:
        span = step_ns(s, o, slot, done)
        since = rec["end"] - span
    joules = rec["asked_j"]
    if o.kind[inst["machine"]] != ASK:
        contexts = rec["contexts"] + rec["decodes"] * done
        joules = iteration_j(
            o, inst["machine"], rec["prefills"], rec["decodes"], rec["new_tokens"], rec["twice_pairs"], contexts,
            rec["prompt_j"],
        )  # fmt: skip
    joules *= (now - since) / max(span, 1)
    count_units(s, o, slot, rec["contexts"] + rec["decodes"] * done, (now - since) / max(span, 1) / inst["stages"])
    log_batch(s, slot, since, now, 0, 0, joules)
    if done > 0:
        rec["steps"], rec["end"] = done, since
        finish_batch(s, o, slot, since)
    rec["end"], rec["size"], rec["asked"] = NEVER, 0, 0
    inst["busy_ns"] += (now - since) // inst["stages"]
    inst["joules"] += joules


@kernel
def _forget(s: State, k: Int) -> None:
    """Instance k has lost its memory and its queues; only what it did is left, and caches that wait for it."""
    inst = s.instances[k]
    inst["free"], inst["withheld"], inst["held"], inst["allocated"] = inst["total"], 0, 0, 0
    inst["ready"], inst["in_flight"], inst["waiting"], inst["swapped"], inst["extra_ns"] = 0, 0, 0, 0, 0
    inst["head"], inst["tail"], inst["swap_head"], inst["swap_tail"], inst["pull"] = NONE, NONE, NONE, NONE, NONE
    inst["requests"], inst["pending_tokens"], inst["since_admission"], inst["promised"] = 0, 0, 0, 0
    _forget_adapters(s, k)
    width = s.slots.size // s.instances.size
    for stage in range(width):
        s.stage_free[k * width + stage] = 0
    for u in range(s.tenants.shape[1]):
        tenant = s.tenants[k, u]
        tenant["head"], tenant["tail"], tenant["waiting"] = NONE, NONE, 0
    waits = inst["bridge_head"]
    while waits != NONE:
        inst["requests"] += 1
        waits = s.requests[waits]["next"]


@kernel
def _forget_adapters(s: State, k: Int) -> None:
    inst = s.instances[k]
    inst["idle"], inst["adapter_blocks"], inst["resident"], inst["in_use"], inst["link_free"] = 0, 0, 0, 0, 0
    for a in range(s.resident.shape[1]):
        s.resident[k, a]["state"], s.resident[k, a]["refs"] = 0, 0


@kernel
def _displace(s: State, k: Int, i: Int) -> None:
    """Request i has lost its cache with instance k."""
    r = s.requests[i]
    s.instances[k]["displaced"] += 1
    if r["processed"] > 0 or r["blocks"] > 0:
        r["restarts"] += 1
    if r["processed"] > r["target"]:
        r["target"] = r["processed"]
    r["processed"], r["blocks"], r["instance"], r["next"] = 0, 0, NONE, NONE


@kernel
def _hand_on(s: State, o: OracleArrays, k: Int, now: Int) -> None:
    """The caches that wait for decode instance k, which is gone, wait for others, if there are any."""
    inst = s.instances[k]
    i = inst["bridge_head"]
    inst["bridge_head"], inst["bridge_tail"] = NONE, NONE
    while i != NONE:
        following = s.requests[i]["next"]
        inst["requests"] -= 1
        d = decode_instance(s)
        bridge_push(s, i, d)
        pull(s, o, d, now)
        i = following
