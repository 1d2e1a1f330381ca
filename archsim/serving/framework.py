"""What the record of a serving framework says of its server: one rule for `clients`, `serve`, `capacity` and `place`.

A machine without the name of a framework keeps the whole memory for weights, activations and the KV cache, has no host
before its queue, and leaves the limits of a batch to the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsim.config.schemas.launch import Launch, Server
from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.mapping.capacity import device_capacity_bytes, kv_room_bytes
from archsim.mapping.plan import Places, timed_by_kernels
from archsim.serving.front_end import delays
from archsim.units import format_si

UNNAMED = "unnamed"


def launch_of(system: System) -> Launch:
    """The framework record of the main unit; an empty one where that is no GPU."""
    unit = system.units[system.mapping.main]
    return unit.launch if unit.type == "gpu" else Launch()


def framework_of(system: System) -> Launch | None:
    """The record that a machine of GPUs timed by kernels names, None where there is none."""
    launch = launch_of(system)
    return launch if launch.name != UNNAMED and timed_by_kernels(system, system.mapping.main) else None


def cache_bytes(system: System, model: Model, tokens: int) -> float:
    """Bytes there are for the keys and values of requests of `tokens` tokens; below 0 where the weights do not fit.

    Under a named framework whose GPUs keep the cache: of the share of their memory that its server takes, what it
    reserves and the weights leave. Else what is left of the memory (`kv_room_bytes`).
    """
    server = _server_of_cache(system)
    if server is None:
        return kv_room_bytes(system, model, tokens)
    places = Places.of(system, "decode")
    copies = max(1.0, places.ways / model.key_value_heads)
    each = device_capacity_bytes(system.units[places.main])
    room = (server.memory_share * each - server.reserved_memory) * places.ways - model.weight_bytes
    return room * places.groups / copies


def _server_of_cache(system: System) -> Server | None:
    """The server whose rule says how large the KV cache is."""
    named, rules = framework_of(system), system.mapping
    apart = rules.decode_attention not in (None, rules.main) or system.units[rules.main].memory_in is not None
    return None if named is None or apart or rules.spill is not None or rules.capacity == "pooled" else named.server


def staged(launch: Launch, stages: int) -> Launch:
    """The record for a device that stands for one of each of `stages` pipeline stages: each has its reserve."""
    memory = launch.server.reserved_memory * stages
    return launch.model_copy(update={"server": launch.server.model_copy(update={"reserved_memory": memory})})


def option_defaults(framework: Launch | None, policy: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `policy` that the framework's server decides, those that are `given` left out."""
    if framework is None:
        return {}
    fields: Mapping[str, Any] = policy.Options.model_fields  # type: ignore[attr-defined]
    server = framework.server
    known = {"max_batch_tokens": server.batched_tokens, "max_batch": server.max_requests}
    return {name: value for name, value in known.items() if value and name in fields and name not in given}


def machine_notes(system: System) -> tuple[str, ...]:
    """What a reader of serving results must know of a machine: uncalibrated devices, and its framework's server."""
    return (*system.notes, *memory_notes(system), *_host_notes(framework_of(system)))


def memory_notes(system: System) -> tuple[str, ...]:
    """What a framework's server does with the memory."""
    server = _server_of_cache(system)
    if server is None:
        return ()
    share, reserve = f"{server.memory_share:g} of the memory of each GPU", format_si(server.reserved_memory, "B")
    return (f"framework {launch_of(system).name}: weights and KV cache in {share}, less {reserve}",)


def _host_notes(framework: Launch | None) -> tuple[str, ...]:
    if framework is None or not delays(framework.server):
        return ()
    server = framework.server
    times = (server.request_admission, server.token_admission, server.request_latency)
    each, token, way = (format_si(s, "s") for s in times)
    text = f"{each} + {token} a prompt token on the host before a request queues, {way} to and from it"
    return (f"framework {framework.name}: {text}",)


def default_notes(framework: Launch | None, taken: Mapping[str, Any]) -> tuple[str, ...]:
    """Which options of the policy are the framework's, one each: policies differ in what they have. And what is not."""
    if framework is None:
        return ()
    notes = [f"framework {framework.name}: {name} {value} by default" for name, value in taken.items()]
    own = [name for name in ("whole_prompts", "reserve_output") if getattr(framework.server, name)]
    if own:
        notes.append(f"framework {framework.name}: {' and '.join(own)} not applied, the policy has rules of its own")
    return tuple(notes)
