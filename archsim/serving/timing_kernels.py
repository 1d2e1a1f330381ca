"""Iterations in flight: how long they take, where a run of them is cut, and what they add to the totals.

A run of decode iterations whose batch cannot change is one event. Its iterations differ only in the sum of contexts, so
that their durations follow from one number each, and no request is touched before the run ends. Something that happens
meanwhile cuts the run at the end of the iteration it falls into (`settle`): times, blocks and charges are then those of
the run step by step, to the last bit.
"""

from __future__ import annotations

import numpy as np

from archsim.serving.gap_kernels import count_gap
from archsim.serving.oracle_kernels import ASK, OracleArrays, iteration_j, iteration_s
from archsim.serving.policies.fair_kernels import charge_decodes
from archsim.serving.state_kernels import FAIR, NEVER, Int, State, blocks_for, entry, grow, hot, hot_entry, kernel
from archsim.serving.unit_kernels import count_units

MAX_ITERATION_S = 1e6


@hot_entry
def to_ns(s: State, seconds: Int) -> Int:
    """Whole nanoseconds, at least one; a time that cannot be is noted in the clock."""
    if not (seconds > 0.0 and seconds <= MAX_ITERATION_S):
        s.clock[0]["bad_s"] = seconds
        return 1
    return max(1, np.int64(np.rint(seconds * 1e9)))


@hot
def step_ns(s: State, o: OracleArrays, slot: Int, step: Int) -> Int:
    """Duration of decode iteration `step` of the run in `slot`, which is not the first."""
    rec = s.slots[slot]
    if o.kind[s.instances[rec["instance"]]["machine"]] == ASK:
        return rec["step_ns"]
    contexts = rec["contexts"] + rec["decodes"] * step
    m = s.instances[rec["instance"]]["machine"]
    return to_ns(s, iteration_s(o, m, 0, rec["decodes"], 0, 0, contexts, 0.0) + rec["adapter_s"])


@kernel
def walk(s: State, o: OracleArrays, slot: Int, horizon: Int) -> None:
    """Shorten the run in `slot` to its first iteration that ends at or after `horizon`; sets steps and end."""
    rec = s.slots[slot]
    end, step, steps = rec["first"], 1, rec["steps"]
    while step < steps and end < horizon:
        end += step_ns(s, o, slot, step)
        step += 1
    rec["steps"], rec["end"] = step, end


@kernel
def settle(s: State, o: OracleArrays, k: Int, now: Int) -> None:
    """Cut the run of instance k at the iteration that is in flight at `now` and book what it and earlier ones took."""
    if s.instances[k]["stages"] > 1:
        return
    width = s.slots.size // s.instances.size
    slot = k * width
    if s.slots[slot]["end"] < NEVER and s.slots[slot]["steps"] > 1:
        walk(s, o, slot, now)
        book(s, k, slot)


@kernel
def book(s: State, k: Int, slot: Int) -> None:
    """Blocks and charges of the iterations of a run that are not booked yet; those of the first are."""
    rec, size = s.slots[slot], s.options[0]["block"]
    if rec["settled"] >= rec["steps"]:
        return
    for place in range(rec["size"]):
        i = s.batch[slot, place]
        tokens = s.requests[i]["processed"] + rec["steps"] - 1
        if tokens > s.requests[i]["blocks"] * size:
            grow(s, k, i, blocks_for(tokens, size))
    if s.options[0]["policy"] == FAIR and s.options[0]["output_weight"] >= 0:
        charge_decodes(s, k, slot, rec["steps"] - rec["settled"])
    rec["settled"] = rec["steps"]


@entry
def launch(s: State, o: OracleArrays, slot: Int, span: Int) -> None:
    """The first iteration of `slot` takes `span` ns, and swaps on top; with pipeline stages, it runs through them."""
    rec = s.slots[slot]
    k = rec["instance"]
    inst = s.instances[k]
    rec["asked"], rec["step_ns"] = 0, span
    span += inst["extra_ns"]
    inst["extra_ns"] = 0
    now = rec["start"]
    if inst["stages"] == 1:
        rec["first"] = now + span
    else:
        width = s.slots.size // s.instances.size
        for stage in range(inst["stages"]):
            part = max(1, span // inst["stages"])
            now = max(now, s.stage_free[k * width + stage]) + part
            s.stage_free[k * width + stage] = now
        rec["first"] = now
    rec["end"] = rec["first"]
    if rec["steps"] > 1:
        horizon = NEVER
        c = s.clock[0]
        if s.instances.size == 1 and c["arrived"] < s.requests.size:
            horizon = s.requests[c["arrived"]]["arrival"]
        walk(s, o, slot, horizon)


@kernel
def tokens_made(s: State, slot: Int) -> Int:
    """Output tokens of the iterations in `slot`: one a decode and step, one a prompt that is complete with it."""
    rec = s.slots[slot]
    made = rec["decodes"] * rec["steps"]
    if rec["prefills"] > 0:
        for place in range(rec["size"]):
            r = s.requests[s.batch[slot, place]]
            made += r["processed"] < r["target"] and r["processed"] + s.new[slot, place] == r["target"]
    return made


@kernel
def account(s: State, o: OracleArrays, k: Int, slot: Int) -> None:
    """Add the iterations of `slot`, which ended, to the totals of instance k."""
    rec, inst = s.slots[slot], s.instances[k]
    m, steps = inst["machine"], rec["steps"]
    span, joules = rec["first"] - rec["start"], inst["joules"]
    inst["iterations"] += steps
    inst["busy_ns"] += rec["step_ns"] // inst["stages"] if inst["stages"] > 1 else rec["end"] - rec["start"]
    inst["held_token_ns"] += np.float64(rec["held"]) * span
    if o.kind[m] != ASK:
        inst["joules"] += iteration_j(
            o, m, rec["prefills"], rec["decodes"], rec["new_tokens"], rec["twice_pairs"], rec["contexts"],
            rec["prompt_j"],
        )  # fmt: skip
    else:
        inst["joules"] += rec["asked_j"]
    for step in range(1, steps):
        span = step_ns(s, o, slot, step)
        count_gap(s, span, rec["decodes"])
        count_units(s, o, slot, rec["contexts"] + rec["decodes"] * step, 1.0)
        inst["held_token_ns"] += np.float64(rec["held"] + rec["decodes"] * step) * span
        if o.kind[m] != ASK:
            contexts = rec["contexts"] + rec["decodes"] * step
            inst["joules"] += iteration_j(o, m, 0, rec["decodes"], 0, 0, contexts, 0.0)
    inst["held"] += rec["decodes"] * (steps - 1)
    if rec["decodes"] > 0:
        inst["decode_iterations"] += steps
        inst["decode_tokens"] += rec["decodes"] * steps
        inst["decode_contexts"] += rec["contexts"] * steps + rec["decodes"] * (steps * (steps - 1) // 2)
    count_units(s, o, slot, rec["contexts"], 1.0 / inst["stages"])
    made = tokens_made(s, slot) if s.log.size > 0 else 0  # a look at every request of the batch
    log_batch(s, slot, rec["start"], rec["end"], steps, made, inst["joules"] - joules)


@kernel
def log_batch(s: State, slot: Int, start: Int, end: Int, steps: Int, tokens: Int, joules: Int) -> None:
    """A row of the timeline, if one is kept and has room; counted in any case."""
    rec, c = s.slots[slot], s.clock[0]
    if c["logged"] < s.log.size:
        inst, entry = s.instances[rec["instance"]], s.log[c["logged"]]
        entry["start"], entry["end"], entry["instance"], entry["steps"] = start, end, rec["instance"], steps
        entry["prefills"], entry["decodes"] = rec["prefills"], rec["decodes"]
        entry["new_tokens"], entry["waiting"] = rec["new_tokens"] if steps > 0 else 0, rec["waiting"]
        entry["blocks"], entry["first_blocks"] = inst["total"] - inst["free"], rec["blocks"]
        entry["tokens"], entry["joules"] = tokens, joules
    c["logged"] += 1
