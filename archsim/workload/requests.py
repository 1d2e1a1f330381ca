"""From the description of a request stream, or a CSV file, to a trace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from archsim.config.loader import load_with_document
from archsim.config.schemas.requests import Requests, Synthetic, TraceFile
from archsim.errors import InputError, UsageError
from archsim.workload.synthetic import draw_adapters, draw_arrivals, draw_lengths, draw_sessions
from archsim.workload.traces import Adapter, Trace, make_trace, read_lengths, read_trace


def load_requests(name_or_path: str, overrides: Iterable[str] = ()) -> Trace:
    """The trace called `name_or_path`: a preset, a YAML description, or a CSV or JSONL file.

    `overrides` (path=value) change a description; a plain file has nothing to override. Raises ConfigError for a
    description that is wrong, InputError for a trace file that is.
    """
    overrides = tuple(overrides)
    if str(name_or_path).lower().endswith((".csv", ".jsonl")):
        if overrides:
            raise UsageError(f"{name_or_path} is a plain trace: {overrides[0]!r} has nothing to override")
        return read_trace(Path(name_or_path).expanduser())
    loaded = load_with_document("requests", name_or_path, overrides)
    assert isinstance(loaded.config, Requests)
    return make_requests(loaded.config, loaded.file.parent)


def make_requests(description: Requests, folder: Path) -> Trace:
    """The trace of a description; file names in it are relative to `folder`."""
    if description.synthetic is not None:
        return _synthetic(description.name, description.synthetic, folder)
    assert description.trace is not None
    return _recorded(description.name, description.trace, folder)


def scale_to_rate(trace: Trace, rate_per_s: float) -> Trace:
    """The same requests with all gaps stretched evenly so that the mean rate becomes `rate_per_s`."""
    if not np.isfinite(trace.rate_per_s):
        raise InputError(f"{trace.name}: all requests arrive at once, cannot scale them to a rate")
    first = trace.arrival_s[0]
    arrival = (trace.arrival_s - first) * (trace.rate_per_s / rate_per_s)
    return replace(trace, arrival_s=arrival)


def _recorded(name: str, source: TraceFile, folder: Path) -> Trace:
    trace = read_trace(folder / Path(source.file).expanduser(), source.limit)
    trace = replace(trace, name=name)
    return trace if source.rate is None else scale_to_rate(trace, source.rate)


def _synthetic(name: str, source: Synthetic, folder: Path) -> Trace:
    """Arrivals first, then lengths, each from its own child of the seed: changing one leaves the other as it is."""
    streams = np.random.default_rng(source.seed).spawn(6)
    arrival_rng, prompt_rng, output_rng, tenant_rng, session_rng, adapter_rng = streams
    arrival = draw_arrivals(source.arrivals, source.count, arrival_rng)
    if source.lengths is not None:
        pairs = read_lengths(folder / Path(source.lengths.file).expanduser())
        chosen = pairs[prompt_rng.integers(0, len(pairs), source.count)]
        prompt, output = chosen[:, 0], chosen[:, 1]
    else:
        assert source.prompt is not None
        assert source.output is not None
        prompt = draw_lengths(source.prompt, source.count, prompt_rng)
        output = draw_lengths(source.output, source.count, output_rng)
    cached = None
    if source.sessions is not None:
        arrival, prompt, output, cached = draw_sessions(source.sessions, arrival, prompt, output, session_rng)
        if not len(arrival):
            raise InputError(f"{name}: no turn of a conversation fits max_prompt")
    tenants = None
    if source.tenants:
        shares = np.array([tenant.share for tenant in source.tenants])
        drawn = tenant_rng.choice(len(shares), len(arrival), p=shares / shares.sum())
        tenants = [source.tenants[index].name for index in drawn.tolist()]
    trace = replace(make_trace(name, arrival, prompt, output, tenants), cached_tokens=cached)
    if source.adapters is None:
        return trace
    ranks = source.adapters.ranks
    made = tuple(Adapter(f"a{index}", ranks[index % len(ranks)]) for index in range(source.adapters.count))
    return replace(trace, adapter=draw_adapters(source.adapters, len(trace), adapter_rng), adapters=made)
