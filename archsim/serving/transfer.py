"""How long a KV cache takes between two instances, from the links of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.network.collectives import transfer_seconds

if TYPE_CHECKING:
    from archsim.config.schemas.model import Model
    from archsim.config.schemas.system import System

PROBE_TOKENS = 1024


def cache_seconds_per_token(system: System, model: Model) -> float:
    """Seconds for the keys and values of one token, averaged over a cache of PROBE_TOKENS.

    Each device of the main unit sends its part over its own link to its partner: the link between devices of the main
    unit, or towards other nodes if there is none. A machine without either moves caches in no time.
    """
    unit = system.units[system.mapping.main]
    links = [c.link for c in system.connections.values() if tuple(c.between) == (system.mapping.main,) * 2]
    if not links:
        return 0.0
    share = model.kv_bytes(PROBE_TOKENS) / unit.count
    return transfer_seconds(links[0], share) / PROBE_TOKENS
