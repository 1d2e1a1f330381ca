"""A DRAM device: its standard (levels, commands, constraints), organisation, speed bin and energy.

A standard is data: adding one needs no Python. `archsim.memory.tables.standard.compile_device` turns a device into the
arrays that the command engine runs on. Timing values are in clock periods (CK) as the standards give them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from archsim.config.base import Config, Preset


def _split_words(value: Any) -> Any:
    """`RD RDA` or [`RD`, `RDA`] -> (`RD`, `RDA`)."""
    return tuple(value.split() if isinstance(value, str) else value) if isinstance(value, str | list) else value


_WRITTEN = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
CommandList = Annotated[tuple[str, ...], BeforeValidator(_split_words), Field(min_length=1), WithJsonSchema(_WRITTEN)]


class Command(Config):
    """One command of the command bus."""

    scope: str = Field(description="level of the node it addresses: a bank, or all banks below this level")
    bus: str = Field(default="command", description="commands of one bus block each other while they are on it")
    ck: float = Field(default=1.0, gt=0, description="clock periods on the bus")
    effect: Literal["none", "open", "opening", "close"] = Field(
        default="none", description="what it does to the row of every bank in its scope"
    )
    data: Literal["none", "read", "write"] = Field(default="none", description="whether it moves a burst")


class Constraint(Config):
    """After a `preceding` command to a node, a `following` one to the same node (or its siblings) must wait."""

    level: str = Field(description="level of the node whose history counts")
    scope: Literal["same", "siblings"] = Field(
        default="same", description="`siblings`: the other nodes of this level below the same parent"
    )
    preceding: CommandList
    following: CommandList
    expression: str = Field(
        description="CK, over timing names with + - * / // ( ) max min ceil floor; literals are ticks"
    )
    window: int = Field(
        default=1, ge=1, le=64, description="counts from the window-th last preceding command (tFAW: 4)"
    )
    meaning: str = ""


class RequestNeeds(Config):
    """The command a request needs next, given the state of its bank."""

    read: str
    write: str


class States(Config):
    """Bank state -> command needed next. `opening` only where an activation takes two commands."""

    closed: RequestNeeds
    hit: RequestNeeds
    conflict: RequestNeeds
    opening: RequestNeeds | None = None


class RefreshManager(Config):
    """Who refreshes what, how often."""

    command: str
    interval: str = Field(description="expression, CK")
    order: Literal["flat", "same-bank-all-pseudochannels"] = Field(
        default="flat",
        description="per-bank refresh: one bank after the other, or the same bank of every pseudo channel together",
    )


class Refresh(Config):
    """Refresh of all banks of a rank or pseudo channel, and of single banks."""

    all: RefreshManager
    bank: RefreshManager | None = None


class DataLatency(Config):
    """From the column command to the end of its burst (expressions, CK)."""

    read: str
    write: str


class ClockSync(Config):
    """A data clock that stops when idle (LPDDR5 WCK): `CAS` one tick before the column command restarts it."""

    read: str = Field(description="CAS command before a read")
    write: str = Field(description="CAS command before a write")
    stays_on_after_read: str = Field(description="expression, CK from the read command")
    stays_on_after_write: str


class Standard(Config):
    """Levels, commands, constraints and states: what all devices of a standard share."""

    name: str
    levels: tuple[str, ...] = Field(min_length=2, max_length=5, description="outermost (channel) to bank")
    ticks_per_ck: int = Field(default=1, ge=1, le=2, description="2: the controller may issue on half clocks")
    ck_per_tick: int = Field(
        default=1, ge=1, le=2, description="2: commands start on every other clock (LPDDR6); rules are rounded up"
    )
    burst_beats: int = Field(ge=1, description="beats of one access (prefetch)")
    payload_bytes: int | None = Field(
        default=None, ge=1, description="bytes of one access that are data, where the rest is metadata or ECC"
    )
    command_slots: Literal["one", "column+row"] = Field(
        default="one", description="commands per clock: one, or one column and one row command"
    )
    falling_edge: tuple[str, ...] = Field(default=(), description="commands that may issue on the second half clock")
    activation_deadline: str | None = Field(default=None, description="expression: second activate at most so late")
    clock_sync: ClockSync | None = None
    commands: dict[str, Command]
    states: States
    refresh: Refresh
    latency: DataLatency
    constraints: dict[str, tuple[Constraint, ...]] = Field(description="group name -> rows; a device may add groups")

    def burst_bytes(self, width_bits: int) -> int:
        """Bytes that one access moves over `width_bits` data pins, metadata included."""
        return self.burst_beats * width_bits // 8

    def access_bytes(self, width_bits: int) -> int:
        """Bytes of data in one access."""
        return self.payload_bytes or self.burst_bytes(width_bits)


class Organization(Config):
    """How many of each level stand below the next higher one, and the size of a bank."""

    count: dict[str, int] = Field(description="level (all but channel) -> nodes below one parent")
    rows: int = Field(ge=1, le=2**32)
    columns: int = Field(ge=1, description="columns of a row, one bus-width word each")
    width_bits: int = Field(
        ge=1, description="data pins that one burst uses (of a pseudo channel, where there are any)"
    )
    dq_bits: int = Field(ge=1, description="data pins of one device on the channel")
    density_mbit: int = Field(ge=1)


class IddCurrents(Config):
    """Datasheet currents of one device, mA, and the core voltage."""

    device_width_bits: int | None = Field(
        default=None, ge=1, description="pins the currents are for; dq_bits if not given"
    )
    vdd_v: float = Field(gt=0)
    idd0_ma: float = Field(ge=0)
    idd2n_ma: float = Field(ge=0)
    idd2p_ma: float = Field(default=0.0, ge=0)
    idd3n_ma: float = Field(ge=0)
    idd3p_ma: float = Field(default=0.0, ge=0)
    idd4r_ma: float = Field(ge=0)
    idd4w_ma: float = Field(ge=0)
    idd5ab_ma: float = Field(ge=0)
    idd5pb_ma: float | None = Field(default=None, ge=0)


class EnergyPerBit(Config):
    """Where no currents are public: energy of the bits on the pins, metadata included."""

    activate_pj_per_bit: float = Field(
        default=0.0, ge=0, description="activate and precharge, spread over the bits moved"
    )
    read_pj_per_bit: float = Field(ge=0)
    write_pj_per_bit: float = Field(ge=0)
    io_pj_per_bit: float = Field(default=0.0, ge=0, description="interface (PHY, TSV, interposer)")


class Memory(Preset):
    """One DRAM device: organisation x speed bin of a standard."""

    standard: Standard
    organization: Organization
    data_rate_mtps: float = Field(gt=0, description="transfers per second and pin, 1e6/s")
    ck_ps: int = Field(gt=0, description="clock period as the timing table rounds it")
    tick_ps: int = Field(gt=0, description="controller tick: ck_ps x ck_per_tick / ticks_per_ck, rounded down")
    timing: dict[str, Annotated[float, Field(ge=0)]] = Field(description="timing parameters, CK")
    channels_per_package: int = Field(default=1, ge=1)
    idd: IddCurrents | None = None
    energy_per_bit: EnergyPerBit | None = None

    @model_validator(mode="after")
    def _tick_fits_clock(self) -> Memory:
        tick_ps = self.ck_ps * self.standard.ck_per_tick // self.standard.ticks_per_ck
        if self.tick_ps != tick_ps:
            raise ValueError(f"tick_ps is {self.tick_ps}, expected ck_ps x ck_per_tick / ticks_per_ck = {tick_ps}")
        return self

    @property
    def transaction_bytes(self) -> int:
        """Bytes of data in one burst."""
        return self.standard.access_bytes(self.organization.width_bits)

    @property
    def pin_bandwidth_bytes_per_s(self) -> float:
        """Pin rate x data pins, one channel; metadata counts."""
        paths = self.organization.count.get("pseudochannel", 1)
        return self.data_rate_mtps * 1e6 * self.organization.width_bits * paths / 8

    @property
    def peak_bandwidth_bytes_per_s(self) -> float:
        """Data of back-to-back bursts, one channel: pin rate x data pins, less what carries metadata or ECC."""
        burst = self.standard.burst_bytes(self.organization.width_bits)
        return self.pin_bandwidth_bytes_per_s * (self.transaction_bytes / burst)

    @property
    def package_bandwidth_bytes_per_s(self) -> float:
        """All channels of a package."""
        return self.peak_bandwidth_bytes_per_s * self.channels_per_package

    @property
    def channel_bytes(self) -> int:
        """Capacity of one channel."""
        banks = 1
        for count in self.organization.count.values():
            banks *= count
        bursts = self.organization.columns // self.standard.burst_beats
        return self.transaction_bytes * bursts * self.organization.rows * banks

    @property
    def activate_bound_bytes_per_s(self) -> float:
        """One burst an activate, four activates in tFAW, all ranks or pseudo channels: the limit of random access."""
        scopes = self.organization.count.get("pseudochannel", self.organization.count.get("rank", 1))
        window_ps = self.timing.get("tFAW", 0.0) * self.ck_ps
        return 4e12 * self.transaction_bytes * scopes / window_ps if window_ps > 0 else 0.0
