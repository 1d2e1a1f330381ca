"""Why a request was rejected, in one line that names where it stands in its trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsim.serving.oracle import LatencyOracle
from archsim.serving.policy import PolicyOptions
from archsim.serving.runlog import RunLog


def first_rejected(
    log: RunLog, options: PolicyOptions, machines: Sequence[tuple[LatencyOracle, str]], policy: str
) -> str:
    """File, line (or request), column, what was found and what is allowed, of the first request that was rejected.

    machines  oracles and names; a request must fit the cache of each
    """
    index = int(np.flatnonzero(log.requests["rejected"])[0])
    prompt, output = int(log.trace.prompt_tokens[index]), int(log.trace.output_tokens[index])
    longest, budget = getattr(options, "max_length", None), getattr(options, "max_batch_tokens", None)
    oracle, name = min(machines, key=lambda one: one[0].max_tokens)
    if longest is not None and prompt + output > longest:
        alone, limit = prompt > longest, f"max_length of {policy} is {longest}"
    elif policy in _WHOLE_PROMPTS and budget is not None and prompt > budget:
        alone, limit = True, f"max_batch_tokens of {policy}, which reads a prompt at once, is {budget}"
    else:
        alone = prompt > oracle.max_tokens
        limit = f"the KV cache of {name} holds {oracle.max_tokens} tokens in blocks of {options.block_tokens}"
        if hasattr(options, "max_length"):
            reserved = longest or int((log.trace.prompt_tokens + log.trace.output_tokens).max())
            limit = f"{policy} reserves {reserved} tokens (max_length) for a request, {limit}"
        elif prompt + output <= oracle.max_tokens:
            limit += ", some of which admission keeps free"
        if log.trace.adapter is not None and log.trace.adapter[index] >= 0:
            limit += ", the adapter of the request among them"
    if alone:
        return f"{log.trace.place(index)}: prompt_tokens: found {prompt}, {limit}"
    return f"{log.trace.place(index)}: output_tokens: found {output} after a prompt of {prompt}, {limit}"


_WHOLE_PROMPTS = ("lightllm", "vtc", "lcf")
