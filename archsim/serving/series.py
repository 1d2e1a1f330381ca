"""How a run went over time: means of bins of equal length, which add up to the totals of the run.

What happens in an iteration is spread evenly over it (over all iterations of a run of equal batches).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.serving.runlog import NS_PER_S, RunLog

MOST_BINS = 1_000_000
BINS = 200  # at most, if no length is asked for
PIECES = 16  # a run of equal batches is cut into for the growth of its cache
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TimeSeries:
    """Means over bins of `bin_s` seconds from the first arrival on; arrays of shape (bins,).

    in_system, queued   requests that arrived and are not complete; of those, never scheduled yet
    running             requests in iterations in flight
    kv_fraction         blocks in use by the instances with an iteration in flight, as share of all blocks
    busy_fraction       share of the instances that run an iteration
    *_tokens_per_s      prompt tokens processed (again, after a preemption), output tokens made
    power_w             energy of iterations over time; 0 where the machine's energy is unknown
    """

    bin_s: float
    start_s: Floats
    in_system: Floats
    queued: Floats
    running: Floats
    kv_fraction: Floats
    busy_fraction: Floats
    prompt_tokens_per_s: Floats
    output_tokens_per_s: Floats
    power_w: Floats

    def columns(self) -> dict[str, Floats]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "bin_s"}


def time_series(log: RunLog, bin_s: float | None = None) -> TimeSeries:
    """Of a run that kept its batches; no `bin_s`: 1, 2 or 5 times a power of ten that gives at most BINS bins.

    Raises UsageError if there would be more than MOST_BINS.
    """
    assert log.batches is not None
    requests, batches, start = log.requests, log.batches, int(log.requests["arrival"][0])
    span_s = max(log.end_ns - start, 1) / NS_PER_S
    width = even_bin_s(span_s) if bin_s is None else bin_s
    if span_s / width > MOST_BINS:
        raise UsageError(f"bins of {width:g} s over {span_s:g} s: found more than {MOST_BINS} bins, take longer ones")
    count = max(1, int(np.ceil(span_s / width - 1e-9)))
    edges: Floats = np.arange(count + 1, dtype=np.float64) * float(width)
    present = requests[(requests["instance"] >= 0) & (requests["arrival"] < log.end_ns)]
    arrival, end = _seconds(present["arrival"], start), _until(present["completed"], log, start)
    lone = np.ones(len(present))
    begin, done = _seconds(batches["start"], start), _seconds(batches["end"], start)
    lead = _until_next(batches, begin, done)
    held = _blocks(batches, begin, lead)
    blocks = max(int(log.instances["total"].sum()), 1)

    def rate(amount: Floats) -> Floats:
        return _mean(begin, done, amount / (done - begin), edges)

    return TimeSeries(
        float(width),
        start / NS_PER_S + edges[:-1],
        in_system=_mean(arrival, end, lone, edges),
        queued=_mean(arrival, _until(present["first_scheduled"], log, start), lone, edges),
        running=_mean(begin, done, (batches["prefills"] + batches["decodes"]).astype(np.float64), edges),
        kv_fraction=_mean(*held, edges) / blocks,
        busy_fraction=_mean(begin, lead, np.full(len(batches), 1 / len(log.instances)), edges),
        prompt_tokens_per_s=rate(batches["new_tokens"].astype(np.float64)),
        output_tokens_per_s=rate(batches["tokens"].astype(np.float64)),
        power_w=rate(batches["joules"]),
    )


def even_bin_s(span_s: float) -> float:
    """1, 2 or 5 times a power of ten, the shortest that cuts `span_s` into at most BINS."""
    least = span_s / BINS
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= least * (1 - 1e-9)))


def _seconds(ns: NDArray[np.int64], start: int) -> Floats:
    seconds: Floats = ((ns - start) / NS_PER_S).astype(np.float64)
    return seconds


def _until(ns: NDArray[np.int64], log: RunLog, start: int) -> Floats:
    """Seconds of moments; those that never came are the end of the run."""
    return _seconds(np.where(ns < 0, log.end_ns, ns), start)


def _until_next(batches: NDArray[np.void], begin: Floats, done: Floats) -> Floats:
    """End of each batch, or the start of the next one of its instance if that is earlier (pipeline stages)."""
    order = np.lexsort((begin, batches["instance"]))
    following = np.full(len(batches), np.inf)
    same = batches["instance"][order][1:] == batches["instance"][order][:-1]
    following[order[:-1][same]] = begin[order][1:][same]
    return np.asarray(np.minimum(done, following))


def _blocks(batches: NDArray[np.void], begin: Floats, end: Floats) -> tuple[Floats, Floats, Floats]:
    """Begin, end and blocks in use of pieces of the batches: in a run of decode steps they grow, here evenly."""
    pieces = np.minimum(batches["steps"], PIECES)
    place = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    left, right = (place / np.repeat(pieces, pieces), (place + 1) / np.repeat(pieces, pieces))
    first, span = np.repeat(begin, pieces), np.repeat(end - begin, pieces)
    grown = (batches["blocks"] - batches["first_blocks"]) * (pieces > 1)
    value = np.repeat(batches["blocks"] - grown, pieces) + np.repeat(grown, pieces) * (left + right) / 2
    return first + span * left, first + span * right, value.astype(np.float64)


def _mean(begin: Floats, end: Floats, value: Floats, edges: Floats) -> Floats:
    """Mean over each bin of the sum of `value` over what lasts from `begin` to `end`."""
    times = np.concatenate((begin, end))
    order = np.argsort(times, kind="stable")
    times = times[order]
    if not times.size:
        return np.zeros(len(edges) - 1)
    slope = np.cumsum(np.concatenate((value, -value))[order])
    integral = np.concatenate(([0.0], np.cumsum(slope[:-1] * np.diff(times))))
    means = np.diff(np.interp(edges, times, integral)) / np.diff(edges)
    return np.where(np.abs(means) < 1e-12 * np.abs(value).max(), 0.0, means)
