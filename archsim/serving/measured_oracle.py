"""An affine oracle fitted to measured iterations in a CSV file.

Columns: seconds, prompt_tokens (new prompt tokens of the iteration), decodes (requests that decode) and context_tokens
(tokens they attend to together); optionally prompts (requests with prompt tokens, else 1) and cached_tokens (of each of
them, before). The fit is non-negative least squares of relative errors, for iterations with prompts only, with decodes
only and with both, each by itself where there are enough rows.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError, suggest
from archsim.serving.oracle import AffineTerms

REQUIRED = ("seconds", "prompt_tokens", "decodes", "context_tokens")
OPTIONAL = {"prompts": 1.0, "cached_tokens": 0.0}
LEAST_ROWS = 6
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Terms of all iterations and of those of one phase; mean_error: mean relative error over the rows."""

    common: AffineTerms
    prompts: tuple[AffineTerms, ...]
    decodes: tuple[AffineTerms, ...]
    rows: int
    mean_error: float


def fit_measured(path: Path) -> Fit:
    """Fit the iterations of a CSV file. Raises InputError naming line and column for what is wrong with it."""
    table = _read(path)
    features, seconds = _features(table), table["seconds"]
    alone = {"prompts": table["decodes"] == 0, "decodes": table["prompt_tokens"] == 0}
    mixed = ~alone["prompts"] & ~alone["decodes"]
    chosen = mixed if mixed.sum() >= LEAST_ROWS else np.ones(len(seconds), dtype=np.bool_)
    common = _solve(features[chosen], seconds[chosen])
    predicted = features @ common
    terms: dict[str, tuple[AffineTerms, ...]] = {}
    for name, rows in alone.items():
        if rows.sum() < LEAST_ROWS:
            terms[name] = ()
            continue
        own = _solve(features[rows], seconds[rows])
        predicted[rows] = features[rows] @ own
        terms[name] = (_terms(own),)
    error = float(np.abs(predicted / seconds - 1).mean())
    return Fit(_terms(common), terms["prompts"], terms["decodes"], len(seconds), error)


def _features(table: dict[str, Floats]) -> Floats:
    """(rows, 5): 1, requests, prompt tokens, pairs of prompt tokens, context tokens."""
    prompts = np.where(table["prompt_tokens"] > 0, np.maximum(table["prompts"], 1), 0)
    pairs = table["prompt_tokens"] * (table["cached_tokens"] + table["prompt_tokens"] / np.maximum(prompts, 1) / 2)
    one = np.ones_like(prompts, dtype=np.float64)
    return np.stack([one, prompts + table["decodes"], table["prompt_tokens"], pairs, table["context_tokens"]], axis=1)


def _solve(features: Floats, seconds: Floats) -> Floats:
    """Coefficients of at least 0 with the least squares of relative errors; columns are scaled to keep it stable."""
    from scipy.optimize import nnls

    relative = features / seconds[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(relative / scale, np.ones(len(seconds)))
    return np.asarray(found / scale, dtype=np.float64)


def _terms(c: Floats) -> AffineTerms:
    base, request, token, pair, context = c.tolist()
    return AffineTerms(base, request, token, pair, context)


def _read(path: Path) -> dict[str, Floats]:
    columns: dict[str, list[float]] = {name: [] for name in (*REQUIRED, *OPTIONAL)}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            for name in REQUIRED:
                if name not in header:
                    found = f"{suggest(name, header)} (found: {', '.join(header)[:200]})"
                    raise InputError(f"{path}:1: missing column {name!r}{found}")
            for row in reader:
                for name, values in columns.items():
                    values.append(_number(path, reader.line_num, name, row.get(name)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot read: {error}") from None
    if not columns["seconds"]:
        raise InputError(f"{path}: no iterations below the header")
    return {name: np.array(values) for name, values in columns.items()}


def _number(path: Path, line: int, name: str, text: str | None) -> float:
    if text is None and name in OPTIONAL:
        return OPTIONAL[name]
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    least = 1e-9 if name == "seconds" else 0.0
    if not least <= value <= 1e12:
        raise InputError(f"{path}:{line}: {name}: found {(text or '')[:80]!r}, expected a number from {least:g}")
    return value
