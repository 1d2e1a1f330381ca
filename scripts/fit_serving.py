"""Fit the host times of the serving frameworks to measured servers and say what they are worth elsewhere.

    python scripts/fit_serving.py REFERENCE_DIR [--write] [--only NAME ...] [--skew MODEL=VALUE ...]

REFERENCE_DIR is the folder with serving.csv. One set of constants a framework, for all its models and GPUs, fitted on
every other row (of servers without expert parallelism) to the mean absolute error of TPOT and, with half the weight,
TTFT; the rate of narrow experts is the best of RATES. Printed with the error on the rows left over, and on every GPU
and every model when it is left out of the fit. --write puts constants and record into hwconfigs/framework. --skew tries
another skew of a model's experts first.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from scipy.optimize import linprog

from archsim.config.presets import preset_root
from archsim.config.schemas.launch import Launch
from archsim.errors import InfeasibleError
from archsim.serving.closed_loop import StepTimes
from archsim.validation import serving_silicon as silicon
from archsim.validation.manifest import read_rows
from archsim.validation.silicon.recipes import recipe_of

Array = NDArray[np.float64]
# constant -> (unit it is written in, its seconds, step of the derivative in seconds)
CONSTANTS = {
    "step_overhead": ("ms", 1e-3, 2e-4),
    "request_overhead": ("us", 1e-6, 4e-6),
    "prefill_layer_overhead": ("ms", 1e-3, 1e-4),
    "server.request_admission": ("ms", 1e-3, 1e-3),
    "server.request_latency": ("ms", 1e-3, 1e-3),
    "server.token_admission": ("us", 1e-6, 3e-7),
}
# The rows do not tell a queue from a latency that all share: a front end passes this many requests a second at least.
MOST = dict.fromkeys(CONSTANTS) | {"server.request_admission": 1 / 500}
RATES = (0.5, 0.4, 0.3)
ROUNDS = 4  # of linearising the servers in the constants
TTFT_WEIGHT = 0.5
DATA_SET = "ai-dynamo/aiconfigurator 095f58a51, serving rows"


@dataclass(frozen=True)
class Measured:
    """The rows of one framework: what is fitted (TPOT, then TTFT; milliseconds) and which TTFTs count."""

    rows: list[silicon.Row]
    servers: list[silicon.Server]
    truth: Array  # (2, rows)
    counts: NDArray[np.bool_]  # (2, rows)

    @classmethod
    def of(cls, rows: list[silicon.Row], skews: dict[str, float], rate: float) -> Measured:
        """Rows that archsim can predict; a TTFT counts where neither the cache nor the server's limit binds."""
        kept, servers, counts = [], [], []
        for row in rows:
            server = skewed(silicon.server_of(row, (f"units.gpu.launch.narrow_expert_rate={rate}",)), skews)
            try:
                full = silicon.closed_loop(row, server=server).full_s > 0.0
            except InfeasibleError:
                continue
            kept.append(row)
            servers.append(server)
            counts.append([True, not full and int(row["concurrency"]) <= recipe_of(row).max_requests])
        truth = np.array([[float(row[name]) for row in kept] for name in ("tpot_ms", "ttft_ms")])
        return cls(kept, servers, truth, np.array(counts).T)

    def predict(self, launch: Launch, chosen: NDArray[np.bool_]) -> Array:
        """(2, rows) milliseconds; rows that are not chosen are 0."""
        found = np.zeros(self.truth.shape)
        launch = launch.model_copy(update={"narrow_expert_rate": self.servers[0].launch.narrow_expert_rate})
        for i in np.flatnonzero(chosen):
            loop = silicon.closed_loop(self.rows[i], launch, self.servers[i])
            found[:, i] = loop.tpot_s.mean() * 1e3, loop.ttft_s.mean() * 1e3
        return found


_skewed: dict[tuple[int, float], silicon.Server] = {}


def skewed(server: silicon.Server, skews: dict[str, float]) -> silicon.Server:
    """The server with another skew of its model's experts."""
    model = server.model
    if model.name not in skews or model.experts is None:
        return server
    key = id(server), skews[model.name]
    if key not in _skewed:
        experts = model.experts.model_copy(update={"skew": skews[model.name]})
        other = model.model_copy(update={"experts": experts})
        _skewed[key] = silicon.Server(server.system, other, StepTimes.of(server.system, other))
    return _skewed[key]


def with_constants(launch: Launch, seconds: Array) -> Launch:
    """A record with these constants."""
    own = dict(zip(CONSTANTS, seconds.tolist(), strict=True))
    server = {key.removeprefix("server."): value for key, value in own.items() if key.startswith("server.")}
    outer = {key: value for key, value in own.items() if not key.startswith("server.")}
    return launch.model_copy(update={**outer, "server": launch.server.model_copy(update=server)})


def constants_of(launch: Launch) -> Array:
    """The constants of a record, seconds."""
    parts = (launch.server if name.startswith("server.") else launch for name in CONSTANTS)
    names = (name.removeprefix("server.") for name in CONSTANTS)
    return np.array([getattr(part, name) for part, name in zip(parts, names, strict=True)])


def fit(measured: Measured, launch: Launch, chosen: NDArray[np.bool_], rounds: int = ROUNDS) -> Array:
    """Constants that give the least mean error on the chosen rows: linear programs around what the servers do."""
    seconds = constants_of(launch)
    for _ in range(rounds):
        base = measured.predict(with_constants(launch, seconds), chosen)
        slopes = []
        for i, (_, _, step) in enumerate(CONSTANTS.values()):
            moved = seconds.copy()
            moved[i] += step
            slopes.append((measured.predict(with_constants(launch, moved), chosen) - base) / step)
        used = measured.counts & chosen
        weight = np.array([[1.0], [TTFT_WEIGHT]]) / measured.truth
        rest = (weight * (measured.truth - base))[used]
        matrix = np.array([(weight * slope)[used] for slope in slopes]).T
        seconds = seconds + _least_absolute(matrix, rest, seconds)
    return seconds


def fit_best(
    candidates: dict[float, Measured], launch: Launch, chosen: NDArray[np.bool_], rounds: int = ROUNDS
) -> tuple[float, Array]:
    """The rate of narrow experts and the constants with the least mean error on the chosen rows."""
    fits = {rate: fit(measured, launch, chosen, rounds) for rate, measured in candidates.items()}

    def cost(rate: float) -> float:
        measured = candidates[rate]
        found = measured.predict(with_constants(launch, fits[rate]), chosen)
        error = np.abs(found / measured.truth - 1.0) * np.array([[1.0], [TTFT_WEIGHT]])
        return float(error[measured.counts & chosen].sum())

    best = min(candidates, key=cost)
    return best, fits[best]


def _least_absolute(matrix: Array, rest: Array, seconds: Array) -> Array:
    """The change of the constants, none below zero, that makes sum |rest - matrix x| least."""
    rows, n = matrix.shape
    scale = np.array([one for _, one, _ in CONSTANTS.values()])
    eye = np.eye(rows)
    bound = np.block([[matrix * scale, -eye], [-matrix * scale, -eye]])
    cost = np.concatenate([np.zeros(n), np.ones(rows)])
    limits = [((0.0 - s) / one, None if most is None else (most - s) / one)
              for s, one, most in zip(seconds, scale, MOST.values(), strict=True)] + [(0.0, None)] * rows  # fmt: skip
    found = linprog(cost, A_ub=bound, b_ub=np.concatenate([rest, -rest]), bounds=limits, method="highs")
    return np.asarray(found.x[:n] * scale)


def mape(measured: Measured, found: Array, chosen: NDArray[np.bool_]) -> tuple[float, float, int]:
    """Mean absolute error of TPOT and TTFT, percent, and the rows."""
    errors = [100.0 * np.abs(found[i] / measured.truth[i] - 1.0)[measured.counts[i] & chosen] for i in range(2)]
    tpot, ttft = (float(error.mean()) if error.size else float("nan") for error in errors)
    return tpot, ttft, int(chosen.sum())


def left_out(candidates: dict[float, Measured], launch: Launch, key: Callable[[silicon.Row], str]) -> Array:
    """Predictions of every row by a fit that has not seen its GPU or model."""
    measured = next(iter(candidates.values()))
    names = np.array([key(row) for row in measured.rows])
    found = np.zeros(measured.truth.shape)
    for name in sorted(set(names)):
        own = names == name
        if own.all():
            found[:] = np.nan
            break
        rate, seconds = fit_best(candidates, launch, ~own & half(measured), rounds=1)
        found[:, own] = candidates[rate].predict(with_constants(launch, seconds), own)[:, own]
    return found


def half(measured: Measured) -> NDArray[np.bool_]:
    """Every other row of the servers without expert parallelism, in the order of the file."""
    plain = np.array([recipe_of(row).expert_groups == 1 for row in measured.rows])
    return plain & (np.cumsum(plain) % 2 == 1)


def model_name(row: silicon.Row) -> str:
    """Without the owner."""
    return row["model_path"].partition("/")[2]


def report(name: str, candidates: dict[float, Measured], launch: Launch, console: Console) -> dict[str, float]:
    """Print the errors by model and GPU; returns those of the calibration record."""
    measured = candidates[launch.narrow_expert_rate]
    inside, everything = half(measured), np.ones(len(measured.rows), dtype=bool)
    whole = measured.predict(launch, everything)
    gpu = left_out(candidates, launch, lambda row: row["system"])
    model = left_out(candidates, launch, model_name)
    table = Table(title=f"{name}: mean error of TPOT / TTFT, %, and rows")
    for column in ("model", "gpu", "fitted half", "other half", "all", "GPU left out", "model left out"):
        table.add_column(column, justify="left" if column in ("model", "gpu") else "right")
    names = np.array([model_name(row) for row in measured.rows])
    gpus = np.array([row["system"] for row in measured.rows])
    groups = [(m, g, (names == m) & (gpus == g)) for m in sorted(set(names)) for g in sorted(set(gpus[names == m]))]
    groups += [(m, "all", names == m) for m in sorted(set(names))] + [("all", "all", everything)]
    for m, g, rows in groups:
        cells = [(whole, rows & inside), (whole, rows & ~inside), (whole, rows), (gpu, rows), (model, rows)]
        texts = ["{:.1f} / {:.1f} ({})".format(*mape(measured, found, chosen)) for found, chosen in cells]
        table.add_row(m, g, *texts)
    console.print(table)
    errors = {}
    for label, chosen in (("fitted", inside), ("left-over", ~inside)):
        tpot, ttft, _ = mape(measured, whole, chosen)
        errors |= {f"tpot-{label}": round(tpot, 1), f"ttft-{label}": round(ttft, 1)}
    return errors


def write(name: str, launch: Launch, rows: dict[str, int], errors: dict[str, float]) -> None:
    """Put constants and record into the framework's file."""
    path = preset_root() / "hwconfigs" / "framework" / f"{name}.yaml"
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    document = yaml.load(path.read_text(encoding="utf-8"))
    for key, seconds in zip(CONSTANTS, constants_of(launch).tolist(), strict=True):
        unit, one, _ = CONSTANTS[key]
        section = document["server"] if key.startswith("server.") else document
        section[key.removeprefix("server.")] = f"{seconds / one:.3g} {unit}"
    document["narrow_expert_rate"] = launch.narrow_expert_rate
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    document["calibration"] = {"data_set": DATA_SET, "date": today, "rows": rows, "mape_pct": errors}
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def main(arguments: Sequence[str]) -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--write", action="store_true", help="update hwconfigs/framework")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="frameworks to fit")
    parser.add_argument("--skew", nargs="*", default=[], metavar="MODEL=VALUE")
    chosen = parser.parse_args(arguments)
    skews = {name: float(value) for name, _, value in (text.partition("=") for text in chosen.skew)}
    console = Console(width=160)
    rows = [row for row in read_rows(chosen.reference / "serving.csv")[1] if silicon.unsupported(row) is None]
    for backend, name in silicon.FRAMEWORKS.items():
        own = [row for row in rows if row["backend"] == backend]
        if not own or (chosen.only and name not in chosen.only):
            continue
        candidates = {rate: Measured.of(own, skews, rate) for rate in RATES}
        measured = candidates[RATES[0]]
        rate, seconds = fit_best(candidates, measured.servers[0].launch, half(measured))
        launch = replace_rounded(measured.servers[0].launch, seconds)
        launch = launch.model_copy(update={"narrow_expert_rate": rate})
        console.print(name, f"narrow experts at {rate:g}", {key: f"{s / CONSTANTS[key][1]:.3g} {CONSTANTS[key][0]}"
                             for key, s in zip(CONSTANTS, constants_of(launch).tolist(), strict=True)})  # fmt: skip
        errors = report(name, candidates, launch, console)
        counted = {"tpot": int(half(measured).sum()), "ttft": int((measured.counts[1] & half(measured)).sum())}
        if chosen.write:
            write(name, launch, counted, errors)


def replace_rounded(launch: Launch, seconds: Array) -> Launch:
    """The record with the constants as they are written."""
    ones = [one for _, one, _ in CONSTANTS.values()]
    rounded = np.array([float(f"{s / one:.3g}") * one for s, one in zip(seconds, ones, strict=True)])
    return with_constants(launch, rounded)


if __name__ == "__main__":
    main(sys.argv[1:])
