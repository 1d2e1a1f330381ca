"""How long a KV cache takes between two instances or to the host, from the links of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsim.network.collectives import transfer_seconds

if TYPE_CHECKING:
    from archsim.config.schemas.model import Model
    from archsim.config.schemas.system import System
    from archsim.serving.nodes import Loading
    from archsim.serving.oracle import LatencyOracle
    from archsim.serving.policy import PolicyOptions

PROBE_TOKENS = 1024


def with_move_times(
    options: PolicyOptions, oracle: LatencyOracle, model: Model | None, loading: Loading | None
) -> tuple[PolicyOptions, dict[str, str]]:
    """The options with times that they leave open, and a note (transfer, swap) for each that no link tells.

    transfer_s_per_token  between instances; an oracle of one's own knows no links
    swap_s_per_token      to or from the host, over `loading`
    """
    system: Any = getattr(oracle, "system", None)
    found: dict[str, float] = {}
    notes: dict[str, str] = {}
    if getattr(options, "transfer_s_per_token", 0.0) is None:
        found["transfer_s_per_token"] = 0.0
        if system is not None and model is not None:
            found["transfer_s_per_token"] = cache_seconds_per_token(system, model)
        else:
            notes["transfer"] = (
                "caches move in no time: an oracle knows no links (--set policy.transfer_s_per_token=...)"
            )
    if getattr(options, "swap_s_per_token", 0.0) is None and getattr(options, "preemption", "") == "swap":
        found["swap_s_per_token"] = 0.0
        if loading is not None and model is not None:
            found["swap_s_per_token"] = loading.link_seconds(model.kv_bytes(PROBE_TOKENS)) / PROBE_TOKENS
        else:
            notes["swap"] = "swaps take no time: nothing says how fast the host's memory is (--host-link)"
    return options.model_copy(update=found), notes


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
