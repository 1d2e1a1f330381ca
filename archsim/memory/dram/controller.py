"""Options of the memory controller and of the front end that feeds it."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from archsim.config.base import Config
from archsim.errors import ConfigError


class Controller(Config):
    """One controller per channel; defaults are those of the reference runs (32-entry queues, open rows)."""

    scheduler: str = Field(default="FRFCFS", pattern="^FRFCFS(-RowHit)?$", description="FRFCFS or FRFCFS-RowHit")
    row_policy: str = Field(default="open", pattern=r"^(open|closed[1-9]\d{0,5})$", description="open, or closedN")
    refresh: str = Field(default="ab", pattern="^(ab|pb|no)$", description="all-bank, per-bank or none")
    mapping: str = Field(default="RoBaRaCoCh", description="name, or a bit layout such as `co:7 bg:2 ba:2 ro:16`")
    channels: int = Field(default=1, ge=1, le=256)
    ranks: int | None = Field(default=None, ge=1, le=8, description="ranks of the channel, where the standard has them")
    read_queue: int = Field(default=32, ge=1, le=4096)
    write_queue: int = Field(default=32, ge=1, le=4096)
    write_low: float = Field(default=0.2, ge=0, le=1, description="write mode ends below this share of the queue")
    write_high: float = Field(default=0.8, ge=0, le=1, description="write mode begins above this share of the queue")
    inject_per_tick: int | None = Field(default=None, ge=1, description="requests offered per tick; 2 per channel")
    max_outstanding_reads: int = Field(default=0, ge=0, le=1 << 20, description="0: no limit")
    gap_ticks: float = Field(default=0.0, ge=0, description="request i is not offered before tick i x gap")
    wrap_addresses: bool = Field(default=False, description="drop address bits above the capacity; else an error")
    independent_channels: bool = Field(
        default=False, description="each channel has its own front end and runs on its own thread"
    )
    close_under_active_request: bool = Field(
        default=False,
        description="compatibility with Ramulator 2.1: an auto-precharge may close a row that an activated request "
        "still waits for (HBM channels can stop for good)",
    )

    @model_validator(mode="after")
    def _watermarks_ordered(self) -> Controller:
        if self.write_low > self.write_high:
            raise ValueError(f"write_low {self.write_low:g} exceeds write_high {self.write_high:g}")
        return self

    @field_validator("mapping")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value) > 200:
            raise ValueError("longer than 200 characters")
        return value

    @property
    def close_after(self) -> int:
        """Column commands after which a row is closed; 0: never."""
        return 0 if self.row_policy == "open" else int(self.row_policy.removeprefix("closed"))


_OPTION = re.compile(r"^[a-z_]+$")


def controller_from(options: dict[str, object]) -> Controller:
    """A Controller from plain values. Raises ConfigError in one line."""
    from pydantic import ValidationError

    from archsim.errors import unknown_name

    for name in options:
        if name not in Controller.model_fields:
            raise ConfigError(unknown_name("controller option", name, Controller.model_fields))
    try:
        return Controller.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if not key:  # options that contradict each other
            raise ConfigError(f"controller: {first['msg'].removeprefix('Value error, ')}") from None
        raise ConfigError(f"controller option {key}: found {first.get('input')!r}, {first['msg']}") from None
