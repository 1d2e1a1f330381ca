"""A design space: which machines, models and requests to evaluate, with which settings, and what is better."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Preset

Path = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.+-]+$")]
Scalar = bool | int | float | Annotated[str, Field(max_length=200)]
Reference = Annotated[str, Field(min_length=1, max_length=500)]
PREFIXES = ("system.", "model.", "request.")
REQUEST_FIELDS = ("batch", "input_len", "output_len")
MAX_POINTS = 200_000


class RequestShape(Config):
    """One request shape; a batch of none means the largest that fits."""

    batch: int | None = Field(default=None, gt=0, le=1_000_000)
    input_len: int = Field(default=2048, gt=0, le=100_000_000)
    output_len: int = Field(default=2048, gt=0, le=100_000_000)


class Range(Config):
    """Evenly spaced values, both ends included: `{from: 1, to: 8, count: 8}`."""

    start: float = Field(alias="from")
    stop: float = Field(alias="to")
    count: int = Field(gt=0, le=100_000)
    scale: Literal["linear", "log"] = "linear"
    unit: str = Field(default="", max_length=20, description="appended to every value, e.g. GB/s")

    @model_validator(mode="after")
    def _log_is_positive(self) -> Range:
        if self.scale == "log" and (self.start <= 0 or self.stop <= 0):
            raise ValueError(f"found {self.start:g} to {self.stop:g}; a log scale needs values above 0")
        return self

    def values(self) -> tuple[Scalar, ...]:
        """The values; whole numbers where start, stop and step are whole, text where there is a unit."""
        last = max(self.count - 1, 1)
        if self.scale == "log":
            ratio = math.log(self.stop / self.start)
            found = [self.start * math.exp(ratio * index / last) for index in range(self.count)]
            found[-1] = self.stop if self.count > 1 else self.start
        else:
            found = [self.start + (self.stop - self.start) * index / last for index in range(self.count)]
        if self.unit:
            return tuple(f"{value:.12g} {self.unit}" for value in found)
        if all(value.is_integer() for value in found):
            return tuple(int(value) for value in found)
        return tuple(found)


class Bounds(Config):
    """A point whose value lies outside is kept, but is not a candidate for the Pareto front."""

    min: float | None = None
    max: float | None = None


class Space(Preset):
    """Every combination of systems, models, requests and parameter values is one point."""

    kind: Literal["space"] = "space"
    systems: tuple[Reference, ...] = Field(min_length=1, max_length=1000, description="names or paths")
    models: tuple[Reference, ...] = Field(min_length=1, max_length=1000, description="names or paths")
    requests: tuple[RequestShape, ...] = Field(default=(RequestShape(),), min_length=1, max_length=10_000)
    parameters: dict[Path, Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=100_000)] | Range] = Field(
        default_factory=dict,
        max_length=32,
        description="system.PATH, model.PATH (as in --set) or request.batch/input_len/output_len -> values or range",
    )
    constraints: dict[Path, Bounds] = Field(default_factory=dict, description="report field -> bounds")
    objectives: dict[Path, Literal["min", "max"]] = Field(
        min_length=1,
        max_length=16,
        description="report field, e.g. latency.tpot_s -> min or max, among points of equal model and lengths",
    )

    @model_validator(mode="after")
    def _is_a_space(self) -> Space:
        for path in self.parameters:
            if not path.startswith(PREFIXES):
                raise ValueError(f"unknown parameter {path!r}; it must start with {', '.join(PREFIXES)}")
            if path.startswith("request.") and path.removeprefix("request.") not in REQUEST_FIELDS:
                raise ValueError(f"unknown parameter {path!r} (allowed: request.{', request.'.join(REQUEST_FIELDS)})")
            if path.startswith("request."):
                self._check_sizes(path)
        if self.size > MAX_POINTS:
            raise ValueError(f"found {self.size:,} points, allowed are {MAX_POINTS:,}")
        return self

    def _check_sizes(self, path: str) -> None:
        for value in self.values(path):
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ValueError(f"found {value!r} for {path}, expected whole numbers above 0")

    def values(self, path: str) -> tuple[Scalar, ...]:
        """The values of one parameter."""
        found = self.parameters[path]
        return found.values() if isinstance(found, Range) else found

    @property
    def size(self) -> int:
        """Number of points."""
        lengths: list[Any] = [self.systems, self.models, self.requests, *map(self.values, self.parameters)]
        return math.prod(len(values) for values in lengths)
