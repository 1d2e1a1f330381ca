"""`serve`: a machine, a model, a trace and a policy in, a report out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from archsim import __version__
from archsim.config.schemas.launch import Launch
from archsim.config.schemas.model import Model
from archsim.errors import InfeasibleError, UsageError, suggest
from archsim.serving import metrics
from archsim.serving.adapters import adapter_rows
from archsim.serving.engine import Fleet, Instance, simulate
from archsim.serving.framework import default_notes, option_defaults
from archsim.serving.front_end import delays, enter
from archsim.serving.hooks import Policy
from archsim.serving.nodes import Loading, NodeEvent
from archsim.serving.oracle import LatencyOracle
from archsim.serving.policy import POLICIES, CompiledPolicy, PolicyOptions
from archsim.serving.price import fleet_usd_per_hour
from archsim.serving.python_engine import PythonEngine, make_instances
from archsim.serving.rejections import first_rejected
from archsim.serving.results import InstanceUse, ServingReport, Slo, TpotTokens
from archsim.serving.routers import ROUTERS
from archsim.serving.runlog import NS_PER_S, RunLog
from archsim.serving.series import time_series
from archsim.serving.transfer import with_move_times
from archsim.serving.unit_use import unit_uses
from archsim.workload.requests import load_requests
from archsim.workload.traces import Trace

if TYPE_CHECKING:
    from archsim.config.schemas.system import System

Progress = Callable[[float], None]
ROLES = ("serve", "prefill", "decode")


@dataclass(frozen=True)
class Deployment:
    """How many instances, in how many pipeline stages each, and who gets which request.

    decode_system  machine of the decode instances of a disaggregated policy; None: the same
    decode_stages  pipeline stages of the decode instances; None: as `stages`
    node_events    instances that go and come, see `nodes`
    loading        where adapters load from; needed if requests have some
    max_adapters   most adapters an instance holds; None: as many as have room
    prefetch       how many of the first waiting requests have their adapters loaded while the machine computes
    """

    instances: int = 1
    stages: int = 1
    router: str = "round-robin"
    seed: int = 0
    decode_system: System | LatencyOracle | None = None
    decode_stages: int | None = None
    node_events: tuple[NodeEvent, ...] = ()
    loading: Loading | None = None
    max_adapters: int | None = None
    prefetch: int = 0


def serve(
    system: System | LatencyOracle,
    model: Model | None,
    trace: Trace | str,
    policy: str = "vllm",
    *,
    deployment: Deployment | None = None,
    slo: Slo | None = None,
    usd_per_hour: float | None = None,
    timeline: bool = False,
    units: bool = False,
    bin_s: float | None = None,
    tpot_over: TpotTokens = "further",
    progress: Progress | None = None,
    **options: Any,
) -> ServingReport:
    """Serve `trace` (or the trace of that name) on `system` under the policy called `policy`.

    system        a machine, whose latency oracle for `model` is made here, or an oracle of one's own
    usd_per_hour  price of all instances; None: the oracle's, else that of the system by its cost model
    timeline      keep every batch, for Perfetto, and the time series
    units         of a described machine, say how busy its units and links are over the run
    bin_s         length of the bins of the time series, which are kept and listed in JSON then; None: an even length
    tpot_over     divide by the `further` tokens of an answer (O - 1) or, as Vidur and DistServe's simulator, by `all`
    options       of the policy, see its `Options` class; e.g. max_batch, block_tokens

    Raises UsageError for an unknown policy or option, InfeasibleError if not one request of the trace fits.
    """
    if isinstance(trace, str):
        trace = load_requests(trace)
    deployment = deployment or Deployment()
    chosen = POLICIES.get(policy)
    oracles, names = _machines(system, model, deployment.decode_system)
    oracle, deployment = oracles[0], replace(deployment, decode_system=oracles[1] if oracles[1:] else None)
    framework: Launch | None = getattr(oracle, "framework", None)
    taken = option_defaults(framework, chosen, options)
    checked = check_options(policy, chosen, {**taken, **options})
    checked, free = with_move_times(checked, oracle, model, deployment.loading)
    keep = timeline or bin_s is not None
    log = run(chosen, checked, oracle, model, trace, deployment, timeline=keep, units=units, progress=progress)
    refused = _refused(log, checked, list(zip(oracles, names, strict=True)), policy)
    price = fleet_usd_per_hour(oracles, log, metrics.duration_s(log)) if usd_per_hour is None else usd_per_hour
    report = summarise(log, (names[0], model.name if model else "", policy), checked, deployment, price, tpot_over)
    notes = [note for one in oracles for note in getattr(one, "notes", ())] + [*default_notes(framework, taken)]
    notes += [note for what, note in free.items() if what != "swap" or report.counts.preemptions]
    report = replace(report, first_rejected=refused, notes=tuple(dict.fromkeys(notes)))
    if slo is not None and report.requests is not None:
        report = replace(report, slo=metrics.slo_result(report.requests, slo, tpot_over))
    report = replace(report, units=unit_uses(log.unit_s, names, log.instances, report.duration_s))
    return replace(report, series=time_series(log, bin_s) if keep else None, series_listed=bin_s is not None)


def _machines(
    system: System | LatencyOracle, model: Model | None, decodes: System | LatencyOracle | None
) -> tuple[list[LatencyOracle], list[str]]:
    """Oracles and names of the machine and, if it is another one, that of the decode instances."""
    made = [make_oracle(one, model) for one in (system, decodes) if one is not None]
    return [oracle for oracle, _ in made], [name for _, name in made]


def summarise(
    log: RunLog, names: tuple[str, str, str], options: PolicyOptions, deployment: Deployment, price: float | None,
    tpot_over: TpotTokens = "further",
) -> ServingReport:  # fmt: skip
    """The report of a run of (system, model, policy)."""
    table, seconds = metrics.request_table(log), metrics.duration_s(log)
    total = metrics.counts(table, log)
    up = float(metrics.up_s(log).mean() / seconds) if seconds else 1.0
    weights = (getattr(options, "input_weight", 1.0), getattr(options, "output_weight", 2.0))
    latencies: dict[str, Any] = metrics.latency_distributions(table, log.gaps, tpot_over)
    where = {"instances": deployment.instances, "stages": deployment.stages, "router": deployment.router}
    return ServingReport(
        *names[:2], log.trace.name, names[2],
        duration_s=seconds,
        busy_fraction=log.total("busy_ns") / NS_PER_S / seconds / len(log.instances) if seconds else 0.0,
        counts=total,
        throughput=metrics.rates(total, seconds),
        **latencies,
        kv_cache=metrics.cache_use(log),
        cost=metrics.cost(price, total, seconds, up),
        options={**options.model_dump(), **where},
        tpot_over=tpot_over,
        archsim_version=__version__,
        instances=_uses(log, seconds),
        energy=metrics.energy(log.total("joules"), total),
        adapters=metrics.adapter_use(log, len(log.trace.adapters)) if log.trace.adapter is not None else None,
        fairness=metrics.fairness(table, log.trace.tenants, 60.0, *weights),
        interrupted=log.interrupted,
        requests=table,
        timeline=log.batches,
    )  # fmt: skip


def run(
    policy: type, options: PolicyOptions, oracle: LatencyOracle, model: Model | None, trace: Trace,
    deployment: Deployment, *, timeline: bool = False, units: bool = False, progress: Progress | None = None,
    join_steps: bool = True,
) -> RunLog:  # fmt: skip
    """Simulate with checked options. `join_steps=False` forms a batch before every single step; the result is equal.

    Under an oracle with a `framework` (a Launch), requests queue when its server's front ends have worked on them.
    """
    keep = {"timeline": timeline, "units": units}
    framework: Launch | None = getattr(oracle, "framework", None)
    if framework is None or not delays(framework.server):
        return _simulate(policy, options, oracle, model, trace, deployment, None, keep, progress, join_steps)
    prompts = getattr(options, "prefill_instances", 0) or getattr(options, "prompt_instances", 0)
    entry = enter(trace, framework.server, prompts or deployment.instances)
    since_s = float(trace.arrival_s[0])
    return entry.restore(
        _simulate(policy, options, oracle, model, entry.queued, deployment, since_s, keep, progress, join_steps)
    )


def _simulate(
    policy: type, options: PolicyOptions, oracle: LatencyOracle, model: Model | None, trace: Trace,
    deployment: Deployment, since_s: float | None, keep: dict[str, bool], progress: Progress | None, join_steps: bool,
) -> RunLog:  # fmt: skip
    if deployment.router not in ROUTERS:
        near = suggest(deployment.router, ROUTERS)
        raise UsageError(f"unknown router {deployment.router!r}{near} (allowed: {', '.join(ROUTERS)})")
    longest = int((trace.prompt_tokens + trace.output_tokens).max())
    if not issubclass(policy, CompiledPolicy):
        engine = _in_python(policy, options, oracle, model, trace, deployment, longest, since_s, keep)
        return engine.run(progress)
    fleet = _fleet(policy, options, oracle, model, deployment)
    rows = adapter_rows(trace, model, fleet.oracles, options.block_tokens, deployment.loading)
    fleet = replace(fleet, adapters=rows, since_s=since_s)
    settings = policy.settings(options, fleet.instances[0].blocks, longest)
    if rows is not None:
        most = len(trace.adapters) if deployment.max_adapters is None else deployment.max_adapters
        settings |= {"max_adapters": most, "prefetch": deployment.prefetch}
    settings |= {
        "policy": policy.kernel,
        "block": options.block_tokens,
        "join": int(join_steps),
        "prefix": options.prefix_caching,
    }
    weights = getattr(options, "weights", ())
    return simulate(fleet, trace, settings, weights=weights, **keep, progress=progress)


def _in_python(
    policy: type, options: PolicyOptions, oracle: LatencyOracle, model: Model | None, trace: Trace,
    deployment: Deployment, longest: int, since_s: float | None, keep: dict[str, bool],
) -> PythonEngine:  # fmt: skip
    """The event loop of a policy that is not compiled."""
    assert issubclass(policy, Policy)
    if deployment.stages > 1 or (deployment.decode_stages or 1) > 1:
        raise UsageError(f"policy {policy.__name__} is written in Python, whose instances have one pipeline stage")
    if deployment.node_events and not policy.takes_node_events:
        raise UsageError(f"policy {policy.__name__} keeps books of its own and takes no node events")
    if trace.adapter is not None and not policy.takes_adapters:
        raise UsageError(f"policy {policy.__name__} keeps books of its own and has no place for adapters in them")
    machines = [oracle] * deployment.instances
    if deployment.decode_system is not None:
        own = getattr(options, "prompt_instances", 1)
        if not 0 < own < deployment.instances:
            raise UsageError(
                f"{own} of {deployment.instances} instances take prompts: none is left for --decode-system"
            )
        machines[own:] = [make_oracle(deployment.decode_system, model)[0]] * (deployment.instances - own)
    rows = adapter_rows(trace, model, machines, options.block_tokens, deployment.loading)
    instances = make_instances(machines, options.block_tokens, rows, deployment.max_adapters)
    scheduler = policy(options, instances, longest)
    return PythonEngine(
        scheduler, instances, trace, deployment.node_events, **keep, since_s=since_s, router=deployment.router,
        seed=deployment.seed, prefetch=deployment.prefetch, prefix_caching=options.prefix_caching,
    )  # fmt: skip


def _fleet(
    policy: type[CompiledPolicy], options: PolicyOptions, oracle: LatencyOracle, model: Model | None,
    deployment: Deployment,
) -> Fleet:  # fmt: skip
    oracles: tuple[LatencyOracle, ...] = (oracle,)
    prefills = getattr(options, "prefill_instances", 0)
    if prefills and deployment.instances <= prefills:
        least = f"at least one more than its {prefills} prefill instance{'s' if prefills > 1 else ''}"
        raise UsageError(f"a disaggregated policy needs {least}, found {deployment.instances} instances")
    if not prefills and (deployment.decode_system is not None or deployment.decode_stages is not None):
        raise UsageError(
            f"policy {policy.__name__} has no decode instances, so no machine or stages of their own for them"
        )
    if prefills and deployment.decode_system is not None:
        oracles = (oracle, make_oracle(deployment.decode_system, model)[0])
    instances = []
    for index in range(deployment.instances):
        decodes = prefills > 0 and index >= prefills
        machine = len(oracles) - 1 if decodes else 0
        blocks = oracles[machine].max_tokens // options.block_tokens
        role = (2 if decodes else 1) if prefills else 0
        low = policy.watermark(options, blocks) if role != 1 else 0
        stages = (deployment.decode_stages if decodes else None) or deployment.stages
        instances.append(Instance(machine, blocks, stages, role, options.max_batch, low))
    return Fleet(oracles, tuple(instances), deployment.router, deployment.seed, deployment.node_events)


def _uses(log: RunLog, seconds: float) -> tuple[InstanceUse, ...]:
    return tuple(
        InstanceUse(
            ROLES[int(row["role"])],
            float(row["busy_ns"] / NS_PER_S / seconds) if seconds else 0.0,
            float(row["decode_tokens"] / max(row["decode_iterations"], 1)),
            float(row["peak"] / max(row["total"], 1)),
            int(row["preempted"]),
            float(row["joules"]),
            float(there / seconds) if seconds else 1.0,
            int(row["displaced"]),
        )
        for row, there in zip(log.instances, metrics.up_s(log), strict=True)
    )


def _name_of(system: System | LatencyOracle | None) -> str:
    return str(getattr(system, "name", type(system).__name__))


def make_oracle(system: System | LatencyOracle, model: Model | None) -> tuple[LatencyOracle, str]:
    """The latency oracle of a machine for a model, and the name to report; an oracle is passed through."""
    if isinstance(system, LatencyOracle):
        return system, _name_of(system)
    if model is None:
        raise UsageError(f"a model is needed to serve on {system.name}")
    from archsim.serving.system_oracle import SystemOracle

    return SystemOracle(system, model), system.name


def _refused(
    log: RunLog, options: PolicyOptions, machines: Sequence[tuple[LatencyOracle, str]], policy: str
) -> str | None:
    """The first rejected request, if there is one. Raises InfeasibleError if all were."""
    if not log.requests["rejected"].any():
        return None
    refused = first_rejected(log, options, machines, policy)
    if log.requests["rejected"].all():
        raise InfeasibleError(f"{refused}; no request of the trace can be served under {policy!r}")
    return refused


def check_options(name: str, policy: type, options: dict[str, Any]) -> PolicyOptions:
    """The options of a policy. Raises UsageError that names the key, what was found and what is allowed."""
    kind: type[PolicyOptions] = policy.Options  # type: ignore[attr-defined]
    allowed = kind.model_fields
    for key in options:
        if key not in allowed:
            near = suggest(key, allowed)
            raise UsageError(f"policy {name!r} has no option {key!r}{near} (allowed: {', '.join(allowed)})")
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"policy {name!r}: {key}: found {first['input']!r}: {first['msg'].lower()}") from None
