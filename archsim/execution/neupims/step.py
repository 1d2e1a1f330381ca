"""The decode step of a whole model on NeuPIMs devices, from the co-simulated stages of one layer.

Without sub-batches a layer is A (QKV), B (attention on PIM), E (the rest), one after the other. With two sub-batches
NPU and PIM work on different halves: A, B, then C and D once for every further layer, E, F. The time of an operator
is what it took beside the other side's traffic. What stands before and after the layers is in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from archsim.config.schemas.model import Model
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.config.schemas.system import NeupimsUnit, System
from archsim.errors import ConfigError
from archsim.execution.attention import AttentionCost
from archsim.execution.costing import CostedTask, Costing
from archsim.execution.neupims.layer import NeupimsLayerResult, Stage, simulate_neupims_layer
from archsim.execution.neupims.operators import LayerShape
from archsim.execution.step import Step
from archsim.execution.tasks import OUTSIDE_LAYERS, TaskTableBuilder
from archsim.mapping.plan import AllReduce, PimAttention, make_plan
from archsim.workload import build_graph

NPU_TRAFFIC = ("activate", "read", "write")  # charged to the NPU's operators by their bytes (component `dram`)


def simulate_step(system: System, model: Model, batch: int, context_tokens: int) -> Step:
    """One decode step of `batch` equal requests that attend to `context_tokens` tokens each.

    Raises ConfigError for a model or a rule that the devices cannot run.
    """
    main = system.units[system.mapping.main]
    if main.type != "npu" or main.memory_in != system.mapping.decode_attention:
        raise ConfigError(
            "found attention in NeuPIMs devices without their NPU as main unit (an npu with memory_in: the devices)",
            file=system.name, key="mapping.main",
        )  # fmt: skip
    share = -(-batch // system.mapping.data_parallel)
    parts = min(_parts(system), share)
    graph = build_graph(model, "decode", -(-share // parts), 1, context_tokens)
    plan = make_plan(system, model, graph)
    work = next(task.work for task in plan.tasks if isinstance(task.work, PimAttention))
    unit = system.units[work.unit]
    assert isinstance(unit, NeupimsUnit)
    ways = unit.count // system.mapping.data_parallel
    costing = Costing(system, lambda device, work: AttentionCost(0.0, {}, {"value": 1.0}))
    tasks = costing.cost(plan)
    reduce_s = max((task.seconds for task in tasks if isinstance(task.planned.work, AllReduce)), default=0.0)
    found = simulate_neupims_layer(
        unit.device, layer_shape(model, unit.device, ways), [context_tokens] * share, parts == 2, all_reduce_s=reduce_s
    )
    return _assemble(unit, found, tasks, model.layers, parts)


def _parts(system: System) -> int:
    if system.mapping.sub_batches > 2:
        raise ConfigError(
            f"found sub_batches {system.mapping.sub_batches}; NPU and PIM of a NeuPIMs device take turns on 1 or 2",
            file=system.name, key="mapping.sub_batches",
        )  # fmt: skip
    return system.mapping.sub_batches


def layer_shape(model: Model, device: NeupimsDevice, ways: int) -> LayerShape:
    """The layer of `model` on `ways` devices. Raises ConfigError for what they cannot run."""
    limits = {
        "kv_heads": model.key_value_heads == model.heads,
        "kv_dtype": model.kv_element_bytes == device.organisation.element_bytes,
        "weight_dtype": model.weight_element_bytes == device.organisation.element_bytes,
        "head_dim": model.head_size * model.heads == model.hidden,
        "experts": model.experts is None,
        "parallel_attention": not model.parallel_attention,
        "windowed_layers": not model.windowed_layers,
    }
    for key, fits in limits.items():
        if not fits:
            raise ConfigError(
                f"{device.name} runs dense layers of one key/value head a query head, in 2 B elements, attention "
                f"before feed-forward; found {getattr(model, key)} in {model.name}", key=key,
            )  # fmt: skip
    return LayerShape(model.hidden, model.heads, model.ffn_hidden, ways, model.ffn_gated)


def _order(stages: dict[str, Stage], layers: int) -> Iterator[tuple[int, Stage]]:
    """Every stage of the model in its order, with the layer it belongs to (the one whose QKV came last before it)."""
    if "C" not in stages:
        for layer in range(layers):
            for name in "ABE":
                yield layer, stages[name]
        return
    for name in "AB":
        yield 0, stages[name]
    for layer in range(1, layers):
        for name in "CD":
            yield layer, stages[name]
    for name in "EF":
        yield layers - 1, stages[name]


def _assemble(
    unit: NeupimsUnit, found: NeupimsLayerResult, tasks: Sequence[CostedTask], layers: int, parts: int
) -> Step:
    """Put the stages of all layers behind one another and share the time out over the tasks of the plan."""
    cycle_s = found.seconds / found.cycles
    number = {name: index for index, task in enumerate(tasks) for name in task.planned.name.split("+")}
    stages = {stage.name: stage for stage in found.stages}
    builder = TaskTableBuilder()
    last: list[int] = []
    inside = [index for index, task in enumerate(tasks) if task.planned.in_layer]
    for index in [index for index in range(inside[0]) for _ in range(parts)]:
        last = [builder.add("npu", tasks[index].seconds, index, last, OUTSIDE_LAYERS)]
    total_s = [0.0] * len(tasks)
    energy: dict[str, float] = {}
    for layer, stage in _order(stages, layers):
        last = _add_stage(builder, stage, number, cycle_s, last, layer, total_s)
        for part, joules in stage.energy_by_component_j.items():
            energy[part] = energy.get(part, 0.0) + joules
    for index in [index for index in range(inside[-1] + 1, len(tasks)) for _ in range(parts)]:
        last = [builder.add("npu", tasks[index].seconds, index, last, OUTSIDE_LAYERS)]
    schedule = builder.build().schedule()
    shares = schedule.exposed_s(len(tasks))
    counted = []
    for index, task in enumerate(tasks):
        runs = task.planned.repeat * parts
        task = replace(task, planned=replace(task.planned, repeat=runs))
        if index in inside:
            task = replace(task, seconds=total_s[index] / runs)
        if isinstance(task.planned.work, PimAttention):
            own = {part: joules for part, joules in energy.items() if part not in NPU_TRAFFIC}
            task = replace(
                task, bound="pim",
                energy_j={f"{task.unit}.{part}": joules * unit.count / runs for part, joules in own.items()},
            )  # fmt: skip
        counted.append(task)
    return Step(tuple(counted), shares[:-1], float(shares[-1]), schedule)


def _add_stage(
    builder: TaskTableBuilder, stage: Stage, number: dict[str, int], cycle_s: float, after: list[int], layer: int,
    total_s: list[float],
) -> list[int]:  # fmt: skip
    """Add both sides of a stage, each one operator after the other; the longer side lasts until the stage ends."""
    sides = {
        "npu": [(number[name], cycles) for name, cycles in stage.npu_operators],
        "pim": [(number["attention"], cycles) for _, cycles in stage.pim_operators],
    }
    ends = []
    longer = "npu" if stage.npu_cycles >= stage.pim_cycles else "pim"
    for resource, side in sides.items():
        if not side:
            continue
        if resource == longer:
            index, cycles = side[-1]
            side[-1] = (index, cycles + stage.cycles - sum(cycles for _, cycles in side))
        last = after
        for index, cycles in side:
            last = [builder.add(resource, cycles * cycle_s, index, last, layer)]
            total_s[index] += cycles * cycle_s
        ends += last
    return ends
