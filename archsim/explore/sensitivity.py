"""Which parameter of a machine moves latency, energy and cost most: one at a time, and by Sobol indices.

Sobol: first-order indices by Saltelli et al. (2010, Computer Physics Communications 181, equation b of table 2), total
indices by Jansen (1999), on scrambled Sobol points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.cost.bill import machine_bill
from archsim.cost.evaluate import evaluate_cost
from archsim.errors import ArchsimError, UsageError
from archsim.execution.evaluation import Evaluation, evaluation
from archsim.explore.parameters import Parameter, find_parameters, scaled

OUTCOMES = ("tpot_s", "j_per_token", "usd_per_million_tokens")
SENSITIVITY_SCHEMA = "archsim.sensitivity/1"
_SMALLEST = 1e-9  # an elasticity below it is rounding
Advance = Callable[[float], None]


@dataclass(frozen=True)
class Effect:
    """One parameter, all others at their values.

    low, high   factors that were applied; 1 where that side is no valid or feasible machine
    at_low      outcome -> value there; at_high the same
    elasticity  outcome -> percent of change per percent of the parameter, between the two sides
    """

    parameter: str
    value: float
    low: float
    high: float
    at_low: dict[str, float]
    at_high: dict[str, float]
    elasticity: dict[str, float]


@dataclass(frozen=True)
class SobolIndex:
    """Share of an outcome's variance that a parameter explains alone (first) and with all others (total)."""

    parameter: str
    first: dict[str, float]
    total: dict[str, float]


@dataclass(frozen=True)
class Sensitivity:
    """The answer. `effects` come largest first (by the largest elasticity), Sobol indices in the same order."""

    system: str
    model: str
    batch: int
    input_len: int
    output_len: int
    range: float
    baseline: dict[str, float]
    effects: tuple[Effect, ...]
    sobol: tuple[SobolIndex, ...] = ()
    sobol_samples: int = 0
    evaluations: int = 0
    schema: str = SENSITIVITY_SCHEMA
    notes: tuple[str, ...] = ()  # what a reader must know about the models of the machine
    without_effect: tuple[str, ...] = field(default_factory=tuple)


@dataclass
class _Study:
    """Evaluates variants of one machine; money parameters only price anew what was evaluated."""

    system: System
    model: Model
    batch: int | None
    input_len: int
    output_len: int
    evaluations: int = 0
    _known: dict[tuple[tuple[str, float], ...], dict[str, float] | None] = field(default_factory=dict)

    def outcomes(self, factors: dict[Parameter, float]) -> dict[str, float] | None:
        """Outcomes of the machine with its parameters scaled; None if there is no such machine or it cannot run."""
        changed = scaled(self.system, {p: f for p, f in factors.items() if f != 1.0})
        if changed is None:
            return None
        hardware = tuple((p.name, f) for p, f in factors.items() if not p.money and f != 1.0)
        if hardware not in self._known:
            self._known[hardware] = self._run(changed)
        found = self._known[hardware]
        if found is None:
            return None
        bill, economics = machine_bill(changed), changed.cost.economics
        cost = evaluate_cost(bill, found["power_w"], found["tokens_per_s"], economics)
        return {
            "tpot_s": found["tpot_s"],
            "j_per_token": found["j_per_token"],
            "usd_per_million_tokens": cost.usd_per_million_tokens,
        }

    def _run(self, system: System) -> dict[str, float] | None:
        self.evaluations += 1
        try:
            found: Evaluation = evaluation(system, self.model, self.batch, self.input_len, self.output_len)
            latency = found.latency()
        except ArchsimError:
            return None
        self.batch = found.request.batch  # the same work for every variant
        energy = found.total_j()
        return {
            "tpot_s": latency.tpot_s or latency.prefill_s, "j_per_token": energy / found.tokens,
            "power_w": energy / latency.request_s, "tokens_per_s": found.tokens / latency.request_s,
        }  # fmt: skip


def sensitivity(
    system: System,
    model: Model,
    batch: int | None = None,
    input_len: int = 2048,
    output_len: int = 2048,
    *,
    span: float = 0.1,
    patterns: tuple[str, ...] = (),
    sobol_samples: int = 0,
    sobol_parameters: int = 8,
    seed: int = 0,
    advance: Advance | None = None,
) -> Sensitivity:
    """Vary every parameter of `system` by +-`span` (a share of its value) and see what it does to `model`.

    patterns       only parameters whose name matches, e.g. `units.gpu.*`
    sobol_samples  0: one at a time only; else a power of two: the most effective `sobol_parameters` (of each outcome)
                   vary together, uniformly, (parameters + 2) x samples evaluations
    Raises UsageError for sizes out of range, and whatever the machine itself raises.
    """
    if not 0.0 < span < 1.0:
        raise UsageError(f"found a range of {span:g}, allowed: between 0 and 1 (0.1 is +-10 %)")
    if sobol_samples and (sobol_samples < 8 or sobol_samples & (sobol_samples - 1) or sobol_samples > 1 << 16):
        raise UsageError(f"found {sobol_samples} samples, allowed: a power of two from 8 to {1 << 16}")
    evaluation(system, model, batch, input_len, output_len)  # says what is wrong with the machine itself
    study = _Study(system, model, batch, input_len, output_len)
    baseline = study.outcomes({})
    assert baseline is not None
    parameters = find_parameters(system, patterns)
    effects = []
    for done, parameter in enumerate(parameters):
        effects.append(_effect(study, parameter, span, baseline))
        if advance is not None:
            advance((done + 1) / len(parameters) / (2 if sobol_samples else 1))
    moving = [effect for effect in effects if _largest(effect) > _SMALLEST]
    moving.sort(key=lambda effect: -_largest(effect))
    indices: tuple[SobolIndex, ...] = ()
    if sobol_samples and moving:
        by_name = {parameter.name: parameter for parameter in parameters}
        chosen = [(by_name[effect.parameter], effect) for effect in _most_effective(moving, sobol_parameters)]
        indices = _sobol(study, chosen, sobol_samples, seed, advance)
    assert study.batch is not None
    return Sensitivity(
        system.name, model.name, study.batch, input_len, output_len, span, baseline, tuple(moving), indices,
        sobol_samples, study.evaluations, without_effect=tuple(e.parameter for e in effects if e not in moving),
        notes=system.notes,
    )  # fmt: skip


def _largest(effect: Effect) -> float:
    return max((abs(value) for value in effect.elasticity.values()), default=0.0)


def _most_effective(effects: list[Effect], count: int) -> list[Effect]:
    """The `count` largest effects on each outcome, in the order given."""
    chosen: set[str] = set()
    for outcome in OUTCOMES:
        ranked = sorted(effects, key=lambda effect: -abs(effect.elasticity.get(outcome, 0.0)))
        chosen.update(e.parameter for e in ranked[:count] if abs(e.elasticity.get(outcome, 0.0)) > _SMALLEST)
    return [effect for effect in effects if effect.parameter in chosen]


def _effect(study: _Study, parameter: Parameter, span: float, baseline: dict[str, float]) -> Effect:
    low, high = 1.0 - span, 1.0 + span
    at_low, at_high = study.outcomes({parameter: low}), study.outcomes({parameter: high})
    if at_low is None:
        low, at_low = 1.0, baseline
    if at_high is None:
        high, at_high = 1.0, baseline
    slope = {}
    if high > low:
        width = math.log(high / low)
        slope = {name: math.log(at_high[name] / at_low[name]) / width for name in OUTCOMES}
    return Effect(parameter.name, parameter.value, low, high, at_low, at_high, slope)


def _sobol(
    study: _Study, chosen: list[tuple[Parameter, Effect]], samples: int, seed: int, advance: Advance | None
) -> tuple[SobolIndex, ...]:
    from scipy.stats import qmc

    k = len(chosen)
    lows, highs = np.array([e.low for _, e in chosen]), np.array([e.high for _, e in chosen])
    points = qmc.Sobol(2 * k, seed=np.random.default_rng(seed)).random(samples)
    first, second = (lows + part * (highs - lows) for part in (points[:, :k], points[:, k:]))

    def run(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.full((samples, len(OUTCOMES)), np.nan)
        for at, row in enumerate(rows):
            found = study.outcomes({p: float(f) for (p, _), f in zip(chosen, row, strict=True)})
            if found is not None:
                values[at] = [found[name] for name in OUTCOMES]
        return values

    f_a, f_b = run(first), run(second)
    mixed = []
    for i in range(k):
        rows = first.copy()
        rows[:, i] = second[:, i]
        mixed.append(run(rows))
        if advance is not None:
            advance(0.5 + 0.5 * (i + 1) / k)
    good = ~np.isnan(np.stack([f_a, f_b, *mixed])).any(axis=(0, 2))
    return tuple(SobolIndex(chosen[i][0].name, *_indices(f_a[good], f_b[good], mixed[i][good])) for i in range(k))


def _indices(
    f_a: NDArray[np.float64], f_b: NDArray[np.float64], f_ab: NDArray[np.float64]
) -> tuple[dict[str, float], dict[str, float]]:
    """(first-order, total) per outcome; f_ab (samples, outcomes) has one parameter from the second matrix."""
    both = np.concatenate((f_a, f_b))
    variance = both.var(axis=0)
    one = ((f_b - both.mean(axis=0)) * (f_ab - f_a)).mean(axis=0)  # centred, which only makes it less noisy
    whole = 0.5 * ((f_a - f_ab) ** 2).mean(axis=0)
    first, total = (np.divide(part, variance, out=np.zeros_like(part), where=variance > 0) for part in (one, whole))
    return dict(zip(OUTCOMES, map(float, first), strict=True)), dict(zip(OUTCOMES, map(float, total), strict=True))
