"""Plan search against exhaustive enumeration and linear programming; what good plans must look like."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import numpy as np
import pytest

from archsim.cli.main import run
from archsim.config import load_model, load_system
from archsim.errors import InfeasibleError, UsageError
from archsim.execution.costing import Costing
from archsim.execution.plan_search import plan_request, search_plan
from archsim.execution.step import simulate_pass
from archsim.mapping.search.constraints import Constraints
from archsim.mapping.search.frontier import fastest, frontier
from archsim.mapping.search.milp import solve_milp
from archsim.mapping.search.pipeline import StageTable, best_pipeline, pass_ps
from archsim.mapping.search.problem import Choice, Edge, Problem, Solution, assess
from archsim.mapping.search.result import ParallelPlan
from archsim.workload.operator import Phase

LAYOUTS = ("whole", "tokens", "columns")


def random_problem(rng: np.random.Generator, operators: int, *, chain: bool) -> Problem:
    choices = tuple(
        tuple(
            Choice(
                f"c{i}", int(rng.integers(1, 50)), int(rng.integers(0, 6)), int(rng.integers(0, 8)),
                str(rng.choice(LAYOUTS)), str(rng.choice(LAYOUTS)),
            )
            for i in range(rng.integers(1, 5))
        )
        for _ in range(operators)
    )  # fmt: skip
    pairs = {(i, i + 1) for i in range(operators - 1)}
    if not chain:
        pairs |= {tuple(sorted(rng.choice(operators, 2, replace=False))) for _ in range(operators // 2)}
    edges = []
    for source, target in sorted((int(a), int(b)) for a, b in pairs):
        ways = [(a, b) for a in LAYOUTS for b in LAYOUTS if chain or a == b or rng.random() < 0.85]
        table = {way: int(rng.integers(0, 20)) for way in ways}
        edges.append(Edge(source, target, table))
    return Problem(tuple(f"o{i}" for i in range(operators)), choices, tuple(edges))


def every_plan(problem: Problem) -> Iterator[Solution]:
    for picks in itertools.product(*(range(len(choices)) for choices in problem.choices)):
        found = assess(problem, picks)
        if found is not None:
            yield found


@pytest.mark.parametrize("seed", range(25))
def test_frontier_is_the_exhaustive_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, int(rng.integers(2, 9)), chain=False)
    plans = {(s.time_ps, s.resident_bytes, s.transient_bytes) for s in every_plan(problem)}
    best = {p for p in plans if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in plans)}
    found = frontier(problem)
    assert {(s.time_ps, s.resident_bytes, s.transient_bytes) for s in found} == best
    assert all(assess(problem, solution.picks) == solution for solution in found)
    for limit in (5, 10, 15, 20):
        fitting = [time for time, resident, transient in plans if resident + transient <= limit]
        chosen = fastest(problem, limit)
        assert (chosen.time_ps if chosen else None) == min(fitting, default=None)


@pytest.mark.parametrize(("operators", "chain"), [(12, False), (30, True), (60, True)])
def test_fastest_is_the_linear_programs(operators: int, chain: bool) -> None:
    problem = random_problem(np.random.default_rng(operators), operators, chain=chain)
    loose = fastest(problem)
    assert loose is not None
    for limit in (None, loose.memory_bytes - 1, int(loose.memory_bytes * 0.8)):
        ours, theirs = fastest(problem, limit), solve_milp(problem, limit)
        assert (ours.time_ps if ours else None) == (theirs.time_ps if theirs else None)


def random_stages(rng: np.random.Generator, layers: int, sizes: list[int], node: int) -> StageTable:
    """Times that grow with the layers, as real ones do; some long stages do not fit."""
    per_layer = rng.integers(5, 30, (len(sizes), 1, 2, 2))
    times = per_layer * np.arange(layers + 1)[None, :, None, None] + rng.integers(0, 9, (len(sizes), 1, 2, 2))
    most = rng.integers(1, layers + 1, len(sizes))
    times[np.arange(layers + 1)[None, :] > most[:, None]] = -1
    hops = np.sort(rng.integers(0, 12, (len(sizes), 2)), axis=1)
    return StageTable(times.astype(np.int64), np.array(sizes), node, hops.astype(np.int64))


def every_pipeline(table: StageTable, devices: int) -> Iterator[tuple[list[int], list[int], int]]:
    """(stage times, hop times, stages) of all ways to lay stages on a row; the end of a node may stay idle."""

    def extend(layer: int, at: int, stages: list[int], hops: list[int]) -> Iterator[tuple[list[int], list[int], int]]:
        if layer == table.layers:
            yield stages, hops, len(stages)
            return
        starts = {at} | ({(at // table.node + 1) * table.node} if at % table.node else set())
        for start, (index, size), more in itertools.product(
            starts, enumerate(table.sizes), range(1, table.layers - layer + 1)
        ):
            inside = start // table.node == (start + size - 1) // table.node
            if start + size > devices or not (inside if size <= table.node else start % table.node == 0):
                continue
            time = int(table.stage_ps[index, more, int(layer == 0), int(layer + more == table.layers)])
            if time < 0:
                continue
            hop = [int(table.hop_ps[index, int(start % table.node == 0)])] if layer else []
            yield from extend(layer + more, start + int(size), [*stages, time], hops + hop)

    yield from extend(0, 0, [], [])


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("seed", range(12))
def test_pipeline_is_the_exhaustive_one(seed: int, phase: str) -> None:
    rng = np.random.default_rng(seed)
    table = random_stages(rng, int(rng.integers(2, 6)), [1, 2, 4, 8][: int(rng.integers(2, 5))], 4)
    devices, batches = int(rng.integers(3, 9)), int(rng.integers(1, 7))
    for wanted in (None, 2):
        times = [
            pass_ps(phase, batches, sum(stages) + sum(hops), max(stages + hops))
            for stages, hops, count in every_pipeline(table, devices)
            if wanted in (None, count)
        ]
        degrees = (("interleave", "=", 1),) + ((("pp", "=", wanted),) if wanted else ())
        found = best_pipeline(table, devices, batches, phase, Constraints(degrees=degrees))
        assert (found.time_ps if found else None) == min(times, default=None)


def plan(
    system: str, model: str, phase: str, batch: int, tokens: int, *constraints: str, **sets: object
) -> ParallelPlan:
    of_system = [f"{key}={value}" for key, value in sets.items() if key.startswith(("units", "cluster"))]
    machine = load_system(system, of_system)
    return search_plan(plan_request(machine, load_model(model), phase, batch, tokens, constraints))


def splits(found: ParallelPlan) -> dict[str, str]:
    return {one.name: one.transform for one in found.stages[0].operators}


def test_one_nvswitch_node_gets_megatrons_split() -> None:
    """Columns, then rows, heads in between (Shoeybi et al., section 3), norms by tokens (Korthikanti et al., 2022)."""
    found = plan("dgx-a100", "gpt3-175b", "decode", 16, 2048)
    assert (found.dp, found.tp, found.micro_batches) == (1, (8,), 1)
    split = splits(found)
    wanted = {
        "qkv": "columns", "score": "heads", "context": "heads", "attention_out": "rows",
        "ffn_up": "columns", "activation": "columns", "ffn_down": "rows",
    }  # fmt: skip
    assert {name: split[name] for name in wanted} == wanted


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_gpu_with_a_kernel_library_plans_attention_as_one_kernel(phase: Phase) -> None:
    """Alone on one GPU each operator takes what the same pass takes by the fixed rules; scores are never stored."""
    one = ("dp=1", "tp=1", "pp=1", "micro_batches=1", "*!=co-shard")
    found = plan("hgx-h100", "llama3-8b", phase, 4, 4096, *one, **{"units.gpu.count": 1})
    system, model = load_system("hgx-h100", ("units.gpu.count=1",)), load_model("llama3-8b")
    step = simulate_pass(Costing.of(system), model, phase, 4, 4096 if phase == "prefill" else 1, 4096)
    times = {task.planned.name: task.seconds * task.planned.repeat for task in step.tasks}
    for operator in found.stages[0].operators:
        assert operator.compute_s == pytest.approx(times[operator.name], rel=1e-6)
    assert "attention" in splits(found)
    scores = 4 * 32 * 4096 * 4096 * 2.0
    assert found.memory_bytes < model.weight_bytes + 4 * model.kv_bytes(4096) + scores
    for tokens in (512, 8192):
        split = splits(plan("hgx-h100", "llama3-8b", "prefill", 1, tokens, "dp=1", "tp=8"))["attention"]
        assert split in ("heads", "sequence")
    assert "score" in splits(plan("dgx-a100", "llama3-8b", phase, 4, 512))


def slow_cluster(**more: object) -> dict[str, object]:
    return {"cluster.nodes": 2, "cluster.link.bandwidth": "1 GB/s", "cluster.link.latency": "10 us", **more}


def test_slow_links_between_nodes_get_pipeline_stages() -> None:
    found = plan("dgx-a100-x8", "gpt3-175b", "prefill", 16, 2048, "dp=1", **slow_cluster())
    groups = [(stage.first_device // 8, stage.last_device // 8) for stage in found.stages]
    assert len(found.stages) > 1
    assert all(first == last for first, last in groups)  # no group of devices crosses the slow link
    assert {first for first, _ in groups} == {0, 1}


def test_co_shard_appears_only_where_memory_is_short() -> None:
    free = plan("dgx-a100", "llama2-7b", "prefill", 8, 2048, "dp=1", "tp=1", "pp=1", "micro_batches=1")
    assert not any("pieces" in one.transform for one in free.stages[0].operators)
    tight = {"units.gpu.memory_capacity": f"{int(free.memory_bytes * 0.9)} B"}
    short = plan("dgx-a100", "llama2-7b", "prefill", 8, 2048, "dp=1", "tp=1", "pp=1", "micro_batches=1", **tight)
    assert any("pieces" in one.transform for one in short.stages[0].operators)
    assert short.memory_bytes <= free.memory_bytes * 0.9
    assert short.time_s >= free.time_s


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_more_devices_are_never_slower(phase: str) -> None:
    times = [plan("dgx-a100", "llama2-7b", phase, 6, 1024, **{"units.gpu.count": n}).time_s for n in (1, 2, 3, 5, 8)]
    assert times == sorted(times, reverse=True)


def test_parts_add_up_and_memory_fits() -> None:
    for phase in ("prefill", "decode"):
        found = plan("dgx-a100", "llama2-70b", phase, 16, 2048)
        assert found.compute_s + found.convert_s + found.waiting_s == pytest.approx(found.time_s, rel=1e-9)
        assert found.waiting_s >= -1e-12
        assert found.memory_bytes <= found.memory_limit_bytes
        layers = [(stage.first_layer, stage.last_layer) for stage in found.stages]
        assert layers[0][0] == 0
        assert layers[-1][1] == 79
        assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(layers))
        for stage in found.stages:
            assert stage.compute_s + stage.convert_s == pytest.approx(stage.time_s, rel=1e-9)


def test_constraints_are_kept() -> None:
    demands = ["dp=2", "pp=2", "ffn_up=rows", "cut=30", "layers 0-29 = devices 0-1"]
    found = plan("dgx-a100", "llama2-70b", "decode", 16, 1024, *demands)
    assert (found.dp, len(found.stages)) == (2, 2)
    assert splits(found)["ffn_up"] == "rows"
    assert (found.stages[0].last_layer, found.stages[0].last_device) == (29, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ffn_upp=rows", "did you mean 'ffn_up'"),
        ("ffn_up=colums", "did you mean 'columns'"),
        ("tp<0", "not understood"),
        ("tp=0", "whole number from 1"),
        ("cut=999", "from 1 to 31"),
        ("layers 3-2 = devices 0", "layers go from 0 to 31"),
        ("layers 0 = devices 9", "devices go from 0 to 7"),
    ],
)
def test_a_wrong_constraint_is_one_clear_line(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan("dgx-a100", "llama2-7b", "decode", 1, 128, text)


def test_contradictions_and_what_does_not_fit_are_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="satisfy all constraints"):
        plan("dgx-a100", "llama2-7b", "decode", 4, 128, "dp=2", "dp=3")
    with pytest.raises(InfeasibleError, match="satisfies all constraints; without them"):
        plan("dgx-a100", "llama2-7b", "decode", 4, 128, "pp=1", "cut=16")
    with pytest.raises(InfeasibleError, match="weights and KV cache take"):
        plan("dgx-a100", "gpt3-175b", "decode", 512, 2048)


def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "dgx-a100", "llama2-7b", "--batch", "4", "--pareto", "3", "--check", "--json"]
    assert run(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["checked_by_milp"] is True
    memory = [point["memory_bytes"] for point in document["pareto"]]
    times = [point["time_s"] for point in document["pareto"]]
    assert memory == sorted(memory, reverse=True)
    assert times == sorted(times)
