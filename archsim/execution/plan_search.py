"""The fastest parallel plan of a model on the equal devices of a machine: nnScaler's search over archsim's own models.

Outer loops over data parallelism and micro-batches, inside them stages by dynamic programming over layers and devices
(`mapping.search.pipeline`), inside those one transformation per operator (`mapping.search.frontier`). All layers of a
stage are run the same way. Source of the method: Lin et al., nnScaler (OSDI 2024); Zheng et al., Alpa (OSDI 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from archsim.compute import Operation
from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.errors import ConfigError, InfeasibleError, UsageError
from archsim.execution.plan_costs import Costs, Pass, StageParts
from archsim.mapping.search.constraints import parse_constraints
from archsim.mapping.search.conversions import PS_PER_S
from archsim.mapping.search.milp import solve_milp
from archsim.mapping.search.pipeline import Cut, Pipeline, StageTable, best_pipeline
from archsim.mapping.search.pipeline_kernels import NEVER
from archsim.mapping.search.problem import Problem, Solution
from archsim.mapping.search.result import ParallelPlan, PlannedOperator, PlanPoint, Stage
from archsim.units import format_bytes

_SMOOTH = sorted({2**a * 3**b for a in range(18) for b in range(11)} | set(range(1, 17)))
_SHORT = int(NEVER) // 8
_ENDLESS = 2**62


def plan_request(
    system: System, model: Model, phase: str, batch: int, tokens: int, constraints: Sequence[str] = ()
) -> Pass:
    """The pass of `batch` requests with `tokens` prompt (prefill) or context (decode) tokens, constraints as text.

    Raises UsageError for a constraint that is not understood.
    """
    assert phase in ("prefill", "decode")
    new_tokens = tokens if phase == "prefill" else 1
    work = Pass(system, model, "prefill" if phase == "prefill" else "decode", batch, new_tokens, tokens)
    parsed = parse_constraints(constraints, work.graph(1).nodes, model.layers, work.devices)
    return replace(work, constraints=parsed)


def search_plan(work: Pass, *, pareto: int = 0, check: bool = False) -> ParallelPlan:
    """The fastest plan of `work` whose devices hold what they must.

    pareto  further points wanted, each the fastest plan with less memory per device than the one before
    check   solve each stage's layer by mixed-integer linear programming too

    Degrees tried: data parallel and micro-batches 1 to 16 and products of twos and threes; groups of devices are
    powers of two and divisors of a node inside a node, and 1, 2, 4, ... whole nodes. Raises InfeasibleError if nothing
    fits or the constraints contradict each other, ConfigError for a machine whose work is not on one unit.
    """
    _check_machine(work)
    search = _Search(work)
    best = search.run(work.capacity_bytes) if _least_bytes(work) <= work.capacity_bytes * work.devices else None
    if best is None:
        raise InfeasibleError(search.why_not())
    checked = search.agrees_with_milp(best) if check else None
    points = [search.plan(best)]
    while len(points) < pareto and (lighter := search.run(points[-1].memory_bytes - 1)) is not None:
        points.append(search.plan(lighter))
    return replace(points[0], pareto=tuple(map(_point, points)) if pareto else (), checked_by_milp=checked)


def _check_machine(work: Pass) -> None:
    rules = work.system.mapping
    if rules.decode_attention not in (None, rules.main) or rules.prefill_attention not in (None, rules.main):
        raise ConfigError(
            f"a plan is searched over equal devices, but attention runs on {rules.decode_attention!r} and the rest on "
            f"{rules.main!r}; use 'archsim evaluate'",
            file=work.system.name, key="mapping",
        )  # fmt: skip
    if work.context_tokens < work.new_tokens:
        raise UsageError(f"context of {work.context_tokens} tokens is shorter than the {work.new_tokens} new ones")


def _least_bytes(work: Pass) -> float:
    """What all devices together must hold: one copy of the weights, every request's keys and values."""
    return work.model.weight_bytes + work.model.kv_bytes(work.context_tokens) * work.batch


def _point(plan: ParallelPlan) -> PlanPoint:
    return PlanPoint(plan.time_s, plan.memory_bytes, plan.dp, plan.tp, plan.micro_batches)


@dataclass(frozen=True)
class _Combination:
    dp: int
    micro_batches: int
    replica_requests: int
    requests: int  # of a micro-batch
    devices: int


@dataclass(frozen=True)
class _Found:
    pipeline: Pipeline
    combination: _Combination
    pieces: bool
    limit_bytes: int


class _Search:
    def __init__(self, work: Pass) -> None:
        self._work = work
        self._operations: dict[Operation, int] = {}
        self._costs: dict[tuple[int, int, int, bool], Costs] = {}
        self._searched = 0
        self._sizes = [size for size in self._group_sizes() if work.constraints.allows_degree("tp", size)]

    def run(self, limit_bytes: int) -> _Found | None:
        """The fastest plan within the limit.

        Co-sharding saves memory and never time: a plan found without it and without a limit is the best one if it
        fits, and no combination can do better with it than without it and without a limit.
        """
        ranked = sorted(
            ((self._least_ps(combination), combination) for combination in self._combinations()),
            key=lambda pair: (pair[0], pair[1].dp, pair[1].micro_batches),
        )
        self._searched = len(ranked)
        free = self._best(ranked, _ENDLESS, None, pieces=False)
        if free is None or self.plan(free).memory_bytes <= limit_bytes:
            return free
        return self._best(ranked, limit_bytes, self._best(ranked, limit_bytes, None, pieces=False), pieces=True)

    def _best(
        self, ranked: list[tuple[int, _Combination]], limit_bytes: int, best: _Found | None, *, pieces: bool
    ) -> _Found | None:
        """The best of `best` and what the combinations allow; they are ranked by a lower bound."""
        for least, combination in ranked:
            bound = best.pipeline.time_ps if best else int(NEVER)
            if least >= min(bound, _SHORT):
                break
            if pieces and self._pipeline(combination, _ENDLESS, bound, pieces=False) is None:
                continue
            pipeline = self._pipeline(combination, limit_bytes, bound, pieces=pieces)
            if pipeline is not None:
                best = _Found(pipeline, combination, pieces, limit_bytes)
        return best

    def _pipeline(self, combination: _Combination, limit_bytes: int, bound: int, *, pieces: bool) -> Pipeline | None:
        table = self._table(combination, limit_bytes, pieces=pieces)
        work = self._work
        return best_pipeline(table, combination.devices, combination.micro_batches, work.phase, work.constraints, bound)

    def _group_sizes(self) -> list[int]:
        node, devices = self._work.fabric.node, self._work.devices
        inside = {size for size in range(1, node + 1) if node % size == 0 or size & (size - 1) == 0}
        across = {node * 2**power for power in range(1, 20) if node * 2**power <= devices}
        return sorted(inside | (across if self._work.fabric.between is not None else set()))

    def _combinations(self) -> Iterator[_Combination]:
        """Degrees worth trying.

        Of replica counts that leave the same devices to each, the largest has the fewest requests in each; of
        micro-batch counts that make equal micro-batches, the smallest makes the fewest.
        """
        work = self._work
        allows = work.constraints.allows_degree
        replicas = {
            work.devices // dp: dp for dp in _SMOOTH if dp <= min(work.devices, work.batch) and allows("dp", dp)
        }
        for devices, dp in replicas.items():
            replica = math.ceil(work.batch / dp)
            counts = [m for m in _SMOOTH if m <= replica and allows("micro_batches", m)]
            smallest = {math.ceil(replica / m): m for m in reversed(counts)}
            for requests, micro_batches in smallest.items():
                yield _Combination(dp, micro_batches, replica, requests, devices)

    def _cost(self, combination: _Combination, ways: int, *, pieces: bool) -> Costs:
        key = (combination.replica_requests, combination.requests, ways, pieces)
        if key not in self._costs:
            self._costs[key] = Costs(self._work, *key, self._operations)
        return self._costs[key]

    def _table(self, combination: _Combination, limit_bytes: int, *, pieces: bool) -> StageTable:
        fabric = self._work.fabric
        sizes = [size for size in self._sizes if size <= combination.devices]
        stages = [self._cost(combination, size, pieces=pieces).stages(limit_bytes) for size in sizes]
        width = self._work.model.layers + 1
        boundary = self._boundary_bytes(combination)
        hops = [[fabric.hop_seconds(boundary, size, across=across) for across in (False, True)] for size in sizes]
        hop_ps = np.array([[min(hop * PS_PER_S, _SHORT) for hop in row] for row in hops]).round().astype(np.int64)
        return StageTable(
            np.array(stages, dtype=np.int64).reshape(len(sizes), width, 2, 2),
            np.array(sizes, dtype=np.int64), fabric.node, hop_ps.reshape(-1, 2),
        )  # fmt: skip

    def _boundary_bytes(self, combination: _Combination) -> float:
        model = self._work.model
        tokens = combination.requests * self._work.new_tokens
        return tokens * model.hidden * model.activation_element_bytes

    def _least_ps(self, combination: _Combination) -> int:
        """A lower bound of the pass that needs no search: every operator at its fastest, no tensor converted."""
        sizes = [size for size in self._sizes if size <= combination.devices]
        if not sizes:
            return _SHORT
        layers = self._work.model.layers
        per_layer = {size: self._cost(combination, size, pieces=False).least_layer_ps for size in sizes}
        total = min(per_layer.values()) * layers
        pace = min(size * time for size, time in per_layer.items()) * layers // combination.devices
        return max(total, combination.micro_batches * pace)

    def plan(self, best: _Found) -> ParallelPlan:
        """The report of what was found."""
        work, found, chosen = self._work, best.pipeline, best.combination
        stages = [self._stage(self._parts(cut, best), cut) for cut in found.cuts]
        slowest = max(stages, key=lambda stage: stage.time_s)
        time_s = found.time_ps / PS_PER_S
        busy = found.micro_batches
        compute_s, convert_s = slowest.compute_s * busy, slowest.convert_s * busy
        return ParallelPlan(
            system=work.system.name, model=work.model.name, phase=work.phase, batch=work.batch,
            new_tokens=work.new_tokens, context_tokens=work.context_tokens, devices=work.devices, dp=chosen.dp,
            micro_batches=found.micro_batches, interleave=found.interleave, time_s=time_s, compute_s=compute_s,
            convert_s=convert_s, waiting_s=time_s - compute_s - convert_s,
            tokens_per_s=work.batch * work.new_tokens / time_s,
            memory_bytes=max(stage.memory_bytes for stage in stages), memory_limit_bytes=work.capacity_bytes,
            stages=tuple(stages), searched=self._searched, notes=work.system.notes,
        )  # fmt: skip

    def _parts(self, cut: Cut, best: _Found) -> StageParts:
        costs = self._cost(best.combination, cut.end - cut.begin, pieces=best.pieces)
        return costs.stage(cut.last - cut.first, cut.first == 0, cut.last == self._work.model.layers, best.limit_bytes)

    @staticmethod
    def _stage(parts: StageParts, cut: Cut) -> Stage:
        operators = [
            *_operators(parts.before.problem, parts.before.solution, 1),
            *_operators(parts.layer.problem, parts.layer.solution, parts.layers),
            *_operators(parts.after.problem, parts.after.solution, 1),
        ]
        return Stage(
            cut.first, cut.last - 1, cut.begin, cut.end - 1, parts.time_ps / PS_PER_S,
            sum(one.compute_s for one in operators), sum(one.convert_s for one in operators), parts.memory_bytes,
            tuple(operators),
        )  # fmt: skip

    def agrees_with_milp(self, best: _Found) -> bool:
        """Whether a linear program finds the same time for the layer of every stage, in the memory it was given."""
        for cut in best.pipeline.cuts:
            layer = self._parts(cut, best).layer
            exact = solve_milp(layer.problem, layer.solution.memory_bytes)
            if exact is None or exact.time_ps != layer.solution.time_ps:
                return False
        return True

    def why_not(self) -> str:
        """One sentence for a search that found nothing."""
        work = self._work
        head = f"no plan for {work.model.name} at batch {work.batch} on {work.devices} devices of {work.system.name}"
        if not self._sizes or not any(True for _ in self._combinations()):
            return f"{head} has degrees that satisfy all constraints"
        free = _Search(replace(work, constraints=type(work.constraints)()))
        enough = _least_bytes(work) <= work.capacity_bytes * work.devices
        if enough and work.constraints != free._work.constraints and free.run(work.capacity_bytes) is not None:
            return f"{head} satisfies all constraints; without them there is one"
        needed = _least_bytes(work)
        room = work.capacity_bytes * work.devices
        return f"{head} fits: weights and KV cache take {format_bytes(needed)}, the devices have {format_bytes(room)}"


def _operators(problem: Problem, solution: Solution, runs: int) -> list[PlannedOperator]:
    """One row an operator, with the conversions of its inputs; the stage's ends appear where they cost something."""
    chosen = [choices[pick] for choices, pick in zip(problem.choices, solution.picks, strict=True)]
    convert = [0] * len(chosen)
    for edge in problem.edges:
        convert[edge.target] += edge.convert_ps[chosen[edge.source].gives, chosen[edge.target].needs]
    return [
        PlannedOperator(name, choice.name, runs, choice.time_ps * runs / PS_PER_S, cost * runs / PS_PER_S)
        for name, choice, cost in zip(problem.operators, chosen, convert, strict=True)
        if name not in ("input", "output") or cost
    ]
