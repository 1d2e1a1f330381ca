"""What the stages of a parallel plan take: operators timed by the device model, tensors by the network model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from archsim.compute import Operation
from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.execution.launch import launched
from archsim.execution.processors import time_on
from archsim.mapping.capacity import device_capacity_bytes
from archsim.mapping.library import with_flash_attention
from archsim.mapping.plan import OUTSIDE, fuses_attention
from archsim.mapping.search.constraints import Constraints
from archsim.mapping.search.conversions import LAYOUTS, PS_PER_S, conversions
from archsim.mapping.search.frontier import frontier
from archsim.mapping.search.problem import Choice, Edge, Problem, Solution
from archsim.mapping.search.transforms import TOKENS, WHOLE, Transform, transforms
from archsim.network.fabric import Fabric
from archsim.workload import build_graph
from archsim.workload.operator import Operator, Phase

_NEVER = np.int64(2) ** 62


@dataclass(frozen=True)
class Pass:
    """The pass a plan is made for."""

    system: System
    model: Model
    phase: Phase
    batch: int
    new_tokens: int
    context_tokens: int
    constraints: Constraints = field(default_factory=Constraints)

    @cached_property
    def fabric(self) -> Fabric:
        """The links among the devices of the main unit."""
        main = self.system.mapping.main
        inside = [c.link for c in self.system.connections.values() if c.between == (main, main)]
        between = self.system.cluster.link if self.system.cluster else None
        return Fabric(self.system.units[main].count, inside[0] if inside else None, between)

    def graph(self, requests: int) -> nx.DiGraph[str]:
        """The operators of `requests`; attention is one where the main unit runs it as one kernel."""
        graph = build_graph(self.model, self.phase, requests, self.new_tokens, self.context_tokens)
        if fuses_attention(self.system, self.system.mapping.main):
            return with_flash_attention(self.model, graph)
        return graph

    @property
    def devices(self) -> int:
        """Devices of the main unit in all nodes."""
        return self.fabric.node * (self.system.cluster.nodes if self.system.cluster else 1)

    @cached_property
    def capacity_bytes(self) -> int:
        """Memory of one device."""
        return int(device_capacity_bytes(self.system.units[self.system.mapping.main]))


@dataclass(frozen=True)
class Part:
    """A solved piece of a stage with the problem it solves."""

    problem: Problem
    solution: Solution


@dataclass(frozen=True)
class StageParts:
    """A stage: what stands before the layers, one layer (run `layers` times), what stands after."""

    before: Part
    layer: Part
    after: Part
    layers: int
    time_ps: int
    memory_bytes: int


@dataclass(frozen=True)
class _Every:
    """All combinations of parts around one layout; arrays (before, layer, after, layers + 1)."""

    before: list[Part]
    layer: list[Part]
    after: list[Part]
    times: NDArray[np.int64]
    memory: NDArray[np.int64]

    @classmethod
    def of(cls, before: list[Part], layer: list[Part], after: list[Part], count: NDArray[np.int64]) -> _Every:
        """`count` (layers + 1,) runs of the layer between one of `before` and one of `after`."""

        def spread(name: str) -> list[NDArray[np.int64]]:
            columns = [np.array([getattr(part.solution, name) for part in parts]) for parts in (before, layer, after)]
            return [columns[0][:, None, None, None], columns[1][:, None, None], columns[2][:, None]]

        ahead, inside, behind = spread("time_ps")
        held = spread("resident_bytes")
        resident = held[0] + held[1] * count + held[2]
        first, middle, last = spread("transient_bytes")
        transient = np.maximum(np.maximum(first, middle), last)
        return cls(before, layer, after, ahead + inside * count + behind, resident + transient)


@dataclass
class Costs:
    """Stages of a pass for groups of `ways` devices and micro-batches of `requests`.

    replica_requests  requests whose keys and values a stage keeps (all its micro-batches)
    pieces            consider co-sharded operators
    """

    work: Pass
    replica_requests: int
    requests: int
    ways: int
    pieces: bool
    operations: dict[Operation, int]  # timed before; shared between all costs of a search

    @cached_property
    def _graph(self) -> nx.DiGraph[str]:
        return self.work.graph(self.requests)

    @property
    def boundary_bytes(self) -> float:
        """The tensor between two layers."""
        model = self.work.model
        return self.requests * self.work.new_tokens * model.hidden * model.activation_element_bytes

    @cached_property
    def least_layer_ps(self) -> int:
        """What a layer takes at least: its operators each at their fastest."""
        operators = [self._graph.nodes[name]["operator"] for name in self._layer()]
        return sum(min((choice.time_ps for choice in self._choices(one)), default=0) for one in operators)

    def stages(self, limit_bytes: int) -> NDArray[np.int64]:
        """(layers + 1, 2, 2) picoseconds by number of layers, first, last; -1 where nothing fits."""
        table = np.full((self.work.model.layers + 1, 2, 2), -1, dtype=np.int64)
        for first, last in product((0, 1), (0, 1)):
            for every in self._combinations(first, last):
                least = np.where(every.memory <= limit_bytes, every.times, _NEVER).min(axis=(0, 1, 2))
                better = (least < _NEVER) & ((table[:, first, last] < 0) | (least < table[:, first, last]))
                better[0] = False
                table[better, first, last] = least[better]
        return table

    def stage(self, layers: int, first: bool, last: bool, limit_bytes: int) -> StageParts:
        """The stage behind an entry of `stages`: of the fastest the one with least memory."""
        found: list[StageParts] = []
        for every in self._combinations(int(first), int(last)):
            times, memory = every.times[..., layers], every.memory[..., layers]
            for i, j, k in np.argwhere(memory <= limit_bytes):
                parts = (every.before[i], every.layer[j], every.after[k])
                found.append(StageParts(*parts, layers, int(times[i, j, k]), int(memory[i, j, k])))
        return min(found, key=lambda stage: (stage.time_ps, stage.memory_bytes))

    def _combinations(self, first: int, last: int) -> list[_Every]:
        if (first, last) not in self._combined:
            layouts = LAYOUTS if self.ways > 1 else (WHOLE,)
            kinds = ("before" if first else "entry", "layer", "after" if last else "exit")
            every = [[self._parts(kind, layout) for kind in kinds] for layout in layouts]
            count = np.arange(self.work.model.layers + 1)
            self._combined[first, last] = [_Every.of(a, b, c, count) for a, b, c in every if a and b and c]
        return self._combined[first, last]

    @cached_property
    def _combined(self) -> dict[tuple[int, int], list[_Every]]:
        return {}

    def _parts(self, which: str, layout: str) -> list[Part]:
        key = (which, layout)
        if key not in self._solved:
            problem, limit = self._problem(which, layout), self.work.capacity_bytes if self.pieces else None
            self._solved[key] = [Part(problem, found) for found in frontier(problem, limit)]
        return self._solved[key]

    @cached_property
    def _solved(self) -> dict[tuple[str, str], list[Part]]:
        return {}

    def _problem(self, which: str, layout: str) -> Problem:
        """A part of the graph between two ends of fixed layout (the pipeline hands tokens on)."""
        inside = {"before": self._outside(True), "after": self._outside(False), "layer": self._layer()}.get(which, [])
        begin = {"before": None, "entry": self._token_layout}.get(which, layout)
        end = {"after": None, "exit": self._token_layout}.get(which, layout)
        names: list[str] = []
        choices: list[tuple[Choice, ...]] = []
        edges: list[Edge] = []
        boundary = self._converted(self.boundary_bytes)
        if begin is not None:
            names.append("input")
            choices.append((Choice(begin, 0, 0, 0, begin, begin),))
        for name in inside:
            operator: Operator = self._graph.nodes[name]["operator"]
            before = [source for source in self._graph.predecessors(name) if source in inside]
            for source in before:
                edges.append(
                    Edge(
                        names.index(source),
                        len(names),
                        self._converted(self._graph.nodes[source]["operator"].write_bytes),
                    )
                )
            if not before and begin is not None:
                edges.append(Edge(0, len(names), boundary))
            names.append(name)
            choices.append(self._choices(operator))
        if end is not None:
            names.append("output")
            choices.append((Choice(end, 0, 0, 0, end, end),))
            last = [len(names) - 2] if len(names) > 1 else []
            edges += [Edge(source, len(names) - 1, boundary) for source in last]
        return Problem(tuple(names), tuple(choices), tuple(edges))

    @property
    def _token_layout(self) -> str:
        return TOKENS if self.ways > 1 else WHOLE

    @cached_property
    def _order(self) -> list[str]:
        return list(nx.topological_sort(self._graph))

    def _layer(self) -> list[str]:
        return [name for name in self._order if name not in OUTSIDE]

    def _outside(self, before: bool) -> list[str]:
        early = ("embedding", "norm_embedding")
        names = [name for name in self._order if name in OUTSIDE]
        return [name for name in names if (name in early) == before]

    def _transforms(self, operator: Operator) -> list[Transform]:
        kv_heads = self.work.model.key_value_heads
        queries = self.work.model.heads // kv_heads
        found = transforms(
            operator, self.ways, self.requests, kv_heads, pieces=self.pieces, queries_per_kv=queries
        )  # fmt: skip
        return [t for t in found if self.work.constraints.allows_transform(operator.name, t.name)]

    def _choices(self, operator: Operator) -> tuple[Choice, ...]:
        if operator.name not in self._made:
            self._made[operator.name] = tuple(self._choice(operator, t) for t in self._transforms(operator))
        return self._made[operator.name]

    @cached_property
    def _made(self) -> dict[str, tuple[Choice, ...]]:
        return {}

    def _converted(self, tensor_bytes: float) -> dict[tuple[str, str], int]:
        if tensor_bytes not in self._conversions:
            found = conversions(self.ways, tensor_bytes, self._collective, pieces=self.pieces)
            self._conversions[tensor_bytes] = found
        return self._conversions[tensor_bytes]

    @cached_property
    def _conversions(self) -> dict[float, dict[tuple[str, str], int]]:
        return {}

    def _collective(self, name: str, ranks: int, bytes_: float) -> float:
        return self.work.fabric.seconds(name, ranks, bytes_)

    def _choice(self, operator: Operator, transform: Transform) -> Choice:
        if transform.operation not in self.operations:
            self.operations[transform.operation] = round(self._seconds(transform.operation) * PS_PER_S)
        time_ps = self.operations[transform.operation] * transform.pieces
        transient = transform.operand_bytes + transform.result_bytes
        cache = operator.b_elements * operator.b_bytes if operator.kind in ("score", "context", "attention") else 0.0
        if transform.gathers_cache:
            time_ps += round(self._collective("all-gather", self.ways, cache) * PS_PER_S)
            transient += cache
        resident = self._weights(operator) * transform.weight_share
        if self.work.model.architecture == "decoder":
            resident += cache * transform.cache_share * self.replica_requests / self.requests
        else:
            transient += cache * transform.cache_share
        return Choice(
            transform.name, time_ps, math.ceil(resident), math.ceil(transient), transform.needs, transform.gives
        )

    def _seconds(self, operation: Operation) -> float:
        """As a pass pays it: kernels of a GPU's library in the execution mode of the machine, floors counted once."""
        unit = self.work.system.units[self.work.system.mapping.main]
        operation = replace(operation, causal=self.work.model.architecture == "decoder")
        if unit.type == "gpu" and unit.device.timing.model == "kernels":
            return launched(unit.device, unit.launch, operation).seconds
        return time_on(unit.device, operation).seconds

    def _weights(self, operator: Operator) -> float:
        if operator.kind == "gather":
            model = self.work.model
            rows = model.vocab + (model.max_positions if model.learned_positions else 0)
            return rows * model.hidden * model.part_element_bytes("embeddings")
        return operator.weight_bytes
