"""Evaluate one workload on one machine: latency, energy and capacity, each with its breakdown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from archsim import __version__
from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.errors import UsageError
from archsim.execution.attention import AttentionModel, simulated_attention
from archsim.execution.costing import Costing
from archsim.execution.npu.timeline import tiles_of
from archsim.execution.sampling import FIRST_INTERVALS, Sampled, sample_lengths
from archsim.execution.step import DecodeSteps, Step, mean_step, simulate_pass
from archsim.execution.timeline import make_timeline
from archsim.mapping.capacity import check_fits, free_bytes
from archsim.mapping.plan import Coprocessed
from archsim.mapping.spill import NO_SPILL, Spill, spill_of
from archsim.results import (
    Capacity,
    Cost,
    Energy,
    Latency,
    OperatorResult,
    Report,
    Request,
    Throughput,
    UnitCapacity,
)
from archsim.workload.operator import Phase

INTERPOLATION_TOLERANCE = 0.002
COSIMULATION_TOLERANCE = 0.02
MAX_TOKENS = 1 << 24


def evaluation(
    system: System,
    model: Model,
    batch: int | None,
    input_len: int,
    output_len: int,
    exact: bool = False,
    attention: AttentionModel = simulated_attention,
) -> Evaluation:
    """Check the sizes and the memory, and return the evaluation, whose parts are computed on first use.

    Raises InfeasibleError if the work does not fit, UsageError for sizes out of range. See `archsim.evaluate`.
    """
    return Evaluation(system, model, _checked(system, model, batch, input_len, output_len), exact, attention)


def _checked(system: System, model: Model, batch: int | None, input_len: int, output_len: int) -> Request:
    if system.cluster is not None:
        raise UsageError(
            f"{system.name} is a cluster of {system.cluster.nodes} nodes; 'archsim plan' searches over all of them, "
            "everything else describes one node (use its own description)"
        )
    sizes = {"input_len": input_len, "output_len": output_len} | ({} if batch is None else {"batch": batch})
    for name, value in sizes.items():
        if not 1 <= value <= MAX_TOKENS:
            raise UsageError(f"{name}: found {value}, allowed: 1 to {MAX_TOKENS}")
    if model.architecture == "encoder":
        output_len = 1  # an encoder makes one pass over its input
    found = check_fits(system, model, batch or 1, input_len, output_len)
    return Request(found.max_batch if batch is None else batch, input_len, output_len)


@dataclass(frozen=True)
class Evaluation:
    """The parts of one evaluation; each is computed once, on first use."""

    system: System
    model: Model
    request: Request
    exact: bool
    attention: AttentionModel

    @cached_property
    def capacity(self) -> Capacity:
        """Memory use, with the feed-forward weights that co-processing keeps in memory."""
        request = self.request
        found = check_fits(self.system, self.model, request.batch, request.input_len, request.output_len)
        share = 0.0 if self.system.mapping.reference_slips else self._coprocessed_share
        return _with_ffn_weights(found, self.system, share * _ffn_weight_bytes(self.model))

    @cached_property
    def _spill(self) -> Spill:
        request = self.request
        found = check_fits(self.system, self.model, request.batch, request.input_len, request.output_len)
        return spill_of(self.system, found.units)

    @cached_property
    def _coprocess_limit(self) -> float:
        unit = self.system.mapping.decode_attention
        if unit is None or not self.system.mapping.ffn_coprocessing:
            return 1.0
        request = self.request
        room = free_bytes(self.system, self.model, unit, request.batch, request.input_len, request.output_len)
        return min(1.0, room / _ffn_weight_bytes(self.model))

    @cached_property
    def _coprocessed_share(self) -> float:
        if self.decode is None:
            return 0.0
        shares = [(task.pim_share, task.planned.work) for task in self.decode.tasks]
        weighted = [(share, work.weight_bytes) for share, work in shares if isinstance(work, Coprocessed)]
        return sum(s * w for s, w in weighted) / sum(w for _, w in weighted) if weighted else 0.0

    @cached_property
    def _cosimulated(self) -> bool:
        """Are NPU and memory simulated together? Then a KV length takes seconds, not milliseconds."""
        rules = self.system.mapping
        home = rules.decode_attention
        return home is not None and self.system.units[home].type == "neupims"

    @cached_property
    def _decode_steps(self) -> DecodeSteps | None:
        """What decode steps of all KV lengths share, where attention runs in memory."""
        home = self.system.mapping.decode_attention
        windowed = self.model.windowed_layers > 0
        if home is None or not self.system.units[home].in_memory or self._spill != NO_SPILL or windowed:
            return None
        costing = Costing(self.system, self.attention, self._coprocess_limit)
        return DecodeSteps(costing, self.model, self.request.batch)

    def step(self, phase: Phase, new_tokens: int, context_tokens: int) -> Step:
        """One pass of the whole batch."""
        if phase == "decode" and self._cosimulated:
            from archsim.execution.neupims.step import simulate_step

            return simulate_step(self.system, self.model, self.request.batch, context_tokens)
        if phase == "decode" and self._decode_steps is not None:
            return self._decode_steps.at(context_tokens)
        limit = self._coprocess_limit if phase == "decode" else 1.0
        costing = Costing(self.system, self.attention, limit, self._spill)
        return simulate_pass(costing, self.model, phase, self.request.batch, new_tokens, context_tokens)

    @cached_property
    def prefill(self) -> Step:
        """The prompts of the whole batch in one pass."""
        return self.step("prefill", self.request.input_len, self.request.input_len)

    @cached_property
    def _sampled(self) -> tuple[Sampled, dict[int, Step]]:
        steps: dict[int, Step] = {}

        def step_s(length: int) -> float:
            steps[length] = self.step("decode", 1, length)
            return steps[length].seconds

        first, last = self.request.input_len + 1, self.request.input_len + self.request.output_len - 1
        tolerance, intervals = INTERPOLATION_TOLERANCE, FIRST_INTERVALS
        if self._cosimulated:
            tolerance, intervals = COSIMULATION_TOLERANCE, 1
        found = sample_lengths(first, last, step_s, 0.0 if self.exact else tolerance, intervals)
        for length in found.lengths:
            if int(length) not in steps:
                step_s(int(length))
        return found, steps

    @cached_property
    def decode(self) -> Step | None:
        """The mean decode step, or None if there is none."""
        if self.request.output_len == 1:
            return None
        found, steps = self._sampled
        return mean_step([steps[int(length)] for length in found.lengths], found.weights)

    def latency(self) -> Latency:
        """Times of the phases and what they were spent on."""
        tpot_s = self.decode.seconds if self.decode else 0.0
        steps = self.request.output_len - 1
        breakdown = {"prefill": _causes(self.prefill)} | ({"decode": _causes(self.decode)} if self.decode else {})
        sampled = self._sampled[0] if self.decode else None
        return Latency(
            prefill_s=self.prefill.seconds,
            ttft_s=self.prefill.seconds,
            tpot_s=tpot_s,
            request_s=self.prefill.seconds + steps * tpot_s,
            breakdown=breakdown,
            decode_lengths_simulated=int(sampled.lengths.size) if sampled else 0,
            decode_steps=steps,
            interpolation_error=sampled.error if sampled else 0.0,
        )

    def energy(self) -> Energy:
        """Joules of the phases and of the components in the mean decode step (in the prefill, without decode)."""
        step_j = self.decode.joules if self.decode else 0.0
        breakdown = _components(self.decode) if self.decode else {}
        return Energy(self.prefill.joules, step_j, self.total_j() / self.tokens, breakdown)

    @property
    def tokens(self) -> int:
        """Tokens the whole batch produces; for an encoder, those it reads."""
        request = self.request
        return request.batch * (request.input_len if self.model.architecture == "encoder" else request.output_len)

    def total_j(self) -> float:
        """Energy of the whole request batch."""
        decode_j = (self.request.output_len - 1) * self.decode.joules if self.decode else 0.0
        return self.prefill.joules + decode_j

    def report(self, cost: Cost) -> Report:
        """Everything, as plain data."""
        latency = self.latency()
        request = self.request
        operators: list[OperatorResult] = self.prefill.operators("prefill")
        if self.decode:
            operators += self.decode.operators("decode")
        return Report(
            system=self.system.name,
            model=self.model.name,
            request=request,
            latency=latency,
            throughput=Throughput(
                decode_tokens_per_s=request.batch / latency.tpot_s if self.decode else 0.0,
                requests_per_s=request.batch / latency.request_s,
            ),
            energy=self.energy(),
            capacity=self.capacity,
            cost=cost,
            operators=tuple(operators),
            options={"exact": self.exact},
            notes=self.system.notes,
            timeline=make_timeline(self.prefill, self.decode, self.model.layers, tiles_of(self.system)),
            configuration={
                "system": self.system.model_dump(mode="json"),
                "model": self.model.model_dump(mode="json"),
            },
            archsim_version=__version__,
        )


def _causes(step: Step) -> dict[str, float]:
    """Seconds of a step by what bound the work that accounts for them; adds up to the step."""
    causes: dict[str, float] = {}
    for task, exposed in zip(step.tasks, step.exposed_s, strict=True):
        causes[task.bound] = causes.get(task.bound, 0.0) + float(exposed)
    if step.idle_s:
        causes["wait"] = step.idle_s
    return causes


def _components(step: Step) -> dict[str, float]:
    total: dict[str, float] = {}
    for task in step.tasks:
        for part, joules in task.energy_j.items():
            total[part] = total.get(part, 0.0) + joules * task.planned.repeat
    return total


def _ffn_weight_bytes(model: Model) -> float:
    return model.layers * model.ffn_weights * model.part_element_bytes("ffn")


def _with_ffn_weights(found: Capacity, system: System, size_bytes: float) -> Capacity:
    home = system.mapping.decode_attention
    if not size_bytes or home is None:
        return found

    def added(unit: UnitCapacity) -> UnitCapacity:
        if unit.unit != home:
            return unit
        contents = unit.contents | {"ffn_weights": size_bytes}
        return replace(unit, required_bytes=unit.required_bytes + size_bytes, contents=contents)

    units = tuple(added(unit) for unit in found.units)
    return replace(found, required_bytes=sum(unit.required_bytes for unit in units), units=units)
