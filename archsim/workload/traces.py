"""Request traces: who arrives when, with how long a prompt and answer."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError, suggest
from archsim.workload.trace_dialects import OWN, dialect_of, to_seconds

REQUIRED_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
LENGTH_COLUMNS = ("prompt_tokens", "output_tokens")
TENANT_COLUMN = "tenant_id"
ADAPTER_COLUMNS = ("adapter_id", "adapter_rank")
MAX_RANK = 65_536
MAX_ARRIVAL_S = 1e9  # int64 nanoseconds hold nine times that
MAX_TOKENS = 2**31 - 1
MAX_TEXT = 200
MAX_LINE = 10_000_000


@dataclass(frozen=True)
class Adapter:
    """Low-rank weights (LoRA) that requests of one kind add to the model."""

    name: str
    rank: int


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival; all arrays have shape (requests,).

    arrival_s      float64, from the start of the trace, not decreasing
    prompt_tokens  int64, at least 1
    output_tokens  int64, at least 1, the first one is the result of the prefill
    tenant         int64, index into `tenants`
    cached_tokens  int64, leading tokens of the prompt that an earlier request of its conversation has processed; None:
                   no request shares anything
    adapter        int64, index into `adapters`, -1 for the model itself; None: no request has one
    file, lines    where it was read from, int64; None: from no file
    """

    name: str
    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    tenant: NDArray[np.int64]
    tenants: tuple[str, ...] = ("0",)
    cached_tokens: NDArray[np.int64] | None = None
    adapter: NDArray[np.int64] | None = None
    adapters: tuple[Adapter, ...] = ()
    file: str = ""
    lines: NDArray[np.int64] | None = None

    def take(self, chosen: NDArray[np.int64] | slice, arrival_s: NDArray[np.float64]) -> Trace:
        """The chosen requests, with other arrivals."""

        def of(column: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
            return None if column is None else column[chosen]

        return replace(
            self, arrival_s=arrival_s, prompt_tokens=self.prompt_tokens[chosen],
            output_tokens=self.output_tokens[chosen], tenant=self.tenant[chosen],
            cached_tokens=of(self.cached_tokens), adapter=of(self.adapter),
            lines=of(self.lines),
        )  # fmt: skip

    def place(self, index: int) -> str:
        """Where request `index` stands: file:line, or its number in the trace, counted from 0."""
        return f"{self.name}: request {index}" if self.lines is None else f"{self.file}:{self.lines[index]}"

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def rate_per_s(self) -> float:
        """Mean arrival rate, (requests - 1) over the time between the first and the last; infinite if they coincide."""
        span = float(self.arrival_s[-1] - self.arrival_s[0])
        return (len(self) - 1) / span if span > 0 else math.inf


def make_trace(
    name: str,
    arrival_s: Sequence[float] | NDArray[np.float64],
    prompt_tokens: Sequence[int] | NDArray[np.int64],
    output_tokens: Sequence[int] | NDArray[np.int64],
    tenant: Sequence[str] | None = None,
) -> Trace:
    """A checked trace from columns. Raises InputError naming the first request (counted from 0) that is wrong."""
    arrival = np.asarray(arrival_s, dtype=np.float64)
    prompt, output = np.asarray(prompt_tokens, dtype=np.int64), np.asarray(output_tokens, dtype=np.int64)
    if not arrival.size:
        raise InputError(f"{name}: no requests")
    if not arrival.shape == prompt.shape == output.shape or arrival.ndim != 1:
        raise InputError(f"{name}: columns of unequal length {arrival.shape}, {prompt.shape}, {output.shape}")
    _refuse(name, "arrival_s", arrival, ~((arrival >= 0) & (arrival <= MAX_ARRIVAL_S)), f"from 0 to {MAX_ARRIVAL_S:g}")
    for column, values in (("prompt_tokens", prompt), ("output_tokens", output)):
        _refuse(name, column, values, (values < 1) | (values > MAX_TOKENS), f"from 1 to {MAX_TOKENS}")
    _refuse(name, "arrival_s", arrival, np.diff(arrival, prepend=arrival[0]) < 0, "not before the previous arrival")
    if tenant is None:
        return Trace(name, arrival, prompt, output, np.zeros(arrival.size, dtype=np.int64))
    numbers = {label: index for index, label in enumerate(dict.fromkeys(tenant))}
    return Trace(
        name, arrival, prompt, output, np.array([numbers[label] for label in tenant], dtype=np.int64), tuple(numbers)
    )


def _refuse(name: str, column: str, values: NDArray[np.generic], bad: NDArray[np.bool_], allowed: str) -> None:
    if bad.any():
        index = int(bad.argmax())
        raise InputError(f"{name}: request {index}: {column}: found {values[index]}, allowed: {allowed}")


def read_trace(path: Path, limit: int | None = None) -> Trace:
    """The trace of a CSV file, or of a JSONL file with such keys: arrival_s, prompt_tokens, output_tokens, tenant_id.

    The columns of Azure, BurstGPT, Mooncake and LLMServingSim traces are taken under their own names, see
    `trace_dialects`. tenant_id is optional, and so are adapter_id (empty: none) with adapter_rank; other columns are
    ignored; lines before a CSV's header that start with # are comments. Raises InputError with file, line, column for
    the first thing that is wrong: a missing column, text that is no finite non-negative number, a length below 1,
    arrivals out of order, an adapter of two ranks, no request at all.
    """
    arrival, prompt, output, tenant, adapter, lines = [], [], [], [], [], []
    ranks: dict[str, int] = {}
    optional, rows, (at, prompts, outputs) = _open(path, REQUIRED_COLUMNS)
    previous = 0.0
    for line, cells in islice(rows, limit):
        when = _number(path, line, at, cells[0])
        if when < previous:
            raise InputError(f"{path}:{line}: {at}: found {when:g} after {previous:g}, arrivals must not decrease")
        previous = when
        arrival.append(when)
        lines.append(line)
        prompt.append(_tokens(path, line, prompts, cells[1]))
        output.append(_tokens(path, line, outputs, cells[2]))
        further = dict(zip(optional, cells[3:], strict=True))
        if TENANT_COLUMN in further:
            tenant.append(further[TENANT_COLUMN][:MAX_TEXT])
        if ADAPTER_COLUMNS[0] in further:
            adapter.append(_adapter(path, line, further[ADAPTER_COLUMNS[0]], further[ADAPTER_COLUMNS[1]], ranks))
    if not arrival:
        raise InputError(f"{path}: no requests below the header")
    trace = make_trace(path.stem, arrival, prompt, output, tenant if TENANT_COLUMN in optional else None)
    trace = replace(trace, file=str(path), lines=np.array(lines, dtype=np.int64))
    if not ranks:
        return trace
    numbers = {name: index for index, name in enumerate(ranks)}
    used = np.array([numbers.get(name, -1) for name in adapter], dtype=np.int64)
    return replace(trace, adapter=used, adapters=tuple(Adapter(name, rank) for name, rank in ranks.items()))


def _adapter(path: Path, line: int, name: str, rank: str, ranks: dict[str, int]) -> str:
    """The name of an adapter, whose rank is noted in `ranks`; empty: none."""
    name = name.strip()[:MAX_TEXT]
    if not name:
        return name
    found = _tokens(path, line, ADAPTER_COLUMNS[1], rank, MAX_RANK)
    if ranks.setdefault(name, found) != found:
        raise InputError(f"{path}:{line}: adapter_rank: found {found}, adapter {name!r} had {ranks[name]} before")
    return name


def read_lengths(path: Path) -> NDArray[np.int64]:
    """Prompt and output lengths of a CSV file, shape (requests, 2); arrivals, if there are any, are ignored."""
    _, rows, names = _open(path, LENGTH_COLUMNS)
    pairs = [
        [_tokens(path, line, name, cell) for name, cell in zip(names, cells[:2], strict=True)] for line, cells in rows
    ]
    if not pairs:
        raise InputError(f"{path}: no requests below the header")
    return np.array(pairs, dtype=np.int64)


def _open(
    path: Path, wanted: tuple[str, ...]
) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str]]], tuple[str, ...]]:
    """The optional columns there are, an iterator of (line number, cells in the order wanted, then those), and labels.

    The labels are the names under which the file has the wanted columns.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{path}: empty, expected a header with {', '.join(wanted)}")
    line, header = first[0], [name.strip().removeprefix("\ufeff") for name in first[1]]
    if len(set(header)) < len(header):
        raise InputError(f"{path}:{line}: a column appears twice in the header {', '.join(header)[:MAX_TEXT]}")
    dialect = dialect_of(header)
    own_names = dict(zip(dialect.columns, OWN.columns, strict=True))
    seconds, timed = to_seconds(dialect), dialect is not OWN and OWN.arrival in wanted
    header = [own_names.get(name, name) for name in header]
    labels = tuple(dialect.columns[OWN.columns.index(name)] for name in wanted)
    for name in wanted:
        if name not in header:
            found = f"{suggest(name, header)} (found: {', '.join(header)[:MAX_TEXT]})"
            raise InputError(f"{path}:{line}: missing column {name!r}{found}")
    identity, rank = ADAPTER_COLUMNS
    if identity in header and rank not in header:
        raise InputError(f"{path}:{line}: column {identity!r} needs a column {rank!r} beside it")
    adapters = ADAPTER_COLUMNS if identity in header else ()
    optional = (*((TENANT_COLUMN,) if TENANT_COLUMN in header else ()), *adapters)
    order = [header.index(name) for name in (*wanted, *optional)]

    def cells() -> Iterator[tuple[int, list[str]]]:
        for line, row in rows:
            if len(row) != len(header):
                raise InputError(f"{path}:{line}: found {len(row)} columns, the header has {len(header)}")
            found = [row[index] for index in order]
            yield line, [seconds(found[0]), *found[1:]] if timed else found

    return optional, cells(), labels


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every row that is neither empty nor, before the header, a comment; the header first."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from _jsonl_rows(path, file) if path.suffix.lower() == ".jsonl" else _csv_rows(file)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start} of a block)") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from None
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None


def _csv_rows(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, strict=True)
    header_seen = False
    for row in reader:
        if not row or (not header_seen and row[0].lstrip("\ufeff").startswith("#")):
            continue
        header_seen = True
        yield reader.line_num, row


def _jsonl_rows(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """The keys of the first object, then the values of every object in that order."""
    header: list[str] = []
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text[:MAX_LINE])
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{path}:{line}: not a JSON object: {str(error)[:MAX_TEXT]}") from None
        if not isinstance(record, dict):
            raise InputError(f"{path}:{line}: found {text.strip()[:MAX_TEXT]!r}, expected a JSON object")
        if not header:
            header = list(record)
            yield line, header
        for name in header:
            if name not in record:
                raise InputError(f"{path}:{line}: missing key {name!r}, which the first line has")
        yield line, [str(record[name]) for name in header]


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_ARRIVAL_S:
        raise InputError(
            f"{path}:{line}: {column}: found {text[:MAX_TEXT]!r}, expected seconds from 0 to {MAX_ARRIVAL_S:g}"
        )
    return value


def _tokens(path: Path, line: int, column: str, text: str, most: int = MAX_TOKENS) -> int:
    digits = text.strip()
    value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else 0
    if not 1 <= value <= most:
        raise InputError(f"{path}:{line}: {column}: found {text[:MAX_TEXT]!r}, expected an integer from 1 to {most}")
    return value
