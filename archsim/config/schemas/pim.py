"""A processing-in-memory device: a DRAM standard with more commands, and the program that runs on it.

The commands and their constraints are those of `dram` (schema `memory`); this file adds what a PIM command does
(`requests`, `reach`), how its controller behaves, which program feeds it and what its bytes and operations cost.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Preset
from archsim.config.quantity import Bytes, BytesPerSecond, Flops, Joules, JoulesPerByte
from archsim.config.schemas.memory import CommandList, Constraint, Memory
from archsim.errors import unknown_name

Levels = Annotated[tuple[str, ...], Field(default=())]
SlipName = Annotated[str, Field(pattern=r"^[a-z_]+$")]
BEHAVIOUR_SLIPS = {
    "context_replay": "the context phase of the second head of a pair replays the first head's requests",
    "slices_floored": "shares of WRGB and MVGB per window are rounded down, the remainder is never sent",
    "element_offsets": "head offsets are counted in elements but used as bytes, for 4096 tokens",
    "warm_up_mac": "the first MAC of the first head is sent once more before everything else",
    "softmax_free": "SFM takes no time and may overtake the partial sums it needs",
    "barrier_costs_slot": "a barrier behind a barrier costs a slot, and the second slot looks at one request only",
    "moves_held_by_hits": "data movement waits while a MAC of its bank has a row hit",
    "refresh_starved": "MACs keep issuing while a refresh waits, and push it back",
    "neighbour_timing": "a MAC to a bank pair also delays precharges of the banks a level mix-up leads to",
    "io_per_byte": "energy of the data path is taken per byte though the table is per bit",
    "context_alu_free": "arithmetic of the context MACs is not charged",
}
"""What `reference_slips` copies from the AttAcc simulator beside the changes of `Pim.slips`; name -> meaning."""


class RequestRole(Config):
    """What a controller may do with one command of a program."""

    role: Literal["mac", "move", "softmax"]
    activate: str | None = Field(default=None, description="command that opens the row it needs; none: needs no row")
    precharge: str | None = Field(default=None, description="command that closes another row in its way")
    banks: int = Field(default=0, ge=0, description="banks that deliver one column each")

    @model_validator(mode="after")
    def _pair(self) -> RequestRole:
        if (self.activate is None) != (self.precharge is None):
            raise ValueError("`activate` and `precharge` go together")
        return self


class Slip(Config):
    """What a known slip of a reference simulator changes in the tables of the device."""

    without: tuple[str, ...] = Field(default=(), description="constraint groups that do not apply")
    constraints: dict[str, tuple[Constraint, ...]] = Field(
        default_factory=dict, description="groups that apply instead"
    )
    buses: dict[str, str] = Field(default_factory=dict, description="command -> bus")
    scopes: dict[str, str] = Field(default_factory=dict, description="command -> level")
    reach: dict[str, CommandList] = Field(default_factory=dict, description="command -> levels it spans")


class PimController(Config):
    """One per channel: refresh, then the first ready request; at most one row and one column command a clock."""

    type: Literal["dual-issue"] = "dual-issue"
    queue_depth: int = Field(default=33, ge=1, le=512, description="requests that wait in a channel")
    refresh: bool = True


class SoftmaxUnit(Config):
    """Softmax on the buffer die, one unit per channel: `ticks` for every started `elements`."""

    elements: int = Field(default=256, ge=1)
    ticks: int = Field(default=16, ge=0)
    operations: float = Field(default=5.0, ge=0, description="per element, for energy: as two of a multiply-add each")


class AttAccProgram(Config):
    """Attention of decode: heads over channels, K and V over the units below, two iterations of heads overlapped."""

    type: Literal["attacc"] = "attacc"
    unit: Literal["bank", "bankgroup", "buffer"] = Field(description="where the GEMV units sit")
    mac: str
    broadcast: str = Field(default="WRGB", description="query into the operand buffers")
    gather: str = Field(default="MVSB", description="partial sums to the softmax unit")
    scatter: str = Field(default="MVGB", description="softmax result to the operand buffers")
    softmax: str = Field(default="SFM", description="softmax of one head")
    groups_per_window: int = Field(default=16, ge=1, description="score groups between two barriers")
    softmax_unit: SoftmaxUnit = SoftmaxUnit()
    reference_max_tokens: int = Field(default=4096, ge=1, description="token count of the reference's head offsets")

    @property
    def operands(self) -> str:
        """The command that brings data in from outside."""
        return self.broadcast


class GemvProgram(Config):
    """Matrix times vector in every bank at once: operand in, columns of MACs, sums out."""

    type: Literal["gemv"] = "gemv"
    mac: str
    operands: str = Field(description="command that writes one burst of the vector to all units")
    result: str = Field(description="command that brings one burst of sums out")
    stationary: Literal["operand", "result"] = Field(
        description="operand: a piece of the vector stays while all matrix rows pass, their sums leave every time; "
        "result: the sums stay while the vector passes"
    )
    operand_columns: int = Field(ge=1, description="bursts of the vector that the operand buffer holds")
    accumulators: int = Field(default=1, ge=1, description="sums that each unit keeps")
    results_per_pass: int = Field(default=1, ge=1, description="`result` commands that drain one sum of every unit")


Program = Annotated[AttAccProgram | GemvProgram, Field(discriminator="type")]


class LimitedFactor(Config):
    """Internal over external bandwidth of a stack, with and without the power limit."""

    limited: float = Field(default=1.0, gt=0)
    unlimited: float = Field(default=1.0, gt=0)


class PimEnergy(Config):
    """Energy of the data path and of the arithmetic."""

    cell: JoulesPerByte = Field(ge=0, description="cell array, precharge and the way from the bank to the unit")
    bankgroup_io: JoulesPerByte = Field(default=0.0, ge=0, description="data movement over the bank group multiplexer")
    global_io: JoulesPerByte = Field(default=0.0, ge=0, description="data movement over the global I/O")
    tsv: JoulesPerByte = Field(default=0.0, ge=0)
    interposer: JoulesPerByte = Field(default=0.0, ge=0)
    mac: Joules = Field(default=0.0, ge=0, description="one multiply-add")
    sram: JoulesPerByte = Field(default=0.0, ge=0, description="operand buffers of the units")
    link: JoulesPerByte = Field(default=0.0, ge=0, description="transfers between the device and its host")


class InPlaceConversion(Config):
    """Units that convert narrow elements to the width they multiply, between bank and multiplier.

    Rates are elements per column command over the elements of `multiply_bytes` that a column holds. The bank delivers
    multiply_bytes / stored times as many; the slowest of bank, conversion and multipliers sets the pace. So narrow
    storage buys time only where both rates are above one; it always buys capacity.
    """

    multiply_bytes: int = Field(description="width of the elements multiplied, one of `element_bytes`")
    stored_bytes: tuple[Annotated[float, Field(gt=0, lt=8)], ...] = Field(
        min_length=1, max_length=16, description="stored widths it takes, scales included"
    )
    conversion_rate: Annotated[float, Field(gt=0, le=1e3)] = Field(description="elements converted, see above")
    multiply_rate: Annotated[float, Field(gt=0, le=1e3)] = Field(default=1.0, description="elements multiplied")
    energy: Joules = Field(ge=0, description="converting one element")


class Pim(Preset):
    """One PIM device: `stacks` equal stacks that run the same program on their share of the heads."""

    kind: Literal["pim"] = "pim"
    dram: Memory
    stacks: int = Field(default=1, ge=1, le=1024, description="stacks (packages) of a device, in lockstep")
    capacity_per_stack: Bytes = Field(gt=0)
    stack_bandwidth: BytesPerSecond = Field(gt=0, description="external bandwidth of a stack")
    internal_bandwidth_factor: LimitedFactor = LimitedFactor()
    power_limit: bool = Field(
        default=True, description="use `timing_limited`: slower columns keep within the power budget"
    )
    timing_limited: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="timing values that hold under the power limit, CK"
    )
    softmax_flops: Flops = Field(
        default=3352e9, gt=0, description="softmax rate of a device at 2-byte elements, AttAcc devices.py"
    )
    element_bytes: tuple[int, ...] = Field(default=(1, 2), min_length=1, description="operand sizes the units support")
    in_place_conversion: InPlaceConversion | None = Field(
        default=None, description="none: only elements of `element_bytes` can be multiplied"
    )
    requests: dict[str, RequestRole]
    reach: dict[str, CommandList] = Field(default_factory=dict, description="command -> levels whose banks it spans")
    holds: dict[str, CommandList] = Field(
        default_factory=dict,
        description="command of data-dependent length -> commands of the channel that wait for its end",
    )
    controller: PimController = PimController()
    program: Program
    energy: PimEnergy
    reference_slips: bool | tuple[SlipName, ...] = Field(
        default=False, description="true: behave as the reference simulator, slips included; or a list of slips"
    )
    slips: dict[SlipName, Slip] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_slips(self) -> Pim:
        for name in self.active_slips:
            if name not in self.slips and name not in BEHAVIOUR_SLIPS:
                raise ValueError(unknown_name("slip", name, {*self.slips, *BEHAVIOUR_SLIPS}))
        for name in self.timing_limited:
            if name not in self.dram.timing:
                raise ValueError(unknown_name("timing", name, self.dram.timing))
        return self

    @property
    def active_slips(self) -> frozenset[str]:
        """Names of the slips that are copied."""
        if isinstance(self.reference_slips, bool):
            return frozenset((*self.slips, *BEHAVIOUR_SLIPS)) if self.reference_slips else frozenset()
        return frozenset(self.reference_slips)

    @property
    def capacity_bytes(self) -> float:
        """Memory of the whole device."""
        return self.stacks * self.capacity_per_stack

    @property
    def peak_internal_bandwidth(self) -> float:
        """Bandwidth of all units of the device as its authors state it, byte/s."""
        factor = self.internal_bandwidth_factor
        return (factor.limited if self.power_limit else factor.unlimited) * self.stack_bandwidth * self.stacks
