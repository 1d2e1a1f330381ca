"""An oracle from measured operators: what runs in an iteration, each timed by itself, added up.

dense      columns layer, count, count_kind (tokens: of the iteration; sequences: that a token is sampled for), time_us
attention  columns phase (decode, prefill, mixed), prefill_chunk_tokens, prefill_kv_tokens (cached before),
           decode_sequences, decode_kv_tokens_per_sequence, time_us: one launch of one layer

What else an iteration runs has a row of its own among the dense operators, as an all-reduce by tokens.
Times are linear between measured points and continued beyond them. Launches with prompts and decodes were measured at
few points: there the time of the decodes over that of a launch of their own is interpolated, and held beyond them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError, suggest
from archsim.serving.compile_oracle import compile_oracles
from archsim.serving.oracle import StepTables
from archsim.serving.oracle_kernels import OracleArrays, iteration_s, prompt_attention

Floats = NDArray[np.float64]
DENSE = {"count": 1.0, "time_us": 1e-6}  # number columns and their least values
ATTENTION = {
    "prefill_chunk_tokens": 0.0, "prefill_kv_tokens": 0.0, "decode_sequences": 0.0,
    "decode_kv_tokens_per_sequence": 0.0, "time_us": 1e-6,
}  # fmt: skip
PHASES = {
    "decode": ("decode_sequences", "decode_kv_tokens_per_sequence"),
    "prefill": ("prefill_chunk_tokens", "prefill_kv_tokens"),
    "mixed": ("prefill_chunk_tokens", "prefill_kv_tokens", "decode_sequences", "decode_kv_tokens_per_sequence"),
}
COUNTS = ("tokens", "sequences")


@dataclass(frozen=True)
class Measured:
    """Times on every point of a grid, seconds."""

    axes: tuple[Floats, ...]
    values: Floats

    def at(self, *points: Floats, hold: bool = False) -> Floats:
        """Linear in each axis, shape of the broadcast points; beyond the ends continued, or held."""
        from scipy.interpolate import RegularGridInterpolator

        points = np.broadcast_arrays(*(np.asarray(p, dtype=np.float64) for p in points))
        if hold:
            points = tuple(np.clip(p, axis[0], axis[-1]) for p, axis in zip(points, self.axes, strict=True))
        found = RegularGridInterpolator(self.axes, self.values, bounds_error=False, fill_value=None)
        return np.asarray(found(np.stack(points, axis=-1)), dtype=np.float64)


@dataclass(frozen=True)
class OperatorOracle:
    """Iteration times from measured operators of one machine and model.

    dense      operator -> (times it runs in an iteration, counted by, seconds by count)
    attention  phase -> seconds of one launch, one a layer
    """

    name: str
    dense: Mapping[str, tuple[int, str, Measured]]
    attention: Mapping[str, Measured]
    layers: int
    max_tokens: int
    kv_bytes_per_token: float = 1.0
    usd_per_hour: float | None = None

    @property
    def kv_capacity_bytes(self) -> float:
        """Bytes of all tokens that fit."""
        return self.max_tokens * self.kv_bytes_per_token

    def iteration_s(self, prefill_tokens: Sequence[tuple[int, int]], decode_contexts: Sequence[int]) -> float:
        """Seconds of one iteration."""
        prompts_s = sum(prompt_attention(self._arrays, 0, tokens, before)[0] for tokens, before in prefill_tokens)
        new, decodes = sum(tokens for tokens, _ in prefill_tokens), len(decode_contexts)
        counts = (len(prefill_tokens), decodes, new, 0, sum(decode_contexts))
        return float(iteration_s(self._arrays, 0, *counts, prompts_s))

    def tables(self, max_batch: int, longest_tokens: int) -> StepTables:
        """The same whatever is asked: the measured points."""
        return self._tables

    @cached_property
    def _arrays(self) -> OracleArrays:
        return compile_oracles([self], 1, 1)

    @cached_property
    def _tables(self) -> StepTables:
        decode, prefill = self.attention["decode"], self.attention["prefill"]
        rows = self._counts("tokens")
        batch, context = np.union1d(np.union1d(rows, self._counts("sequences")), decode.axes[0]), decode.axes[1]
        steps = self.layers * decode.at(batch[:, None], context)
        sampled = self._sum("sequences", np.union1d(batch, [1.0]))
        step_s = steps + (self._sum("tokens", batch) + self._sum("sequences", batch))[:, None]
        alone = StepTables(
            batch, context, step_s, np.zeros_like(step_s), rows, self._sum("tokens", rows), np.zeros(len(rows)),
            prefill.axes[0], prefill.axes[1], self.layers * prefill.values, np.zeros_like(prefill.values),
            float(sampled[0]), 0.0,
        )  # fmt: skip
        return self._with_shared(alone, steps) if "mixed" in self.attention else alone

    def _with_shared(self, tables: StepTables, steps: Floats) -> StepTables:
        """With what a launch that also holds prompts adds to `steps`, the attention of its decodes."""
        mixed = self.attention["mixed"]
        chunk, before, count, tokens = np.meshgrid(*mixed.axes, indexing="ij")
        decodes = mixed.values - self.attention["prefill"].at(chunk, before)
        share = decodes / self.attention["decode"].at(count, tokens)
        slower = Measured((mixed.axes[0], *mixed.axes[2:]), share.mean(axis=1))
        new = mixed.axes[0]
        added = (slower.at(new[:, None, None], tables.batch[:, None], tables.context, hold=True) - 1.0) * steps
        return replace(tables, shared_new=new, shared_batch=tables.batch, shared_s=added, shared_j=np.zeros_like(added))

    def _counts(self, kind: str) -> Floats:
        points = [found.axes[0] for _, counted, found in self.dense.values() if counted == kind]
        return np.unique(np.concatenate(points)) if points else np.array([1.0])

    def _sum(self, kind: str, counts: Floats) -> Floats:
        chosen = [runs * found.at(counts) for runs, counted, found in self.dense.values() if counted == kind]
        return np.asarray(sum(chosen, np.zeros(len(counts))))


def read_dense(
    path: Path, only: Mapping[str, str], runs: Mapping[str, int], layers: int
) -> dict[str, tuple[int, str, Measured]]:
    """Operators beside attention; `runs` of each in an iteration, once a layer where it names none.

    only  column -> text: the rows to use. Raises InputError naming line and column for what is wrong.
    """
    points: dict[tuple[str, str], dict[tuple[float, ...], list[float]]] = {}
    for row, numbers in _rows(path, ("layer", "count_kind"), DENSE, only, {"count_kind": COUNTS}):
        seconds = points.setdefault((row["layer"], row["count_kind"]), {})
        seconds.setdefault((numbers["count"],), []).append(numbers["time_us"] * 1e-6)
    for name in runs:
        if name not in {layer for layer, _ in points}:
            raise InputError(f"{path}: no layer {name!r} to run{suggest(name, [layer for layer, _ in points])}")
    return {
        layer: (runs.get(layer, layers), kind, _grid(path, f"layer {layer}", ("count",), found))
        for (layer, kind), found in points.items()
    }


def read_attention(path: Path, only: Mapping[str, str]) -> dict[str, Measured]:
    """Launches of attention by phase. Raises InputError naming line and column for what is wrong."""
    points: dict[str, dict[tuple[float, ...], list[float]]] = {}
    for row, numbers in _rows(path, ("phase",), ATTENTION, only, {"phase": tuple(PHASES)}):
        at = tuple(numbers[axis] for axis in PHASES[row["phase"]])
        points.setdefault(row["phase"], {}).setdefault(at, []).append(numbers["time_us"] * 1e-6)
    for phase in ("decode", "prefill"):
        if phase not in points:
            raise InputError(f"{path}: no rows of phase {phase!r}")
    return {phase: _grid(path, f"phase {phase}", PHASES[phase], found) for phase, found in points.items()}


def _grid(path: Path, what: str, names: Sequence[str], points: dict[tuple[float, ...], list[float]]) -> Measured:
    axes = [sorted({at[i] for at in points}) for i in range(len(names))]
    for name, axis in zip(names, axes, strict=True):
        if len(axis) < 2:
            raise InputError(f"{path}: {what}: found one value of {name}, at least two are needed")
    for at in product(*axes):
        if at not in points:
            place = ", ".join(f"{name} {value:g}" for name, value in zip(names, at, strict=True))
            raise InputError(f"{path}: {what}: no time for {place}, but for each of these values with others")
    values = np.array([np.mean(points[at]) for at in product(*axes)]).reshape([len(axis) for axis in axes])
    return Measured(tuple(np.array(axis) for axis in axes), values)


def _rows(
    path: Path, texts: Sequence[str], numbers: Mapping[str, float], only: Mapping[str, str],
    allowed: Mapping[str, Sequence[str]],
) -> list[tuple[dict[str, str], dict[str, float]]]:  # fmt: skip
    """Chosen rows of a CSV file and their numbers, checked."""
    chosen = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            for name in (*texts, *numbers, *only):
                if name not in header:
                    raise InputError(f"{path}:1: missing column {name!r}{suggest(name, header)}")
            for row in reader:
                if any(row[name] != text for name, text in only.items()):
                    continue
                for name, values in allowed.items():
                    if row[name] not in values:
                        found = f"found {(row[name] or '')[:80]!r}, allowed: {', '.join(values)}"
                        raise InputError(f"{path}:{reader.line_num}: {name}: {found}")
                checked = {n: _number(path, reader.line_num, n, row[n], least) for n, least in numbers.items()}
                chosen.append((row, checked))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot read: {error}") from None
    if not chosen:
        which = ", ".join(f"{name} {text}" for name, text in only.items())
        raise InputError(f"{path}: no rows{f' with {which}' if which else ''}")
    return chosen


def _number(path: Path, line: int, name: str, text: str | None, least: float) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not least <= value <= 1e12:
        raise InputError(f"{path}:{line}: {name}: found {(text or '')[:80]!r}, expected a number from {least:g}")
    return value
