"""DistServe's placement search: how many devices, in which parallelism, prefill and how many decode.

For every pair of tensor and pipeline degrees of a prefill and a decode instance that share a node, the highest rate per
device that meets the objective (`capacity`); beside them instances that do both under another policy.
Source: Zhong et al., DistServe (OSDI 2024), section 4, low node-affinity placement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from archsim.config.schemas.model import Model
from archsim.errors import InfeasibleError, UsageError
from archsim.mapping.capacity import device_capacity_bytes
from archsim.serving.capacity import Criterion, capacity
from archsim.serving.framework import default_notes, framework_of, machine_notes, option_defaults, staged
from archsim.serving.policy import POLICIES
from archsim.serving.run import Deployment
from archsim.serving.system_oracle import SystemOracle
from archsim.serving.transfer import cache_seconds_per_token
from archsim.workload.traces import Trace

if TYPE_CHECKING:
    from archsim.config.schemas.system import System

PLACEMENT_SCHEMA = "archsim.placement/1"


@dataclass(frozen=True)
class Degrees:
    """Tensor and pipeline parallelism of an instance."""

    tp: int
    pp: int

    @property
    def devices(self) -> int:
        """Devices of the instance."""
        return self.tp * self.pp


@dataclass(frozen=True)
class Placement:
    """A configuration and its rates; `decode` is None where instances do both.

    rate_per_s             of the whole configuration
    rate_per_device_per_s  over its devices: what the search maximises
    """

    policy: str
    prefill: Degrees
    decode: Degrees | None
    devices: int
    rate_per_s: float
    rate_per_device_per_s: float


@dataclass(frozen=True)
class PlacementReport:
    """All configurations, best first; `gain` is the best disaggregated one over the best that does both."""

    system: str
    model: str
    placements: tuple[Placement, ...]
    gain: float | None
    skipped: int  # configurations whose weights do not fit
    notes: tuple[str, ...] = ()  # what a reader must know about the models of the machine
    schema: str = PLACEMENT_SCHEMA

    @property
    def best(self) -> Placement:
        """The configuration of highest rate per device, of equals the smallest."""
        return self.placements[0]


def place(
    system: System,
    model: Model,
    trace: Trace,
    criterion: Criterion,
    *,
    colocated: str = "vllm",
    most_tp: int | None = None,
    most_pp: int = 4,
    seeds: tuple[int, ...] = (0,),
    requests: int = 300,
    resolution: float = 0.05,
    progress: Callable[[float], None] | None = None,
) -> PlacementReport:
    """Search the placements on one node, `system`, whose main unit's devices are shared out.

    colocated  policy of instances that prefill and decode
    most_tp, most_pp  largest degrees tried; tensor degrees divide the heads, pipeline degrees the layers

    Raises InfeasibleError if the model fits in no configuration, ConfigError for a machine with attention elsewhere.
    """
    rules = system.mapping
    if rules.decode_attention not in (None, rules.main):
        raise UsageError(f"{system.name} decodes on {rules.decode_attention!r} already; placement splits equal devices")
    node = system.units[rules.main].count
    degrees = [
        Degrees(tp, pp)
        for tp in range(1, min(node, most_tp or node) + 1) if model.heads % tp == 0 and node % tp == 0
        for pp in range(1, min(node // tp, most_pp) + 1) if model.layers % pp == 0
    ]  # fmt: skip
    pairs: list[tuple[Degrees, Degrees | None]] = [(one, None) for one in degrees]
    pairs += [(one, two) for one in degrees for two in degrees if one.devices + two.devices <= node]
    machines = cache(lambda one: instance_oracle(system, model, one))
    found: list[Placement] = []
    for number, (prefill, decode) in enumerate(pairs):
        try:
            oracles = machines(prefill), machines(decode) if decode is not None else None
        except InfeasibleError:
            continue
        found.append(_rate(oracles, prefill, decode, model, trace, criterion, colocated, seeds, requests, resolution))
        if progress is not None:
            progress((number + 1) / len(pairs))
    if not found:
        raise InfeasibleError(f"{model.name} fits no group of up to {node} devices of {system.name}")
    found.sort(key=lambda one: (-one.rate_per_device_per_s, one.devices, one.policy))
    apart = [one.rate_per_device_per_s for one in found if one.decode is not None]
    both = [one.rate_per_device_per_s for one in found if one.decode is None]
    gain = max(apart) / max(both) if apart and both and max(both) > 0 else None
    notes = _notes(system, {one.policy for one in found})
    return PlacementReport(system.name, model.name, tuple(found), gain, len(pairs) - len(found), notes)


def _notes(system: System, policies: set[str]) -> tuple[str, ...]:
    """Of the machine, and which options of the policies its framework decides."""
    framework, notes = framework_of(system), list(machine_notes(system))
    for policy in sorted(policies):
        notes += default_notes(framework, option_defaults(framework, POLICIES.get(policy), {}))
    return tuple(dict.fromkeys(notes))


def instance_oracle(system: System, model: Model, degrees: Degrees) -> SystemOracle:
    """The latency oracle of a group of `tp` devices with the memory of all `pp` stages.

    Each stage holds its part of the layers and has its own reserve of a framework. Raises InfeasibleError if the
    weights leave no room for a KV cache.
    """
    main = system.mapping.main
    unit = system.units[main]
    update: dict[str, Any] = {"count": degrees.tp, "memory_capacity": device_capacity_bytes(unit) * degrees.pp}
    if unit.type == "gpu":
        update["launch"] = staged(unit.launch, degrees.pp)
    smaller = unit.model_copy(update=update)
    mapping = system.mapping.model_copy(update={"data_parallel": 1})
    group = system.model_copy(update={"units": {**system.units, main: smaller}, "mapping": mapping})
    return SystemOracle(group, model)


def _rate(
    oracles: tuple[SystemOracle, SystemOracle | None], prefill: Degrees, decode: Degrees | None, model: Model,
    trace: Trace, criterion: Criterion, colocated: str, seeds: tuple[int, ...], requests: int, resolution: float,
) -> Placement:  # fmt: skip
    policy = colocated if decode is None else "distserve"
    deployment = Deployment(stages=prefill.pp)
    if decode is not None:
        deployment = replace(
            deployment, instances=2, decode_system=oracles[1], decode_stages=decode.pp, router="least-outstanding"
        )
    options: dict[str, Any] = {}
    if decode is not None:
        options["transfer_s_per_token"] = cache_seconds_per_token(oracles[0].system, model)
    try:
        found = capacity(
            oracles[0], model, trace, policy, criterion, deployment=deployment, seeds=seeds, requests=requests,
            resolution=resolution, **options,
        )  # fmt: skip
        rate = found.rate_per_s
    except InfeasibleError:  # not one request fits the cache
        rate = 0.0
    devices = prefill.devices + (decode.devices if decode else 0)
    return Placement(policy, prefill, decode, devices, rate, rate / devices)
