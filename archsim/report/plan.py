"""A parallel plan on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.units import format_bytes, format_si

if TYPE_CHECKING:
    from rich.console import Console

    from archsim.mapping.search.result import ParallelPlan, Stage


def print_plan(plan: ParallelPlan, console: Console) -> None:
    """Headline, stages, and how each different stage runs its operators."""
    console.print(
        f"{plan.model} on {plan.system}: {plan.phase} of {plan.batch} requests, {plan.new_tokens} new of "
        f"{plan.context_tokens} tokens, {plan.devices} devices"
    )
    tp = sorted(set(plan.tp))
    console.print(
        f" plan        {plan.dp} replica{'s' if plan.dp > 1 else ''} x {len(plan.stages)} "
        f"stage{'s' if len(plan.stages) > 1 else ''} x {'/'.join(map(str, tp))} devices, {plan.micro_batches} "
        f"micro-batches, interleave {plan.interleave}"
    )
    console.print(
        f" pass        {_seconds(plan.time_s)}: compute {_share(plan.compute_s, plan)}, conversions "
        f"{_share(plan.convert_s, plan)}, waiting {_share(plan.waiting_s, plan)} (slowest stage); "
        f"{plan.tokens_per_s:,.1f} tokens/s"
    )
    console.print(
        f" memory      {format_bytes(plan.memory_bytes)} of {format_bytes(plan.memory_limit_bytes)} on the fullest "
        "device"
    )
    console.print(f" searched    {plan.searched} combinations of replicas and micro-batches")
    if plan.checked_by_milp is not None:
        console.print(f" check       the linear program {'agrees' if plan.checked_by_milp else 'found another plan'}")
    _print_stages(plan, console)
    _print_operators(plan, console)
    for note in plan.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    if plan.pareto:
        _print_pareto(plan, console)


def _seconds(value: float) -> str:
    return format_si(value, "s")


def _share(value: float, plan: ParallelPlan) -> str:
    return f"{value / plan.time_s:.1%}"


def _print_stages(plan: ParallelPlan, console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="stages of one replica, one micro-batch", title_justify="left")
    for name in ("layers", "devices", "time", "compute", "conversions", "memory"):
        table.add_column(name, justify="right")
    for stage in plan.stages:
        table.add_row(
            f"{stage.first_layer}-{stage.last_layer}", f"{stage.first_device}-{stage.last_device}",
            _seconds(stage.time_s), _seconds(stage.compute_s), _seconds(stage.convert_s),
            format_bytes(stage.memory_bytes),
        )  # fmt: skip
    console.print(table)


def _print_operators(plan: ParallelPlan, console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown: set[tuple[tuple[str, str], ...]] = set()
    for number, stage in enumerate(plan.stages):
        key = tuple((one.name, one.transform) for one in stage.operators if one.runs > 1 or len(plan.stages) == 1)
        if key in shown:
            continue
        shown.add(key)
        same = [str(i) for i, other in enumerate(plan.stages) if _layer(other) == _layer(stage)]
        table = Table(box=SIMPLE_HEAD, title=f"operators of stage {number} (the layers of stages {', '.join(same)})",
                      title_justify="left")  # fmt: skip
        for name in ("operator", "split", "runs", "compute", "conversion"):
            table.add_column(name, justify="left" if name in ("operator", "split") else "right")
        for one in stage.operators:
            cost = _seconds(one.convert_s) if one.convert_s else "-"
            table.add_row(one.name, one.transform, str(one.runs), _seconds(one.compute_s), cost)
        console.print(table)


def _layer(stage: Stage) -> tuple[tuple[str, str], ...]:
    runs = max(one.runs for one in stage.operators)
    return tuple((one.name, one.transform) for one in stage.operators if one.runs == runs)


def _print_pareto(plan: ParallelPlan, console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="time against memory of a device", title_justify="left")
    for name in ("time", "memory", "replicas", "stages x devices", "micro-batches"):
        table.add_column(name, justify="right")
    for point in plan.pareto:
        groups = "/".join(map(str, sorted(set(point.tp))))
        table.add_row(
            _seconds(point.time_s), format_bytes(point.memory_bytes), str(point.dp), f"{len(point.tp)} x {groups}",
            str(point.micro_batches),
        )  # fmt: skip
    console.print(table)
