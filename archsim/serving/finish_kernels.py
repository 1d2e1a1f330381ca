"""What the end of an iteration does: tokens, completed requests, and caches that may move now."""

from __future__ import annotations

import numpy as np

from archsim.serving.gap_kernels import count_gap
from archsim.serving.oracle_kernels import OracleArrays
from archsim.serving.policies.distserve_kernels import (
    DECODE,
    PREFILL,
    decode_instance,
    hand_over,
    start_pull,
    wants_pull,
)
from archsim.serving.state_kernels import (
    FAIR,
    NEVER,
    NONE,
    STATIC,
    Int,
    State,
    add_ready,
    cached_tokens,
    drop_adapter,
    kernel,
    release,
)
from archsim.serving.timing_kernels import account, book, settle


@kernel
def finish_batch(s: State, o: OracleArrays, slot: Int, now: Int) -> None:
    """The tokens of the iterations in `slot` are there."""
    rec = s.slots[slot]
    k = rec["instance"]
    inst = s.instances[k]
    book(s, k, slot)
    account(s, o, k, slot)
    s.clock[0]["end"] = max(s.clock[0]["end"], now)
    steps, gap, weight = rec["steps"], np.int64(-1), 0
    inst["steps"] += steps if rec["prefills"] == 0 else 0
    for place in range(rec["size"]):
        i = s.batch[slot, place]
        r = s.requests[i]
        if r["processed"] < r["target"]:
            inst["pending_tokens"] -= s.new[slot, place]
            r["processed"] += s.new[slot, place]
            if r["processed"] < r["target"]:
                add_ready(s, k, i)
                continue
            r["processed"] += 1
            since = now
        else:
            r["processed"] += steps
            since = rec["first"]
        if r["first_token"] == NONE:
            r["first_token"] = now
        else:
            if since - r["last_token"] != gap:
                if weight > 0:
                    count_gap(s, gap, weight)
                gap, weight = since - r["last_token"], 0
            weight += 1
        r["last_token"] = now
        if r["processed"] == r["prompt"] + r["output"]:
            complete(s, k, i, now)
        elif inst["role"] == PREFILL:
            d = decode_instance(s)
            hand_over(s, k, i, d)
            pull(s, o, d, now)
        else:
            add_ready(s, k, i)
    if weight > 0:
        count_gap(s, gap, weight)
    inst["in_flight"] -= 1
    inst["dirty"] = 1
    rec["end"], rec["size"] = NEVER, 0
    if inst["withheld"] > 0 and inst["ready"] == 0:
        inst["free"] += inst["withheld"]
        inst["withheld"], inst["allocated"] = 0, 0
    if s.options[0]["policy"] == FAIR and rec["prefills"] == 0:
        look_again(s, k, steps)
    if inst["role"] == DECODE:
        pull(s, o, k, now)


@kernel
def look_again(s: State, k: Int, steps: Int) -> None:
    """Count `steps` decode iterations; where each look at the queue restarts the count, also one at an empty queue."""
    inst, opt = s.instances[k], s.options[0]
    since = inst["since_admission"] + steps
    if opt["wait_resets"] and since > opt["wait_steps"]:
        since = (since - 1) % opt["wait_steps"] + 1
    inst["since_admission"] = since


@kernel
def complete(s: State, k: Int, i: Int, now: Int) -> None:
    """Request i has all its tokens."""
    inst, r = s.instances[k], s.requests[i]
    r["completed"] = now
    s.clock[0]["finished"] += 1
    inst["requests"] -= 1
    if s.options[0]["policy"] == STATIC:
        inst["withheld"] += r["blocks"]
        inst["held"] -= cached_tokens(s, i)
        r["blocks"] = 0
        drop_adapter(s, k, i)
    else:
        release(s, k, i)


@kernel
def pull(s: State, o: OracleArrays, d: Int, now: Int) -> None:
    """Start a transfer to decode instance d if one is wanted and there is room."""
    if wants_pull(s, d) and s.requests[s.instances[d]["bridge_head"]]["blocks"] <= s.instances[d]["free"]:
        settle(s, o, d, now)
        start_pull(s, d, now)
