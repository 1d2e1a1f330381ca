"""Where the energy of a workload goes and what each unit draws, operator by operator and over time.

The energy models of the devices give joules per component of every task; what they leave out (idle power, fans,
voltage regulators, refresh) is the `fixed_power` of a unit's bill, drawn the whole time as `background`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System, Unit
from archsim.errors import UsageError
from archsim.execution.evaluation import Evaluation, evaluation
from archsim.execution.step import Step
from archsim.execution.timeline import make_timeline

POWER_SCHEMA = "archsim.power/1"
BACKGROUND = "background"
# shares of an HBM access: AttAcc simulator c600051, src/config.py, after FGDRAM (MICRO 2017), pJ/bit: activate and
# precharge 0.11; cell 0.44, column path 1.01 and 1.23; TSV 0.5 and interposer 0.3 of 3.59 in all
_HBM = {"dram_activate": 0.11 / 3.59, "dram_column": 2.68 / 3.59, "dram_io": 0.80 / 3.59}
_CLASSES = {
    "mac": ("mac", "alu", "ffn_alu"),
    "vector": ("vector",),
    "sram": ("l2", "l1", "register", "registers", "scratchpad", "accumulator", "sram"),
    "dram": ("dram", "cell", "ffn_cell", "activate", "read", "write", "refresh", *_HBM),
    "link": ("link", "io", "interposer", "tsv", "noc", "gio", "bg_mux", "gio_mux"),
    "static": ("leakage", "base", BACKGROUND),
}
Floats = NDArray[np.float64]


def component_class(component: str) -> str:
    """`gpu.l2` -> sram: the kind of hardware a component of the energy models is; `other` for the rest."""
    name = component.rpartition(".")[2]
    return next((group for group, names in _CLASSES.items() if name in names), "other")


@dataclass(frozen=True)
class OperatorEnergy:
    """One operator in one phase, all its runs; `energy_j` by component (`unit.part`) adds up to joules."""

    phase: str
    name: str
    unit: str
    seconds: float
    joules: float
    energy_j: dict[str, float]


@dataclass(frozen=True)
class UnitPower:
    """One unit over one phase, watts per device. `peak_w` is the highest of the operators, background included."""

    unit: str
    phase: str
    devices: int
    mean_w: float
    peak_w: float
    peak_operator: str
    background_w: float
    limit_w: float | None

    @property
    def exceeds(self) -> bool:
        """Whether the peak is above the board's design power."""
        return self.limit_w is not None and self.peak_w > self.limit_w


@dataclass(frozen=True)
class PowerSeries:
    """Draw of one unit, all devices: `watts[i]` from `start_s[i]` to `start_s[i + 1]` (the last to `end_s`)."""

    unit: str
    start_s: Floats
    watts: Floats
    end_s: float

    @property
    def joules(self) -> float:
        """The area below it."""
        return float(np.dot(self.watts, np.diff(np.append(self.start_s, self.end_s))))


@dataclass(frozen=True)
class PowerReport:
    """A prefill and the decode step at the middle length. components and classes: phase -> name -> J."""

    system: str
    model: str
    batch: int
    input_len: int
    output_len: int
    seconds: dict[str, float]
    joules: dict[str, float]
    components: dict[str, dict[str, float]]
    classes: dict[str, dict[str, float]]
    units: tuple[UnitPower, ...]
    operators: tuple[OperatorEnergy, ...]
    series: tuple[PowerSeries, ...] = field(default=())
    schema: str = POWER_SCHEMA


def power_report(
    system: System, model: Model, batch: int | None = None, input_len: int = 2048, output_len: int = 2048
) -> PowerReport:
    """Energy by component and power over time of one batch. Raises what `archsim.evaluate` raises.

    A machine with closed-form overlap has no schedule, so no power over time: UsageError.
    """
    if system.mapping.overlap_model == "closed-form":
        raise UsageError(f"{system.name}: closed-form overlap has no timeline; use mapping.overlap_model=scheduled")
    found: Evaluation = evaluation(system, model, batch, input_len, output_len)
    steps = {"prefill": found.prefill}
    if found.request.output_len > 1:
        steps["decode"] = found.step("decode", 1, input_len + found.request.output_len // 2)
    seconds = {phase: step.seconds for phase, step in steps.items()}
    components = {phase: _components(system, step) for phase, step in steps.items()}
    return PowerReport(
        system=system.name, model=model.name, batch=found.request.batch, input_len=input_len,
        output_len=found.request.output_len, seconds=seconds,
        joules={phase: sum(parts.values()) for phase, parts in components.items()}, components=components,
        classes={phase: _grouped(parts) for phase, parts in components.items()},
        units=tuple(_unit_power(system, name, phase, step) for phase, step in steps.items() for name in system.units),
        operators=tuple(row for phase, step in steps.items() for row in _operators(system, phase, step)),
        series=_series(system, model, steps),
    )  # fmt: skip


def _components(system: System, step: Step) -> dict[str, float]:
    total: dict[str, float] = {}
    for task in step.tasks:
        for part, joules in _split(system, task.energy_j).items():
            total[part] = total.get(part, 0.0) + joules * task.planned.repeat
    for name, unit in system.units.items():
        if background_w(unit):
            total[f"{name}.{BACKGROUND}"] = background_w(unit) * unit.count * step.seconds
    return total


def _split(system: System, energy_j: dict[str, float]) -> dict[str, float]:
    """Components with the energy of HBM accesses taken apart, where a unit's bill says that its memory is HBM."""
    parts: dict[str, float] = {}
    for part, joules in energy_j.items():
        unit = system.units.get(part.removesuffix(".dram")) if part.endswith(".dram") else None
        memory = unit.bill.memory if unit is not None and unit.bill is not None else None
        if memory is not None and memory.technology.startswith("hbm"):
            for name, share in _HBM.items():
                parts[part.removesuffix("dram") + name] = joules * share
        else:
            parts[part] = joules
    return parts


def _grouped(parts: dict[str, float]) -> dict[str, float]:
    groups: dict[str, float] = {}
    for part, joules in parts.items():
        group = component_class(part)
        groups[group] = groups.get(group, 0.0) + joules
    return groups


def background_w(unit: Unit) -> float:
    """Power of one device that its energy model leaves out; a GPU with a power model has its base power in there."""
    if unit.bill is None or getattr(unit.device, "power", None) is not None:
        return 0.0
    return unit.bill.fixed_power


def limit_w(unit: Unit) -> float | None:
    """Design power of one device: the chip's own, else its bill's."""
    own = getattr(unit.device, "tdp", None)
    if own is not None:
        return float(own)
    return unit.bill.power if unit.bill is not None and unit.bill.power else None


def _operators(system: System, phase: str, step: Step) -> list[OperatorEnergy]:
    rows = []
    for task in step.tasks:
        runs = task.planned.repeat
        energy = {part: joules * runs for part, joules in _split(system, task.energy_j).items()}
        rows.append(
            OperatorEnergy(phase, task.planned.name, task.unit, task.seconds * runs, sum(energy.values()), energy)
        )
    return rows


def _unit_power(system: System, name: str, phase: str, step: Step) -> UnitPower:
    unit = system.units[name]
    still_w = background_w(unit)
    own_j = 0.0
    peak_w, peak_operator = still_w, ""
    for task in step.tasks:
        joules = _of_unit(task.energy_j, name)
        own_j += joules * task.planned.repeat
        if task.seconds > 0 and still_w + joules / task.seconds / unit.count > peak_w:
            peak_w, peak_operator = still_w + joules / task.seconds / unit.count, task.planned.name
    mean_w = still_w + (own_j / unit.count / step.seconds if step.seconds else 0.0)
    return UnitPower(name, phase, unit.count, mean_w, peak_w, peak_operator, still_w, limit_w(unit))


def _of_unit(energy_j: dict[str, float], unit: str) -> float:
    return sum(joules for part, joules in energy_j.items() if part.partition(".")[0] == unit)


def _series(system: System, model: Model, steps: dict[str, Step]) -> tuple[PowerSeries, ...]:
    """What every unit and connection draws, as constant pieces between the ends of tasks."""
    timeline = make_timeline(steps["prefill"], steps.get("decode"), model.layers)
    draw = {
        (phase, task.planned.name): {part: joules / task.seconds for part, joules in task.energy_j.items()}
        for phase, step in steps.items()
        for task in step.tasks
        if task.seconds > 0
    }
    names = [*system.units, *system.connections]
    watts = {name: np.zeros(timeline.start_s.size) for name in names}
    for row, key in enumerate(zip(timeline.phase, timeline.name, strict=True)):
        for part, value in draw.get(key, {}).items():
            watts[part.partition(".")[0]][row] += value
    still = {name: background_w(unit) * unit.count for name, unit in system.units.items()}
    return tuple(_sweep(name, timeline.start_s, timeline.end_s, watts[name], still.get(name, 0.0)) for name in names)


def _sweep(name: str, start_s: Floats, end_s: Floats, watts: Floats, still_w: float) -> PowerSeries:
    times = np.unique(np.concatenate(([0.0], start_s, end_s)))
    change = np.zeros(times.size)
    np.add.at(change, np.searchsorted(times, start_s), watts)
    np.add.at(change, np.searchsorted(times, end_s), -watts)
    level = np.maximum(np.cumsum(change), 0.0)[:-1] + still_w
    keep = np.concatenate(([True], ~np.isclose(level[1:], level[:-1], rtol=1e-9, atol=1e-9)))
    return PowerSeries(name, times[:-1][keep], level[keep], float(times[-1]))
