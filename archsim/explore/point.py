"""One point of a design space, and how it is evaluated."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from archsim.errors import ArchsimError, InfeasibleError, UsageError

if TYPE_CHECKING:
    from archsim.config.schemas.model import Model
    from archsim.config.schemas.space import Scalar, Space
    from archsim.config.schemas.system import System

EVALUATE = "archsim.explore.point:evaluate_point"
OK, INFEASIBLE, ERROR = "ok", "infeasible", "error"
Evaluate = Callable[["Point"], Mapping[str, Any]]


@dataclass(frozen=True)
class Point:
    """What to evaluate. Paths of system_settings and model_settings are those of `--set`."""

    index: int
    system: str
    model: str
    batch: int | None
    input_len: int
    output_len: int
    system_settings: dict[str, Scalar] = field(default_factory=dict)
    model_settings: dict[str, Scalar] = field(default_factory=dict)
    parameters: dict[str, Scalar] = field(default_factory=dict)


def point_at(space: Space, index: int) -> Point:
    """The point number `index` of `space`; the last parameter changes fastest."""
    chosen: dict[str, Scalar] = {}
    rest = index
    for path in reversed(space.parameters):
        values = space.values(path)
        rest, digit = divmod(rest, len(values))
        chosen[path] = values[digit]
    rest, request = divmod(rest, len(space.requests))
    system, model = divmod(rest, len(space.models))
    parameters = {path: chosen[path] for path in space.parameters}
    shape: dict[str, Any] = space.requests[request].model_dump() | _below("request.", parameters)
    return Point(
        index, space.systems[system], space.models[model], **shape,
        system_settings=_below("system.", parameters), model_settings=_below("model.", parameters),
        parameters=parameters,
    )  # fmt: skip


def _below(prefix: str, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {path.removeprefix(prefix): value for path, value in parameters.items() if path.startswith(prefix)}


def evaluate_point(point: Point) -> Mapping[str, Any]:
    """The report of `archsim.evaluate` for one point, as a nested dict. Raises what that raises."""
    from archsim.cost.evaluation import evaluate

    system = _system(point.system, overrides(point.system_settings))
    model = _model(point.model, overrides(point.model_settings))
    report = evaluate(system, model, batch=point.batch, input_len=point.input_len, output_len=point.output_len)
    return report.to_dict()


def overrides(settings: Mapping[str, Scalar]) -> tuple[str, ...]:
    """Settings as the `path=value` texts of `--set`."""
    return tuple(f"{path}={_yaml(value)}" for path, value in settings.items())


def _yaml(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else repr(value)


@lru_cache(maxsize=32)
def _system(name: str, settings: tuple[str, ...]) -> System:
    from archsim.config import load_system

    return load_system(name, settings)


@lru_cache(maxsize=32)
def _model(name: str, settings: tuple[str, ...]) -> Model:
    from archsim.config import load_model

    return load_model(name, settings)


def find_evaluate(name: str) -> Evaluate:
    """The function called `module:function`. Raises UsageError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        found: Evaluate = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"no function {name!r}: {error}") from None
    return found


def run_point(point: Point, evaluate: str = EVALUATE) -> dict[str, Any]:
    """Evaluate one point into the record that is stored: status, the reason if it failed, all numbers and notes.

    A design that does not fit is `infeasible`; any other failure is an `error` of that point and does not end the run.
    """
    record: dict[str, Any] = {
        "index": point.index, "status": OK, "reason": "", "system": point.system, "model": point.model,
        "batch": point.batch, "input_len": point.input_len, "output_len": point.output_len,
        "parameters": dict(point.parameters), "metrics": {}, "notes": [],
    }  # fmt: skip
    function = find_evaluate(evaluate)
    try:
        report = function(point)
        record |= {"metrics": metrics(report), "notes": list(report.get("notes", ()))}
    except InfeasibleError as error:
        record |= {"status": INFEASIBLE, "reason": str(error)}
    except ArchsimError as error:
        record |= {"status": ERROR, "reason": str(error)}
    except Exception as error:  # one broken point must not end a sweep of thousands; the record names it
        record |= {"status": ERROR, "reason": f"{type(error).__name__}: {error}"}
    return record


def metrics(report: Mapping[str, Any], prefix: str = "") -> dict[str, float | int]:
    """Every finite number of a nested report by its dotted path; lists (operators) are left out."""
    found: dict[str, float | int] = {}
    for key, value in report.items():
        if isinstance(value, Mapping):
            found |= metrics(value, f"{prefix}{key}.")
        elif isinstance(value, bool):
            found[prefix + key] = int(value)
        elif isinstance(value, int | float) and math.isfinite(value):
            found[prefix + key] = value
    return found
