"""From an operator graph to a plan: which unit runs what, what moves over which link, what waits for what.

A plan knows shapes and places, no times: those come from the execution floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import networkx as nx

from archsim.compute.operation import Operation
from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.errors import ConfigError
from archsim.mapping.library import expert_block, flash_attention, query_norm, rotation
from archsim.mapping.shard import ATTENTION, is_ffn_weight, is_row_split, shard
from archsim.workload.operator import Operator

PIPELINED_GEMMS = ("qkv", "attention_out")
OUTSIDE = ("embedding", "norm_embedding", "norm_final", "lm_head", "sampling", "framework")


@dataclass(frozen=True)
class Compute:
    """One operator, sharded over the devices of a unit."""

    unit: str
    operation: Operation
    devices: int


@dataclass(frozen=True)
class PimAttention:
    """Score, softmax and context of a decode step as one program of a memory that computes."""

    unit: str
    devices: int
    heads_per_device: int  # key/value heads x requests
    requests: int
    queries_per_kv: int
    context_tokens: int
    head_size: int
    kv_element_bytes: float
    flop: float  # of the whole batch


@dataclass(frozen=True)
class AllReduce:
    """Sum of partial results over the devices of one unit; `bytes` is one device's whole tensor."""

    connection: str
    ranks: int
    groups: int
    bytes: float


@dataclass(frozen=True)
class Transfer:
    """Bytes over each of `links` parallel links of a connection; `memory`: read from this memory unit, not sent."""

    connection: str
    links: int
    bytes_per_link: float
    memory: str | None = None


@dataclass(frozen=True)
class Coprocessed:
    """A weight GEMM shared out between the main unit and a memory that holds a part of the weights."""

    compute: Compute
    pim_unit: str
    pim_devices: int
    weight_bytes: float  # of one main device's shard


@dataclass(frozen=True)
class Framework:
    """What a pass costs once: its launch and the host work of the serving framework around it."""

    unit: str
    requests: int
    prompt_layers: int  # layers of a pass over prompts, else 0
    tokens: int = 0  # new ones, of all requests of an engine


Work = Compute | PimAttention | AllReduce | Transfer | Coprocessed | Framework


@dataclass(frozen=True)
class PlannedTask:
    """One line of the plan; `resource` is what it occupies, `heads` how many head-level parts it may be cut into."""

    name: str
    resource: str
    work: Work
    repeat: int
    after: tuple[str, ...]
    heads: int = 1
    in_layer: bool = True  # part of every layer, or before or after all of them


@dataclass
class Plan:
    """Everything one pass (a prefill, or one decode step) does, in order."""

    system: System
    model: Model
    phase: str
    layers: int
    tasks: list[PlannedTask] = field(default_factory=list)


@dataclass(frozen=True)
class Places:
    """Units and parallel degrees that follow from a system's rules."""

    main: str
    attention: str
    kv_home: str
    ways: int  # devices of one model copy
    groups: int  # model copies

    @classmethod
    def of(cls, system: System, phase: str) -> Places:
        """The places of a phase."""
        rules = system.mapping
        decode_unit = rules.decode_attention or rules.main
        unit = decode_unit if phase == "decode" else (rules.prefill_attention or rules.main)
        groups = rules.data_parallel
        return cls(rules.main, unit, decode_unit, system.units[rules.main].count // groups, groups)


def make_plan(system: System, model: Model, graph: nx.DiGraph[str]) -> Plan:
    """Place every operator of `graph` (one model copy's share of the batch) on `system`.

    Raises ConfigError if an operator would have to move over a link the system does not have.
    """
    return _Planner(system, model, graph).plan()


def timed_by_kernels(system: System, unit: str) -> bool:
    """Whether a unit's operators are timed as the kernels of a GPU library, attention as one of them."""
    found = system.units[unit]
    return found.type == "gpu" and found.device.timing.model == "kernels"


def attends_in_one_launch(system: System) -> bool:
    """Whether the prompts and the decodes of an iteration share the launches of attention."""
    rules = system.mapping
    homes = {rules.prefill_attention or rules.main, rules.decode_attention or rules.main}
    found = system.units[rules.main]
    if homes != {rules.main} or rules.sub_batches > 1 or found.type != "gpu":
        return False
    return found.device.timing.model == "kernels" and found.device.timing.one_launch


def fuses_attention(system: System, unit: str) -> bool:
    """Whether a unit runs score, softmax and context as one operation without storing the scores."""
    found = system.units[unit]
    return timed_by_kernels(system, unit) or (found.type == "npu" and found.device.fused_attention)


class _Planner:
    def __init__(self, system: System, model: Model, graph: nx.DiGraph[str]) -> None:
        self._system, self._model, self._graph = system, model, graph
        self._phase = str(graph.graph["phase"])
        self._places = Places.of(system, self._phase)
        self._slips = system.mapping.reference_slips
        self._plan = Plan(system, model, self._phase, model.layers)
        self._produced: dict[str, str] = {}  # operator -> task whose end makes its result available
        self._partial: set[str] = set()  # operators whose result is a partial sum on every device

    def plan(self) -> Plan:
        for name in nx.topological_sort(self._graph):
            operator: Operator = self._graph.nodes[name]["operator"]
            self._place(operator)
        if timed_by_kernels(self._system, self._places.main):
            batch, new_tokens = (int(self._graph.graph[name]) for name in ("batch", "new_tokens"))
            layers = self._model.layers if self._phase == "prefill" else 0
            work = Framework(self._places.main, batch * self._places.groups, layers, batch * new_tokens)
            self._add("framework", self._places.main, work, 1, [self._plan.tasks[-1].name], 1)
        return self._plan

    def _place(self, operator: Operator) -> None:
        unit = self._unit_of(operator)
        before = [self._moved(name, unit) for name in self._graph.predecessors(operator.name)]
        if self._in_expert_kernel(operator, unit, before):
            return
        in_memory = self._system.units[unit].in_memory and operator.kind in ATTENTION
        fused = in_memory or (operator.kind in ATTENTION and fuses_attention(self._system, unit))
        if fused and operator.kind != "score":
            self._produced[operator.name] = before[0]  # a part of the fused attention program
            return
        if operator.kind == "activation" and self._join_product(operator, unit):
            return
        if self._sums_partials(operator):
            before = [self._reduce(operator, before)]
            if self._norm_in_all_reduce(operator, unit):
                self._produced[operator.name] = before[0]
                return
        name = "attention" if fused else operator.name
        work: Work = self._work(operator, unit)
        if fused:
            work = self._attention(operator, unit) if in_memory else self._flash(operator, unit)
        self._add(name, unit, work, operator.repeat, before, self._heads(operator))
        self._produced[operator.name] = name
        if timed_by_kernels(self._system, unit):
            self._kernels_after(operator, unit)
        if operator.name == "qkv" and self._phase == "prefill" and self._model.architecture == "decoder":
            self._store_kv(operator)

    def _norm_in_all_reduce(self, operator: Operator, unit: str) -> bool:
        found = self._system.units[unit]
        fused = found.type == "gpu" and found.launch.norm_in_all_reduce and timed_by_kernels(self._system, unit)
        return fused and operator.kind == "norm" and self._phase == "decode"

    def _kernels_after(self, operator: Operator, unit: str) -> None:
        """What a GPU's library launches beside a product: norm and rotation of queries and keys, sampling."""
        model, found = self._model, self._system.units[unit]
        if operator.name == "lm_head":
            self._launch("sampling", unit, Operation("softmax", operator.m, operator.n, function="sampling"), operator)
        if operator.name != "qkv":
            return
        share = self._shard(operator, unit)
        if model.query_key_norm == "all" and self._places.ways > 1:  # two sums a token, added up over the devices
            connection, _ = self._connection(self._places.main, self._places.main)
            work = AllReduce(connection, self._places.ways, self._places.groups, operator.m * 2 * 4.0)
            self._add("all_reduce_qk", connection, work, operator.repeat, [self._produced["qkv"]], 1)
            self._produced["qkv"] = "all_reduce_qk"
        if model.query_key_norm != "none":
            self._launch("norm_qk", unit, query_norm(model, share), operator)
        if model.rotary_positions and found.type == "gpu" and found.launch.rope_kernel:
            self._launch("rope", unit, rotation(model, share), operator)

    def _launch(self, name: str, unit: str, operation: Operation, after: Operator) -> None:
        """A kernel that works on the result of `after` in place."""
        work = Compute(unit, operation, self._system.units[unit].count)
        self._add(name, unit, work, after.repeat, [self._produced[after.name]], 1)
        self._produced[after.name] = name

    def _in_expert_kernel(self, operator: Operator, unit: str, before: list[str]) -> bool:
        """Top-k, experts and their sum are one operation of a GPU's kernel library; whether this is a part of it."""
        experts = self._model.experts
        if experts is None or not timed_by_kernels(self._system, unit) or self._system.mapping.ffn_coprocessing:
            return False
        if operator.name == "ffn_up":
            tokens = int(self._graph.graph["batch"]) * int(self._graph.graph["new_tokens"])
            kernel = expert_block(self._model, operator, self._shard(operator, unit), tokens)
            work = Compute(unit, kernel, self._system.units[unit].count)
            self._add("experts", unit, work, operator.repeat, before, 1)
            self._produced["ffn_up"] = "experts"
        elif operator.name in ("activation", "ffn_down") or (operator.name == "ffn_combine" and not experts.shared):
            self._produced[operator.name] = "experts"
            self._sums_partials(operator)
        else:
            return False
        return True

    def _sums_partials(self, operator: Operator) -> bool:
        """Follow partial sums: additions keep them partial, anything else needs them summed over the devices."""
        if self._places.ways == 1:
            return False
        inherited = any(name in self._partial for name in self._graph.predecessors(operator.name))
        if is_row_split(operator) or (inherited and operator.kind == "add"):
            self._partial.add(operator.name)
            return False
        return inherited

    def _unit_of(self, operator: Operator) -> str:
        return self._places.attention if operator.kind in ATTENTION else self._places.main

    def _shard(self, operator: Operator, unit: str) -> Operation:
        ways = self._system.units[unit].count // self._places.groups
        groups = self._system.mapping.expert_parallel
        if groups > 1 and self._model.experts is not None and operator.name in ("ffn_up", "ffn_gate", "ffn_down"):
            share = shard(operator, ways // groups, self._model.key_value_heads, self._slips)
            count = math.ceil(share.count / groups)  # whole experts, of those that this batch touches
            return replace(share, count=count, flop=share.flop * count / share.count)
        return shard(operator, ways, self._model.key_value_heads, self._slips)

    def _work(self, operator: Operator, unit: str) -> Work:
        operation = self._shard(operator, unit)
        if operator.name == "qkv" and self._model.rotary_positions and self._joins_vector_work(unit):
            # the whole result passes the rotation, values with angle 0; not counted as FLOP, as on other units
            operation = replace(operation, then=replace(operation, kind="activation", function="rope", flop=0.0))
        compute = Compute(unit, operation, self._system.units[unit].count)
        helper = self._places.attention
        if self._system.mapping.ffn_coprocessing and self._phase == "decode" and is_ffn_weight(operator):
            weight_bytes = operation.n * operation.k * operation.count * operation.b_bytes
            return Coprocessed(compute, helper, self._system.units[helper].count, weight_bytes)
        return compute

    def _joins_vector_work(self, unit: str) -> bool:
        found = self._system.units[unit]
        return found.type == "npu" and found.device.fused_activation

    def _join_product(self, operator: Operator, unit: str) -> bool:
        """Let an NPU apply an activation to the result tiles of the product before it, on their way out."""
        products = list(self._graph.predecessors(operator.name))
        if not self._joins_vector_work(unit) or len(products) != 1:
            return False
        name = self._produced[products[0]]
        index = next(i for i, task in enumerate(self._plan.tasks) if task.name == name)
        task = self._plan.tasks[index]
        if not isinstance(task.work, Compute) or task.work.unit != unit:
            return False
        then = self._shard(operator, unit)
        product = task.work.operation
        joined = replace(task.work, operation=replace(product, then=then, flop=product.flop + then.flop))
        self._plan.tasks[index] = replace(task, name=f"{name}+{operator.name}", work=joined)
        self._produced[products[0]] = self._produced[operator.name] = f"{name}+{operator.name}"
        return True

    def _flash(self, score: Operator, unit: str) -> Compute:
        kernel = flash_attention(self._model, score, self._shard(score, unit))
        return Compute(unit, kernel, self._system.units[unit].count)

    def _attention(self, score: Operator, unit: str) -> PimAttention:
        devices = self._system.units[unit].count
        operation = self._shard(score, unit)
        flop = sum(self._graph.nodes[name]["operator"].flop for name in ATTENTION)
        return PimAttention(
            unit,
            devices,
            int(operation.count),
            score.count // self._model.key_value_heads,
            int(operation.m),
            score.n,
            score.k,
            score.b_bytes,
            flop * self._places.groups,
        )

    def _heads(self, operator: Operator) -> int:
        """Into how many head-level parts the pipelining rule lets this operator be cut."""
        rule = self._system.mapping.attention_pipelining
        if rule == "none" or self._phase != "decode" or self._places.attention == self._places.main:
            return 1
        cut = operator.kind in ATTENTION or (rule == "full" and operator.name in PIPELINED_GEMMS)
        return self._shard_heads() if cut else 1

    def _shard_heads(self) -> int:
        return max(1, math.ceil(self._model.heads / self._places.ways))

    def _moved(self, source: str, unit: str) -> str:
        """The task after which the result of `source` is at `unit`: a transfer, if it was made elsewhere."""
        producer: Operator = self._graph.nodes[source]["operator"]
        task = self._produced[source]
        origin = self._unit_of(producer)
        if origin == unit or self._share_memory(origin, unit):
            return task
        name = f"{source}_to_{unit}"
        if all(planned.name != name for planned in self._plan.tasks):
            connection, links = self._connection(origin, unit)
            total_bytes = producer.write_bytes * self._places.groups
            work = Transfer(connection, links, total_bytes / links)
            rule = self._system.mapping.attention_pipelining
            heads = self._shard_heads() if self._phase == "decode" and rule != "none" else 1
            self._add(name, f"{connection}:{origin}->{unit}", work, producer.repeat, [task], heads)
        return name

    def _store_kv(self, qkv: Operator) -> None:
        """Prompt keys and values travel to the memory where decode attention will need them."""
        home = self._places.kv_home
        if home == self._places.attention or self._slips or self._share_memory(self._places.main, home):
            return
        connection, links = self._connection(self._places.main, home)
        per_token = 2 * self._model.key_value_heads * self._model.head_size * self._model.kv_element_bytes
        work = Transfer(connection, links, qkv.m * per_token * self._places.groups / links)
        self._add("store_kv", f"{connection}:{self._places.main}->{home}", work, qkv.repeat, [self._produced["qkv"]], 1)

    def _share_memory(self, first: str, second: str) -> bool:
        units = self._system.units
        return (units[first].memory_in or first) == (units[second].memory_in or second)

    def _reduce(self, operator: Operator, after: list[str]) -> str:
        connection, _ = self._connection(self._places.main, self._places.main)
        name = f"all_reduce_{operator.name.removeprefix('norm_')}"
        size = operator.m * operator.n * operator.a_bytes
        work = AllReduce(connection, self._places.ways, self._places.groups, size)
        self._add(name, connection, work, operator.repeat, after, 1)
        return name

    def _connection(self, first: str, second: str) -> tuple[str, int]:
        """Name of the connection between two units, and how many links of it work in parallel."""
        for name, connection in self._system.connections.items():
            if connection.between in ((first, second), (second, first)):
                return name, self._system.units[connection.between[0]].count
        known = ", ".join(f"{c.between[0]}-{c.between[1]}" for c in self._system.connections.values()) or "none"
        raise ConfigError(
            f"data moves between {first!r} and {second!r}, but no connection joins them (there are: {known})",
            file=self._system.name, key="connections",
        )  # fmt: skip

    def _add(self, name: str, resource: str, work: Work, repeat: int, after: list[str], heads: int) -> None:
        in_layer = name not in OUTSIDE
        self._plan.tasks.append(PlannedTask(name, resource, work, repeat, tuple(dict.fromkeys(after)), heads, in_layer))
