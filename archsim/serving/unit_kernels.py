"""How often each point of the oracles' tables counted: from it follows how long each unit of a machine worked.

An iteration time is a sum of interpolated table values, so that the time a unit works in all iterations is the sum over
the points of the tables of their weights in these interpolations times what the unit works there (`unit_use`).
"""

from __future__ import annotations

from numpy.typing import NDArray

from archsim.serving.oracle_kernels import DECODES, MIXED, PROMPTS, TABLES, OracleArrays, line, segment
from archsim.serving.state_kernels import Int, State, hot, kernel


@hot
def spread(
    weights: NDArray[Int], xs: NDArray[Int], ys: NDArray[Int], nx: Int, ny: Int, x: Int, y: Int, amount: Int
) -> None:
    """Add `amount` to the points between which `plane` interpolates."""
    i, share = segment(xs, nx, x)
    j, part = segment(ys, ny, y)
    weights[i, j] += amount * (1.0 - share) * (1.0 - part)
    if part != 0.0:
        weights[i, j + 1] += amount * (1.0 - share) * part
    if share != 0.0:
        weights[i + 1, j] += amount * share * (1.0 - part)
        if part != 0.0:
            weights[i + 1, j + 1] += amount * share * part


@kernel
def spread_line(weights: NDArray[Int], grid: NDArray[Int], size: Int, x: Int, amount: Int) -> None:
    """Add `amount` to the points between which `line` interpolates."""
    i, share = segment(grid, size, x)
    weights[i] += amount * (1.0 - share)
    if share != 0.0:
        weights[i + 1] += amount * share


@hot
def count_units(s: State, o: OracleArrays, slot: Int, contexts: Int, amount: Int) -> None:
    """Add an iteration of `slot`, whose decodes attend to `contexts` tokens, `amount` times; if units are counted."""
    rec = s.slots[slot]
    m = s.instances[rec["instance"]]["machine"]
    if o.step_w.shape[0] > 0 and o.kind[m] == TABLES:
        if rec["prefills"] > 0:
            _count_prompts(s, o, m, slot, contexts, amount)
        if rec["decodes"] > 0:
            phase = MIXED if rec["prefills"] > 0 else DECODES
            context = contexts / rec["decodes"]
            nx, ny = o.sizes[m, 0], o.sizes[m, 1]
            spread(o.step_w[m, phase], o.batch[m], o.context[m], nx, ny, rec["decodes"], context, amount)
            o.adapter_w[m, phase] += amount * rec["adapter_s"]
        else:
            o.adapter_w[m, PROMPTS] += amount * rec["adapter_s"]


@kernel
def _count_prompts(s: State, o: OracleArrays, m: Int, slot: Int, contexts: Int, amount: Int) -> None:
    rec = s.slots[slot]
    decodes, new, size = rec["decodes"], rec["new_tokens"], o.sizes[m, 2]
    phase = MIXED if decodes > 0 else PROMPTS
    shared = line(o.dense[m], o.dense_s[m], size, decodes) if decodes > 0 else 0.0
    if line(o.dense[m], o.dense_s[m], size, new + decodes) > shared:
        spread_line(o.dense_w[m, phase], o.dense[m], size, new + decodes, amount)
        if decodes > 0:
            spread_line(o.dense_w[m, phase], o.dense[m], size, decodes, -amount)
    for place in range(rec["size"]):
        r = s.requests[s.batch[slot, place]]
        if r["processed"] < r["target"]:
            spread(
                o.prompt_w[m, phase], o.chunk[m], o.before[m], o.sizes[m, 3], o.sizes[m, 4], s.new[slot, place],
                r["processed"], amount,
            )  # fmt: skip
    if decodes == 0:
        o.host_w[m, phase] += amount
    elif o.sizes[m, 5] > 0:
        t, share = segment(o.shared_new[m], o.sizes[m, 5], new)
        nx, ny, context = o.sizes[m, 6], o.sizes[m, 1], contexts / decodes
        spread(
            o.shared_w[m, t], o.shared_batch[m], o.context[m], nx, ny, decodes, context, amount * (1.0 - share)
        )  # fmt: skip
        if share != 0.0:
            spread(o.shared_w[m, t + 1], o.shared_batch[m], o.context[m], nx, ny, decodes, context, amount * share)
