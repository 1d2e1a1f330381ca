"""A parallel plan, as it is reported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedOperator:
    """How the stage runs one operator; `runs` times per micro-batch (once a layer, or once)."""

    name: str
    transform: str
    runs: int
    compute_s: float  # all runs
    convert_s: float  # of its inputs, all runs


@dataclass(frozen=True)
class Stage:
    """Layers [first_layer, last_layer] on devices [first_device, last_device] (both ends included).

    time_s is one micro-batch: compute_s + convert_s. memory_bytes is the peak of one device.
    """

    first_layer: int
    last_layer: int
    first_device: int
    last_device: int
    time_s: float
    compute_s: float
    convert_s: float
    memory_bytes: int
    operators: tuple[PlannedOperator, ...]


@dataclass(frozen=True)
class PlanPoint:
    """A point of the trade between time and memory."""

    time_s: float
    memory_bytes: int
    dp: int
    tp: tuple[int, ...]
    micro_batches: int


@dataclass(frozen=True)
class ParallelPlan:
    """The fastest plan found for one pass.

    time_s          of the pass: compute_s + convert_s + waiting_s, as the devices of the slowest stage spend it
    waiting_s       filling and draining the pipeline, hops included
    tokens_per_s    new tokens of the whole batch over time_s
    searched        combinations of data parallelism and micro-batches looked at, those ruled out by a bound included
    pareto          time against memory of one device, fastest first (this plan is the first)
    checked_by_milp whether the linear program gave the same layer times; None: not asked for
    """

    system: str
    model: str
    phase: str
    batch: int
    new_tokens: int
    context_tokens: int
    devices: int
    dp: int
    micro_batches: int
    interleave: int
    time_s: float
    compute_s: float
    convert_s: float
    waiting_s: float
    tokens_per_s: float
    memory_bytes: int
    memory_limit_bytes: int
    stages: tuple[Stage, ...]
    searched: int
    pareto: tuple[PlanPoint, ...] = ()
    checked_by_milp: bool | None = None
    notes: tuple[str, ...] = ()  # what a reader must know about the models of the machine

    @property
    def tp(self) -> tuple[int, ...]:
        """Devices of each stage."""
        return tuple(stage.last_device - stage.first_device + 1 for stage in self.stages)
