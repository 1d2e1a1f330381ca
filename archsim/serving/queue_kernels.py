"""Queues of requests: linked lists through `next`, whose head and tail stand in the record of who they wait for."""

from __future__ import annotations

from archsim.serving.state_kernels import NONE, Int, State, hot, kernel


@hot
def link_last(s: State, head: Int, tail: Int, i: Int) -> Int:
    """Put request i behind `tail`; the head of the queue then. The caller notes i as the tail."""
    s.requests[i]["next"] = NONE
    if head == NONE:
        return i
    s.requests[tail]["next"] = i
    return head


@kernel
def push_back(s: State, k: Int, i: Int) -> None:
    """Request i joins the end of the waiting queue of instance k."""
    inst = s.instances[k]
    inst["head"] = link_last(s, inst["head"], inst["tail"], i)
    inst["tail"] = i
    inst["waiting"] += 1


@kernel
def push_front(s: State, k: Int, i: Int) -> None:
    """Request i becomes the head of the waiting queue of instance k."""
    inst = s.instances[k]
    s.requests[i]["next"] = inst["head"]
    if inst["head"] == NONE:
        inst["tail"] = i
    inst["head"] = i
    inst["waiting"] += 1


@hot
def pop_front(s: State, k: Int) -> Int:
    """Take the head off the waiting queue, which is not empty."""
    inst = s.instances[k]
    i = inst["head"]
    inst["head"] = s.requests[i]["next"]
    if inst["head"] == NONE:
        inst["tail"] = NONE
    inst["waiting"] -= 1
    return i
