"""Byte address -> channel, bank, row, column: as a list of bit slices, combined by exclusive or.

A layout is text, least significant bit first: `co:7 ra:1 bg:2 ba:2 ro:16`, after the transaction offset; a field may
be cut into pieces (`co:2 ... co:5`). Hashing is a list of `field ^= source >> shift` over whole fields. Fields: ch, co,
ra (rank) or pc (pseudo channel), sid, bg, ba, ro. Any linear map is one list of slices (source shift, mask, target
shift): target ^= ((address >> source) & mask) << target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError, UsageError, unknown_name
from archsim.memory.dram import layout_kernels as lay

if TYPE_CHECKING:
    from archsim.memory.dram.geometry import Geometry

NAMED_MAPPINGS = ("RoBaRaCoCh", "ChRaBaRoCo", "MOP4CLXOR")
FIELDS = ("ch", "co", "ra", "pc", "sid", "bg", "ba", "ro")


@dataclass(frozen=True)
class Xor:
    """`field ^= (source >> shift)`, over the bits of `field`."""

    field: str
    source: str
    shift: int = 0


@dataclass(frozen=True)
class Layout:
    """Pieces (field, bits), least significant first, above the transaction offset; then the hashes in order.

    `channels` cut out by division (any count) come first if the pieces do not name `ch`.
    """

    pieces: tuple[tuple[str, int], ...]
    xors: tuple[Xor, ...] = ()


def parse_layout(text: str) -> Layout:
    """`co:7 bg:2 ba:2 ro:16 bg^ro ba^ro>>2` -> Layout. Raises UsageError for anything else."""
    pieces: list[tuple[str, int]] = []
    xors: list[Xor] = []
    for word in text.split():
        if "^" in word:
            field, _, rest = word.partition("^")
            source, _, shift = rest.partition(">>")
            if not (shift.isdigit() or shift == ""):
                raise UsageError(f"mapping: found {word!r}, expected FIELD^SOURCE>>SHIFT")
            xors.append(Xor(_field(field), _field(source), int(shift or 0)))
        else:
            field, _, bits = word.partition(":")
            if not bits.isdigit() or int(bits) > 48:
                raise UsageError(f"mapping: found {word!r}, expected FIELD:BITS")
            pieces.append((_field(field), int(bits)))
    return Layout(tuple(pieces), tuple(xors))


def _field(name: str) -> str:
    if name not in FIELDS:
        raise UsageError(unknown_name("address field", name, FIELDS))
    return name


def named_layout(name: str, geometry: Geometry) -> Layout:
    """One of NAMED_MAPPINGS for a device (definitions: Ramulator 2.1 c5b1c3a, addr_mapper)."""
    bits = geometry.bits
    outer = [f for f in ("ra", "pc", "sid") if f in bits]
    co, ro, bg, ba = ((f, bits[f]) for f in ("co", "ro", "bg", "ba"))
    if name == "RoBaRaCoCh":
        return Layout((co, *((f, bits[f]) for f in outer), bg, ba, ro))
    if name == "ChRaBaRoCo":
        return Layout((co, ro, ba, bg, *((f, bits[f]) for f in reversed(outer))))
    if name == "MOP4CLXOR":
        low = min(2, bits["co"])
        spread = [*outer, "bg", "ba"]
        # the row keeps all address bits above it
        pieces = (("co", low), *((f, bits[f]) for f in spread), ("co", bits["co"] - low), ("ro", max(bits["ro"], 32)))
        xors, shift = [], 0
        for field in (*spread, "ro"):
            if bits[field] > 0:
                xors.append(Xor(field, "co", shift))
                shift += bits[field]
        return Layout(pieces, tuple(xors))
    raise UsageError(unknown_name("address mapping", name, NAMED_MAPPINGS))


def resolve_layout(mapping: str, geometry: Geometry) -> Layout:
    """A mapping given by name or as layout text, checked against the device."""
    if ":" not in mapping:
        return named_layout(mapping, geometry)
    layout = parse_layout(mapping)
    total: dict[str, int] = {}
    for field, bits in layout.pieces:
        total[field] = total.get(field, 0) + bits
    wanted = {**geometry.bits, "ch": (geometry.channels - 1).bit_length()}
    for field, bits in total.items():
        if field not in wanted or (bits != wanted[field]):
            raise UsageError(f"mapping: field {field!r} has {bits} bits, the device has {wanted.get(field, 0)}")
    for field, bits in wanted.items():
        if bits and field not in total and field != "ch":
            raise UsageError(f"mapping: field {field!r} ({bits} bits) is missing")
    if "ch" in total and geometry.channels & (geometry.channels - 1):
        raise UsageError(f"mapping: {geometry.channels} channels are no power of two; leave out `ch`")
    return layout


@dataclass(frozen=True)
class Decoder:
    """The compiled map: slices (n, 3) of source shift, mask, target shift; channels cut out by division before."""

    slices: NDArray[np.int64]
    tx_bits: int
    divide_channels: int


def compile_layout(layout: Layout, geometry: Geometry) -> Decoder:
    """Slices that put every field at its place in a packed location."""
    has_channel = any(field == "ch" for field, _ in layout.pieces)
    channels = geometry.channels
    power = channels & (channels - 1) == 0
    divide = 0 if has_channel or power else channels
    at = geometry.tx_bits
    parts: list[tuple[str, int, int, int]] = []  # field, bit within the field, source bit, bits
    if not has_channel and power:
        parts.append(("ch", 0, at, channels.bit_length() - 1))
        at += channels.bit_length() - 1
    filled: dict[str, int] = {}
    for field, bits in layout.pieces:
        parts.append((field, filled.get(field, 0), at, bits))
        filled[field] = filled.get(field, 0) + bits
        at += bits
    targets = {**geometry.bank_shifts, "co": 0, "ro": lay.LOC_ROW, "ch": lay.LOC_CHANNEL}
    rows = [(s, (1 << min(n, 62 - s)) - 1, targets[f] + low) for f, low, s, n in parts if n > 0 and f in targets]
    for xor in layout.xors:
        width = filled.get(xor.field, 0)
        if xor.field == "ro":
            width = min(width, geometry.bits["ro"])
        for field, low, source, bits in parts:
            if field != xor.source:
                continue
            first = max(low, xor.shift)
            last = min(low + bits, xor.shift + width)
            if last > first:
                mask = (1 << (last - first)) - 1
                rows.append((source + first - low, mask, targets[xor.field] + first - xor.shift))
    if any(target < 0 for _, _, target in rows):
        raise ConfigError("address layout does not fit the packed location")
    return Decoder(np.array(rows, np.int64).reshape(-1, 3), geometry.tx_bits, divide)
