"""What does not fit the main unit's memory and is read from a memory tier behind a link, every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.config.schemas.system import System
from archsim.mapping.plan import Places, Plan, PlannedTask, Transfer

if TYPE_CHECKING:
    from archsim.results import UnitCapacity

FETCH = "fetch_spilled"


@dataclass(frozen=True)
class Spill:
    """Shares of the weights and of the KV cache that lie in the tier."""

    weights: float = 0.0
    kv: float = 0.0


NO_SPILL = Spill()


def move_overflow(system: System, contents: dict[str, dict[str, float]], room_bytes: float) -> None:
    """Move what the main unit's memory (`room_bytes`) cannot hold to the tier: weights first, then KV cache.

    Weights are read once a step whatever the batch, and in an order known beforehand. Activations stay.
    """
    tier = system.mapping.spill
    if tier is None:
        return
    main = contents[system.units[system.mapping.main].memory_in or system.mapping.main]
    over = sum(main.values()) - room_bytes
    for what in ("weights", "kv"):
        moved = min(max(over, 0.0), main.get(what, 0.0))
        if moved > 0:
            main[what] -= moved
            contents[tier][what] = moved
            over -= moved


def spill_of(system: System, units: tuple[UnitCapacity, ...]) -> Spill:
    """The shares that capacity planning put into the tier."""
    tier = system.mapping.spill
    if tier is None:
        return NO_SPILL
    held = next(unit.contents for unit in units if unit.unit == tier)
    total = {what: sum(unit.contents.get(what, 0.0) for unit in units) for what in ("weights", "kv")}
    return Spill(**{what: held.get(what, 0.0) / size if size else 0.0 for what, size in total.items()})


def add_fetch(plan: Plan, spill: Spill, requests: int, context_tokens: int) -> None:
    """Add the reading of spilled data to every layer of a pass, on the link to the tier, beside the layer's work.

    It waits for nothing in its layer, since the next layer's weights are known beforehand; so a layer takes as long as
    the longer of the two. `requests` are those of one model copy, `context_tokens` what they attend to.
    """
    system, model = plan.system, plan.model
    if spill == NO_SPILL:
        return
    places = Places.of(system, plan.phase)
    moved = spill.weights * model.layer_weight_bytes
    if plan.phase == "decode":
        moved += spill.kv * requests * model.kv_bytes(context_tokens) / model.layers
    name, links = _connection(system)
    work = Transfer(name, links, moved * places.groups / links, memory=system.mapping.spill)
    last = max(index for index, task in enumerate(plan.tasks) if task.in_layer)
    plan.tasks.insert(last + 1, PlannedTask(FETCH, f"{name}:fetch", work, plan.layers, ()))


def _connection(system: System) -> tuple[str, int]:
    pair = {system.mapping.main, system.mapping.spill}
    name = next(name for name, connection in system.connections.items() if set(connection.between) == pair)
    return name, system.units[system.mapping.main].count
