"""The numbers of a machine that a sensitivity study varies, found in its description by pattern."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from archsim.config.schemas.system import System
from archsim.errors import UsageError

Path_ = tuple[str | int, ...]

# Each match is one parameter: a number, or all numbers below it scaled together. Terms joined by `+` scale together
# too, from the same place: a clock and the peak rates that follow from it; with ~ by the inverse, as a period does.
HARDWARE = (
    "units.*.device.clock+peak_flops+adder_trees.peak_flops",
    "units.*.device.peak_flops",
    "units.*.device.memory_bandwidth+memory.device.data_rate_mtps+memory.device.ck_ps~+memory.device.tick_ps~",
    "units.*.device.memory_capacity",
    "units.*.memory_capacity",
    "units.*.device.l1_capacity",
    "units.*.device.l2_capacity",
    "units.*.device.l2_bandwidth",
    "units.*.device.scratchpad.capacity",
    "units.*.device.accumulator.capacity",
    "units.*.device.memory_latency",
    "units.*.device.power.*",
    "units.*.launch",
    "units.*.device.stack_bandwidth",
    "units.*.device.dram.data_rate_mtps+ck_ps~+tick_ps~",
    "units.*.device.timing.compute_utilisation",
    "units.*.device.timing.memory_utilisation",
    "units.*.device.timing.memory_latency",
    "units.*.device.timing.fits",
    "units.*.device.energy.*",
    "connections.*.link.bandwidth",
    "connections.*.link.latency",
    "connections.*.link.switch_latency",
    "connections.*.link.energy",
    "connections.*.link.collective.base",
    "connections.*.link.collective.round_overhead",
)
MONEY = (
    "units.*.bill.price",
    "units.*.bill.power",
    "units.*.bill.fixed_power",
    "units.*.bill.dies",
    "units.*.bill.volume",
    "cost.node.price",
    "cost.node.power",
    "cost.node.fixed_power",
    "cost.node.parts",
    "cost.economics.server.*",
    "cost.economics.facility.*",
    "cost.economics.wafer.alpha",
    "cost.economics.processes.*.wafer",
    "cost.economics.processes.*.defects_per_cm2",
    "cost.economics.processes.*.engineering",
    "cost.economics.memories.*.price",
    "cost.economics.packages.*",
    "cost.economics.engineering.volume",
)
_WHOLE = ("ck_ps", "tick_ps")
_NOT_SCALED = ("count", "embodied", "hours_per_month")


@dataclass(frozen=True)
class Parameter:
    """One number of a machine (or several that scale together); `value` is the first of them."""

    name: str
    paths: tuple[Path_, ...]
    value: float
    money: bool
    inverse: frozenset[Path_] = frozenset()


def find_parameters(system: System, patterns: tuple[str, ...] = ()) -> list[Parameter]:
    """The parameters of a machine that are not zero; of those, the ones whose name matches one of `patterns`.

    Raises UsageError if a pattern matches none.
    """
    document = system.model_dump(mode="json")
    found = [*_matches(document, HARDWARE, False), *_matches(document, MONEY, True)]
    taken: set[Path_] = set()
    kept: list[Parameter] = []
    for parameter in found:  # a clock takes the peak rates that follow from it along
        if not taken & set(parameter.paths):
            kept.append(parameter)
            taken.update(parameter.paths)
    for pattern in patterns:
        if not any(fnmatchcase(parameter.name, pattern) for parameter in kept):
            names = ", ".join(parameter.name for parameter in kept[:8])
            raise UsageError(f"no parameter matches {pattern!r} (there are {names}, ... {len(kept)} in all)")
    if patterns:
        kept = [p for p in kept if any(fnmatchcase(p.name, pattern) for pattern in patterns)]
    return kept


def scaled(system: System, factors: dict[Parameter, float]) -> System | None:
    """The machine with each parameter multiplied by its factor; None where the result is no valid description."""
    document = copy.deepcopy(system.model_dump(mode="json"))
    for parameter, factor in factors.items():
        for path in parameter.paths:
            _scale(document, path, 1.0 / factor if path in parameter.inverse else factor)
    try:
        return System.model_validate_json(json.dumps(document), strict=True)
    except ValidationError:
        return None


def _scale(document: Any, path: Path_, factor: float) -> None:
    inside = document
    for part in path[:-1]:
        inside = inside[part]
    key = path[-1]
    value = inside[key] * factor
    inside[key] = max(1, round(value)) if key in _WHOLE else value
    if key == "bandwidth" and inside.get("lanes") is not None:
        inside["lanes"] = None
    if key == "latency" and inside.get("latency_parts") is not None:
        inside["latency_parts"] = None


def _matches(document: Any, patterns: tuple[str, ...], money: bool) -> Iterator[Parameter]:
    for pattern in patterns:
        first, *others = pattern.split("+")
        for path in _walk(document, tuple(first.split(".")), ()):
            paths = list(_numbers(_at(document, path), path))
            inverse: set[Path_] = set()
            for other in others if paths else ():
                beside = (*path[:-1], *other.removesuffix("~").split("."))
                more = list(_numbers(_at(document, beside), beside))
                paths += more
                inverse.update(more if other.endswith("~") else ())
            if paths:
                value = float(_at(document, paths[0]))
                yield Parameter(".".join(map(str, path)), tuple(paths), value, money, frozenset(inverse))


def _walk(value: Any, pattern: tuple[str, ...], path: Path_) -> Iterator[Path_]:
    if not pattern:
        yield path
    elif isinstance(value, dict):
        for key, inside in value.items():
            if fnmatchcase(key, pattern[0]):
                yield from _walk(inside, pattern[1:], (*path, key))


def _numbers(value: Any, path: Path_) -> Iterator[Path_]:
    """Paths of all numbers other than zero at or below `value`."""
    if path and path[-1] in _NOT_SCALED:
        return
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from _numbers(inside, (*path, key))
    elif isinstance(value, list):
        for index, inside in enumerate(value):
            yield from _numbers(inside, (*path, index))
    elif isinstance(value, int | float) and not isinstance(value, bool) and value != 0:
        yield path


def _at(value: Any, path: Path_) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
