"""Request traces as text: one request a line, `R|W ADDRESS [TICK]`, addresses decimal or 0x hexadecimal.

Also accepted: `LD|ST ADDRESS`, `READ|WRITE`, and DRAMsim3's order `ADDRESS READ|WRITE TICK`. `#` begins a comment.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from archsim.errors import InputError
from archsim.memory.dram.streams import Stream, from_arrays

_WRITES = {"R": 0, "W": 1, "RD": 0, "WR": 1, "LD": 0, "ST": 1, "READ": 0, "WRITE": 1}
MAX_TRACE_BYTES = 8 * 2**30


def read_text_trace(path: Path) -> Stream:
    """The stream of a text trace. Raises InputError with the line for anything that is not a request."""
    try:
        size = path.stat().st_size
        if size > MAX_TRACE_BYTES:
            raise InputError(f"{path}: {size} bytes, allowed: up to {MAX_TRACE_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if data and not data.endswith(b"\n"):
        raise InputError(f"{path}: the last line has no end: the trace is truncated")
    addresses: list[int] = []
    writes: list[int] = []
    times: list[int] = []
    for number, line in enumerate(data.splitlines(), 1):
        words = line.partition(b"#")[0].split()
        if not words:
            continue
        address, write, time = _request(words, path, number)
        addresses.append(address)
        writes.append(write)
        if time is not None:
            times.append(time)
    if times and len(times) != len(addresses):
        raise InputError(f"{path}: {len(times)} of {len(addresses)} requests have a time; all or none must")
    if not addresses:
        raise InputError(f"{path}: no request in it")
    stream = np.array(addresses, np.int64), np.array(writes, np.int64), np.array(times, np.int64) if times else None
    try:
        return from_arrays(*stream, name=path.name)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _request(words: list[bytes], path: Path, number: int) -> tuple[int, int, int | None]:
    text = [word.decode("ascii", "replace") for word in words[:4]]
    if text[0].upper() not in _WRITES and len(text) > 1 and text[1].upper() in _WRITES:
        text[0], text[1] = text[1], text[0]
    operation = text[0].upper()
    if operation not in _WRITES or not 2 <= len(text) <= 3:
        raise InputError(f"{path}:{number}: found {' '.join(text)[:60]!r}, expected R|W ADDRESS [TICK]")
    values = []
    for word in text[1:]:
        try:
            value = int(word, 16) if word.lower().startswith("0x") else int(word)
        except ValueError:
            value = -1
        if not 0 <= value < 2**62:
            raise InputError(f"{path}:{number}: found {word[:30]!r}, expected a number from 0 to 2**62 - 1")
        values.append(value)
    return values[0], _WRITES[operation], values[1] if len(values) > 1 else None
