"""How long each unit and link of the machines worked over a run, in iterations of prompts, of decodes, and of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.execution.unit_times import Busy, UnitTimes
from archsim.serving.oracle import LatencyOracle
from archsim.serving.oracle_kernels import DECODES, MIXED, PROMPTS, OracleArrays
from archsim.serving.results import UnitUse
from archsim.serving.runlog import UnitSeconds
from archsim.serving.system_oracle import SystemOracle


class UnitMeter:
    """Adds up iterations one by one: for the engine of policies in Python."""

    def __init__(self, oracles: Sequence[LatencyOracle]) -> None:
        """`oracles`: of the machines; those that know no units count for nothing."""
        self._times = {
            m: UnitTimes(oracle) for m, oracle in enumerate(oracles) if isinstance(oracle, SystemOracle)
        }  # fmt: skip
        self._mains = {m: _main(oracle) for m, oracle in enumerate(oracles)}
        self.seconds: UnitSeconds = {}

    def add(
        self, machine: int, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int],
        adapter_s: float, share: float,
    ) -> None:  # fmt: skip
        """An iteration of which `share` took place."""
        times = self._times.get(machine)
        if times is None:
            return
        phase = DECODES if not prefill_tokens else MIXED if decode_contexts else PROMPTS
        _add(self.seconds, machine, phase, times.iteration(prefill_tokens, decode_contexts), share)
        _add(self.seconds, machine, phase, {self._mains[machine]: adapter_s}, share)


def tabulated_unit_seconds(o: OracleArrays, oracles: Sequence[LatencyOracle]) -> UnitSeconds:
    """From what the compiled engine has counted."""
    total: UnitSeconds = {}
    if not o.step_w.shape[0]:
        return total
    for m, oracle in enumerate(oracles):
        if not isinstance(oracle, SystemOracle):
            continue
        for phase in (MIXED, PROMPTS, DECODES):
            for busy, weight in _points(o, m, phase, UnitTimes(oracle)):
                _add(total, m, phase, busy, weight)
            _add(total, m, phase, {_main(oracle): float(o.adapter_w[m, phase])}, 1.0)
    return total


def _points(o: OracleArrays, m: int, phase: int, times: UnitTimes) -> Iterator[tuple[Busy, float]]:
    """Points of the tables that count, with their weights."""
    for (i, j), weight in _counted(o.step_w[m, phase]):
        yield times.decode(int(o.batch[m, i]), float(o.context[m, j])), weight
    for (i,), weight in _counted(o.dense_w[m, phase]):
        yield times.dense(int(o.dense[m, i])), weight
    for (i, j), weight in _counted(o.prompt_w[m, phase]):
        yield times.prompt(int(o.chunk[m, i]), int(o.before[m, j])), weight
    yield times.host(), float(o.host_w[m, phase])
    if phase == MIXED:
        for (t, i, j), weight in _counted(o.shared_w[m]):
            new, count, context = o.shared_new[m, t], o.shared_batch[m, i], o.context[m, j]
            yield times.beside(int(count), float(context), int(new)), weight


def _counted(weights: NDArray[np.float64]) -> list[tuple[tuple[int, ...], float]]:
    return [(tuple(place), float(weights[tuple(place)])) for place in np.argwhere(weights).tolist()]


def _add(total: UnitSeconds, machine: int, phase: int, busy: Busy, weight: float) -> None:
    for unit, seconds in busy.items():
        total.setdefault((machine, unit), np.zeros(3))[phase] += seconds * weight


def _main(oracle: LatencyOracle) -> str:
    return oracle.system.mapping.main if isinstance(oracle, SystemOracle) else ""


def unit_uses(
    seconds: UnitSeconds, names: Sequence[str], instances: NDArray[Any], duration_s: float
) -> tuple[UnitUse, ...]:
    """Shares of the time of the instances of each machine (called `names`); units that never work are left out."""
    found = []
    for (m, unit), phases in sorted(seconds.items()):
        rows = instances[instances["machine"] == m]
        whole = len(rows) * duration_s
        if not whole or not phases.any():
            continue
        mixed, prompts, decodes = (float(part) / whole for part in phases)
        busy = mixed + prompts + decodes
        working = float(rows["busy_ns"].sum()) * 1e-9 / whole
        waiting = max(0.0, working - busy)
        found.append(UnitUse(names[m], unit, busy, prompts, mixed, decodes, waiting, 1.0 - busy - waiting))
    return tuple(found)
