"""Requests drawn at random. Every draw comes from the generator that is passed in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.requests import (
    Adapters,
    Arrivals,
    ConstantArrivals,
    DiurnalArrivals,
    FixedLength,
    GammaArrivals,
    Length,
    OnOffArrivals,
    Sessions,
    UniformLength,
    ZipfLength,
)


def draw_arrivals(process: Arrivals, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Arrival times in seconds, shape (count,); the first request arrives after the first gap (constant: at 0)."""
    if isinstance(process, ConstantArrivals):
        return np.arange(count, dtype=np.float64) * process.gap
    if isinstance(process, GammaArrivals):
        shape = process.cv**-2.0  # cv of a gamma variable is 1 / sqrt(shape)
        return np.cumsum(rng.gamma(shape, 1.0 / (process.rate * shape), count))
    unit = np.cumsum(rng.exponential(1.0, count))  # of a process with rate 1: its inverse cumulated rate follows
    if isinstance(process, OnOffArrivals):
        return _on_off(process, unit)
    if isinstance(process, DiurnalArrivals):
        return _diurnal(process, unit)
    return unit / process.rate


def _on_off(process: OnOffArrivals, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times at which the cumulated rate reaches `unit`."""
    on, off = process.rate * process.on, process.off_rate * process.off
    cycles, rest = np.divmod(unit, on + off)
    start = cycles * (process.on + process.off)
    later = process.on + (rest - on) / process.off_rate if process.off_rate else start * 0
    return np.where(rest < on, start + rest / process.rate, start + later)


def _diurnal(process: DiurnalArrivals, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve rate (t + a P / 2 pi (1 - cos(2 pi t / P))) = unit by bisection: the left side grows with t."""
    wave = process.amplitude * process.period / (2 * np.pi)
    low, high = np.maximum(unit / process.rate - 2 * wave, 0.0), unit / process.rate
    for _ in range(60):
        middle = (low + high) / 2
        reached = process.rate * (middle + wave * (1 - np.cos(2 * np.pi * middle / process.period))) >= unit
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.maximum.accumulate(high)


def draw_lengths(length: Length, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Lengths in tokens, shape (count,)."""
    if isinstance(length, FixedLength):
        return np.full(count, length.tokens, dtype=np.int64)
    if isinstance(length, UniformLength):
        return rng.integers(length.low, length.high, count, endpoint=True)
    if isinstance(length, ZipfLength):
        weights = np.arange(1, length.high - length.low + 2, dtype=np.float64) ** -length.theta
        ends = np.cumsum(weights / weights.sum())
        return length.low + np.minimum(np.searchsorted(ends, rng.random(count)), len(ends) - 1).astype(np.int64)
    drawn = np.rint(rng.lognormal(np.log(length.median), length.sigma, count))
    return np.clip(drawn, length.low, length.high).astype(np.int64)


def draw_sessions(
    sessions: Sessions, starts: NDArray[np.float64], prompt: NDArray[np.int64], output: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Turns of conversations that start at `starts`, in order of arrival: (arrival_s, prompt, output, cached).

    prompt, output  new tokens of each turn, used one after the other
    cached          leading tokens of each prompt that an earlier turn of its conversation has processed
    """
    turns = draw_lengths(sessions.turns, len(starts), rng)
    rows: list[tuple[float, int, int, int]] = []
    for start, count in zip(starts.tolist(), turns.tolist(), strict=True):
        when, history = start, sessions.system_prompt
        for turn in range(count):
            used = len(rows)
            if used == len(prompt) or history + int(prompt[used]) > sessions.max_prompt:
                break
            cached = history if turn else 0
            rows.append((when, history + int(prompt[used]), int(output[used]), cached))
            history += int(prompt[used]) + int(output[used])
            when += float(rng.exponential(sessions.think))
        if len(rows) == len(prompt):
            break
    rows.sort(key=lambda row: row[0])
    columns = list(zip(*rows, strict=True))
    arrival = np.array(columns[0], dtype=np.float64)
    tokens = [np.array(column, dtype=np.int64) for column in columns[1:]]
    return arrival, tokens[0], tokens[1], tokens[2]


def draw_adapters(source: Adapters, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The adapter of each request, -1 for those outside `share`."""
    if source.popularity == "power":
        chosen = np.floor(source.count * rng.power(source.alpha, count)).astype(np.int64).clip(0, source.count - 1)
    else:
        weights = np.arange(1, source.count + 1) ** -source.alpha
        chosen = rng.choice(source.count, count, p=weights / weights.sum()).astype(np.int64)
    return np.where(rng.random(count) < source.share, chosen, -1)
