"""What it costs to bring a tensor from one layout into another, within a group of equal devices."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

from archsim.mapping.search.transforms import COLUMNS, EXPERTS, PARTIAL, PIECES, TOKENS, WHOLE

PS_PER_S = 1e12
# (gives, needs) -> collectives in order. A device that has everything, or a term of a sum, just looks elsewhere.
_WAYS: dict[tuple[str, str], tuple[str, ...]] = {
    (WHOLE, TOKENS): (),
    (WHOLE, COLUMNS): (),
    (WHOLE, EXPERTS): (),
    (WHOLE, PARTIAL): (),
    (PARTIAL, WHOLE): ("all-reduce",),
    (PARTIAL, TOKENS): ("reduce-scatter",),
    (PARTIAL, COLUMNS): ("reduce-scatter",),
    (PARTIAL, EXPERTS): ("all-reduce",),
    (TOKENS, WHOLE): ("all-gather",),
    (COLUMNS, WHOLE): ("all-gather",),
    (EXPERTS, WHOLE): ("all-gather",),
    (TOKENS, COLUMNS): ("all-to-all",),
    (COLUMNS, TOKENS): ("all-to-all",),
    (TOKENS, EXPERTS): ("all-to-all",),
    (EXPERTS, TOKENS): ("all-to-all",),
    (EXPERTS, COLUMNS): ("all-to-all",),
    (COLUMNS, EXPERTS): ("all-gather",),
}
LAYOUTS = (WHOLE, TOKENS, COLUMNS, PARTIAL)
Collective = Callable[[str, int, float], float]  # name, ranks, bytes -> seconds


def conversions(ways: int, tensor_bytes: float, collective: Collective, *, pieces: bool) -> dict[tuple[str, str], int]:
    """Picoseconds from layout to layout for a tensor of `tensor_bytes` as a whole; a pair that is absent has no way.

    `all-to-all` is asked for with what one rank holds, the others with the whole tensor (see network.collectives).
    """
    layouts = (*LAYOUTS, EXPERTS)
    table = {(layout, layout): 0 for layout in layouts}
    for pair, steps in _WAYS.items():
        cost = _cost(steps, ways, tensor_bytes, collective)
        if cost is not None:
            table[pair] = cost
    if not pieces:
        return table
    for count, (gives, needs) in product(PIECES, list(table)):
        once = _cost(_WAYS.get((gives, needs), ()), ways, tensor_bytes / count, collective)
        if once is None:
            continue
        for mark in (f"/{count}", f"/{count} heads"):
            table[gives + mark, needs + mark] = count * once
    return table


def _cost(steps: tuple[str, ...], ways: int, tensor_bytes: float, collective: Collective) -> int | None:
    if ways == 1:
        return 0
    held = {"all-to-all": tensor_bytes / ways}
    seconds = sum(collective(step, ways, held.get(step, tensor_bytes)) for step in steps)
    return round(seconds * PS_PER_S) if math.isfinite(seconds) else None
