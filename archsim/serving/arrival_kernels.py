"""Where a request goes, and whether it can be served there at all."""

from __future__ import annotations

from archsim.serving.oracle_kernels import OracleArrays
from archsim.serving.policies.fair_kernels import fair_arrival
from archsim.serving.queue_kernels import link_last, push_back
from archsim.serving.state_kernels import (
    DISTSERVE,
    FAIR,
    NONE,
    OPEN,
    ORCA,
    STATIC,
    Int,
    State,
    blocks_for,
    kernel,
)
from archsim.serving.timing_kernels import settle

RANDOM, ROUND_ROBIN, LEAST_OUTSTANDING, JSQ_TOKENS = 0, 1, 2, 3


@kernel
def route(s: State, i: Int) -> Int:
    """The instance for request i; of equals the first. NONE if no instance is open."""
    opt, c = s.options[0], s.clock[0]
    count = opt["prefill_instances"] if opt["policy"] == DISTSERVE else s.instances.size
    if count == 1 or opt["router"] == RANDOM:
        return first_open(s, s.routes[i], count)
    if opt["router"] == ROUND_ROBIN:
        k = first_open(s, c["turn"] % count, count)
        if k != NONE:
            c["turn"] = k + 1
        return k
    best = NONE
    for k in range(count):
        if s.instances[k]["closed"] != OPEN:
            continue
        if opt["router"] == LEAST_OUTSTANDING:
            if best == NONE or s.instances[k]["requests"] < s.instances[best]["requests"]:
                best = k
        elif best == NONE or s.instances[k]["pending_tokens"] < s.instances[best]["pending_tokens"]:
            best = k
    return best


@kernel
def first_open(s: State, start: Int, count: Int) -> Int:
    """The first of `count` instances that is open, from `start` on and around."""
    for step in range(count):
        k = (start + step) % count
        if s.instances[k]["closed"] == OPEN:
            return k
    return NONE


@kernel
def wait_outside(s: State, i: Int) -> None:
    """Request i joins the lobby."""
    c = s.clock[0]
    c["lobby_head"] = link_last(s, c["lobby_head"], c["lobby_tail"], i)
    c["lobby_tail"] = i
    c["lobby"] += 1


@kernel
def arrive(s: State, o: OracleArrays, i: Int, now: Int) -> None:
    """Request i arrives, or starts again: rejected if it could never be served, else routed and queued."""
    r = s.requests[i]
    k = route(s, i)
    if k == NONE:
        wait_outside(s, i)
        return
    if not fits(s, k, i):
        r["rejected"] = 1
        s.clock[0]["rejected"] += 1
        return
    inst = s.instances[k]
    settle(s, o, k, now)
    r["instance"] = k
    inst["requests"] += 1
    inst["pending_tokens"] += r["target"]
    inst["dirty"] = 1
    if s.options[0]["policy"] == FAIR and s.options[0]["output_weight"] >= 0:
        fair_arrival(s, k, i)
    else:
        push_back(s, k, i)


@kernel
def adapter_blocks(s: State, k: Int, i: Int) -> Int:
    """Blocks of the adapter of request i on instance k; 0 if it has none."""
    a = s.requests[i]["adapter"]
    return 0 if a == NONE else s.adapters[s.instances[k]["machine"], a]["blocks"]


@kernel
def claim_blocks(s: State, k: Int, i: Int) -> Int:
    """Blocks an empty instance must have for request i."""
    opt, inst, r = s.options[0], s.instances[k], s.requests[i]
    policy = opt["policy"]
    extra = adapter_blocks(s, k, i)
    if policy == ORCA or policy == STATIC:
        return opt["reservation"] + extra
    needed = blocks_for(r["prompt"] + r["output"] - 1, opt["block"]) + extra
    if policy == FAIR:
        peak = r["prompt"] + 1 + max(0, r["output"] - opt["peak_offset"])
        return max(needed, peak + 1 + extra)
    return needed + max(inst["watermark"], opt["reserve"])


@kernel
def fits(s: State, k: Int, i: Int) -> Int:
    """Whether request i could be served on otherwise empty instances."""
    opt, r = s.options[0], s.requests[i]
    policy = opt["policy"]
    if (policy == ORCA or policy == STATIC) and r["prompt"] + r["output"] > opt["max_length"]:
        return False
    if policy == FAIR and r["prompt"] > opt["max_tokens"]:
        return False
    if policy == DISTSERVE:
        if blocks_for(r["target"], opt["block"]) + adapter_blocks(s, k, i) > s.instances[k]["total"]:
            return False
        k = s.instances.size - 1
    return claim_blocks(s, k, i) <= s.instances[k]["total"]
