"""Sizes that follow from a device: bits of each address field, transaction bytes, capacity, peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.errors import ConfigError
from archsim.memory.dram import layout_kernels as lay

if TYPE_CHECKING:
    from archsim.config.schemas.memory import Memory

FIELD_OF_LEVEL = {"rank": "ra", "pseudochannel": "pc", "stack": "sid", "bankgroup": "bg", "bank": "ba"}


def log2_exact(value: int, what: str) -> int:
    """Bits of a power of two. Raises ConfigError for anything else."""
    if value < 1 or value & (value - 1):
        raise ConfigError(f"{what} is {value}, expected a power of two")
    return value.bit_length() - 1


@dataclass(frozen=True)
class Geometry:
    """Address-level view of `channels` equal channels of a device.

    bits         address field -> bits (fields of absent levels are missing; bg and ba are always there)
    bank_shifts  bank-selecting field -> its place in a packed location (flat order: outermost most significant)
    """

    bits: dict[str, int]
    bank_shifts: dict[str, int]
    channels: int
    tx_bytes: int
    rows: int
    banks: int
    data_paths: int

    @property
    def tx_bits(self) -> int:
        """Bits of the offset within a transaction."""
        return self.tx_bytes.bit_length() - 1

    @property
    def bursts_per_row(self) -> int:
        """Transactions of one row of one bank."""
        return 1 << self.bits["co"]

    @property
    def channel_bytes(self) -> int:
        """Capacity of one channel."""
        return self.tx_bytes * self.bursts_per_row * self.rows * self.banks

    @property
    def capacity_bytes(self) -> int:
        """Capacity of all channels."""
        return self.channel_bytes * self.channels


def geometry(device: Memory, channels: int = 1) -> Geometry:
    """Geometry of `channels` channels. Raises ConfigError for sizes that are no powers of two."""
    if channels < 1 or channels > 256:
        raise ConfigError(f"found {channels} channels, allowed: 1 to 256")
    organization, standard = device.organization, device.standard
    tx_bytes, burst_bytes = device.transaction_bytes, standard.burst_bytes(organization.width_bits)
    if tx_bytes > burst_bytes:
        raise ConfigError(
            f"{tx_bytes} bytes of data do not fit a burst of {burst_bytes} bytes", key="standard.payload_bytes"
        )
    log2_exact(tx_bytes, "transaction size in bytes")
    if organization.columns % standard.burst_beats:
        raise ConfigError(f"{organization.columns} columns are no whole number of {standard.burst_beats}-beat bursts")
    bits = {"co": log2_exact(organization.columns // standard.burst_beats, "bursts per row")}
    bits["ro"] = log2_exact(organization.rows, "rows")
    shifts: dict[str, int] = {}
    at, banks, paths = lay.LOC_BANK, 1, 1
    for level in reversed(standard.levels[1:]):
        if level not in FIELD_OF_LEVEL:
            raise ConfigError(f"level {level!r} has no address field (known: {', '.join(FIELD_OF_LEVEL)})")
        field = FIELD_OF_LEVEL[level]
        count = organization.count[level]
        bits[field] = log2_exact(count, f"{level} count")
        shifts[field] = at
        at += bits[field]
        banks *= count
        paths *= count if level == "pseudochannel" else 1
    bits.setdefault("bg", 0)
    bits.setdefault("ba", 0)
    return Geometry(bits, shifts, channels, tx_bytes, organization.rows, banks, paths)
