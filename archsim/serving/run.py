"""`serve`: a machine, a model, a trace and a policy in, a report out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from archsim import __version__
from archsim.config.schemas.model import Model
from archsim.errors import InfeasibleError, UsageError, suggest
from archsim.serving import metrics
from archsim.serving.engine import NS_PER_S, Engine, RunLog
from archsim.serving.oracle import LatencyOracle
from archsim.serving.policy import POLICIES, Policy, PolicyOptions
from archsim.serving.results import ServingReport
from archsim.workload.requests import load_requests
from archsim.workload.traces import Trace

if TYPE_CHECKING:
    from archsim.config.schemas.system import System


def serve(
    system: System | LatencyOracle,
    model: Model | None,
    trace: Trace | str,
    policy: str = "vllm",
    *,
    usd_per_hour: float | None = None,
    **options: Any,
) -> ServingReport:
    """Serve `trace` (or the trace of that name) on `system` under the policy called `policy`.

    system        a machine, whose latency oracle for `model` is made here, or an oracle of one's own
    usd_per_hour  price of the machine; None: the oracle's, else that of the system by its cost model
    options       of the policy, see its `Options` class; e.g. max_batch, block_tokens

    Raises UsageError for an unknown policy or option, InfeasibleError if not one request of the trace fits.
    """
    if isinstance(trace, str):
        trace = load_requests(trace)
    chosen = POLICIES.get(policy)
    checked = _options(policy, chosen, options)
    oracle, name = make_oracle(system, model)
    longest = int((trace.prompt_tokens + trace.output_tokens).max())
    scheduler = chosen(checked, oracle.max_tokens, longest)
    log = Engine(oracle, scheduler, trace).run()
    if len(log.rejected) == len(log.requests):
        least = min(scheduler.claim_tokens(request) for request in log.requests)
        holds = f"the KV cache of {name} holds {oracle.max_tokens} tokens"
        needs = f"policy {policy!r} needs {least} for the smallest request"
        raise InfeasibleError(f"no request of {trace.name!r} can be served: {holds}, {needs}")
    table, seconds = metrics.request_table(log), metrics.duration_s(log)
    total = metrics.counts(table, log)
    price = _usd_per_hour(system, oracle, log, seconds) if usd_per_hour is None else usd_per_hour
    return ServingReport(
        system=name,
        model=model.name if model is not None else "",
        trace=trace.name,
        policy=policy,
        duration_s=seconds,
        busy_fraction=log.busy_ns / NS_PER_S / seconds if seconds else 0.0,
        counts=total,
        throughput=metrics.rates(total, seconds),
        **metrics.latency_distributions(table, log),
        kv_cache=metrics.cache_use(scheduler, log),
        cost=metrics.cost(price, total, seconds),
        options=checked.model_dump(),
        archsim_version=__version__,
        requests=table,
    )


def make_oracle(system: System | LatencyOracle, model: Model | None) -> tuple[LatencyOracle, str]:
    """The latency oracle of a machine for a model, and the name to report; an oracle is passed through."""
    if isinstance(system, LatencyOracle):
        return system, type(system).__name__
    if model is None:
        raise UsageError(f"a model is needed to serve on {system.name}")
    from archsim.execution.oracle import LatencyOracle as SystemOracle

    return SystemOracle(system, model), system.name


def _usd_per_hour(system: object, oracle: LatencyOracle, log: RunLog, seconds: float) -> float | None:
    """The oracle's price; else, for a system, its lifetime cost at the power of the mean decode iteration while busy.

    Prompts draw somewhat more than decodes; idle time counts as the cost model has it.
    """
    if oracle.usd_per_hour is not None or system is oracle or not log.decode_tokens:
        return oracle.usd_per_hour
    from archsim.cost import machine_bill
    from archsim.cost.evaluate import usd_per_hour
    from archsim.execution.oracle import LatencyOracle as SystemOracle

    assert isinstance(oracle, SystemOracle)
    batch = max(1, round(log.decode_tokens / log.decode_iterations))
    power_w = oracle.decode_power_w(batch, round(log.decode_contexts / log.decode_tokens))
    busy = log.busy_ns / NS_PER_S / seconds
    return usd_per_hour(machine_bill(oracle.system), power_w * busy, oracle.system.cost.economics)


def _options(name: str, policy: type[Policy], options: dict[str, Any]) -> PolicyOptions:
    allowed = policy.Options.model_fields
    for key in options:
        if key not in allowed:
            near = suggest(key, allowed)
            raise UsageError(f"policy {name!r} has no option {key!r}{near} (allowed: {', '.join(allowed)})")
    try:
        return policy.Options.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"policy {name!r}: {key}: found {first['input']!r}: {first['msg'].lower()}") from None
