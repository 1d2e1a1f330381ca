"""A machine: its units, the links between them, and the rules by which work is placed on them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Name, Preset
from archsim.config.quantity import Bytes
from archsim.config.schemas.cost import Cost
from archsim.config.schemas.cpu import Cpu
from archsim.config.schemas.economics import Economics
from archsim.config.schemas.expander import Expander
from archsim.config.schemas.gpu import Gpu
from archsim.config.schemas.launch import Launch
from archsim.config.schemas.link import Link
from archsim.config.schemas.npu import Npu
from archsim.config.schemas.pim import Pim
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.errors import unknown_name


class _Unit(Config):
    """`count` equal devices that work on the same operator, each on its shard."""

    count: int = Field(gt=0, le=100_000, description="devices of this unit")
    memory_capacity: Bytes | None = Field(
        default=None, gt=0, description="memory of one device; none: what the device description says"
    )
    memory_in: Name | None = Field(default=None, description="unit whose memory holds this unit's data; none: its own")
    bill: Cost | None = Field(default=None, description="what one device costs to buy and to make")
    in_memory: ClassVar[bool] = False  # whether it runs attention as one program where the KV cache is


class GpuUnit(_Unit):
    """Graphics processors."""

    type: Literal["gpu"]
    device: Gpu
    launch: Launch = Field(default=Launch(), description="only for GPUs timed by kernels")


class NpuUnit(_Unit):
    """Neural processors."""

    type: Literal["npu"]
    device: Npu


class CpuUnit(_Unit):
    """Host processors."""

    type: Literal["cpu"]
    device: Cpu


class PimUnit(_Unit):
    """Memory that computes."""

    type: Literal["pim"]
    device: Pim
    in_memory: ClassVar[bool] = True


class NeupimsUnit(_Unit):
    """Memory of a NeuPIMs device, whose NPU is a unit of its own."""

    type: Literal["neupims"]
    device: NeupimsDevice
    in_memory: ClassVar[bool] = True


class MemoryUnit(_Unit):
    """Memory behind a CXL link, without compute: a tier for what the main unit has no room for."""

    type: Literal["memory"]
    device: Expander


Unit = Annotated[GpuUnit | NpuUnit | CpuUnit | PimUnit | NeupimsUnit | MemoryUnit, Field(discriminator="type")]


class Connection(Config):
    """A link between the devices of one unit, or from each device of one unit to its partner of another."""

    between: tuple[Name, Name] = Field(description="unit names; twice the same name: among its devices")
    link: Link


class Mapping(Config):
    """The rules that place operators and overlap them."""

    main: Name = Field(description="unit that runs every operator no other rule places")
    prefill_attention: Name | None = Field(default=None, description="unit for prompt attention; none: main")
    decode_attention: Name | None = Field(default=None, description="unit for decode attention; none: main")
    data_parallel: int = Field(default=1, gt=0, description="groups of main devices that hold a copy of the model each")
    expert_parallel: int = Field(
        default=1,
        gt=0,
        description="groups that a model copy's devices form, each with its share of whole experts",
    )
    attention_pipelining: Literal["none", "transfers", "full"] = Field(
        default="none",
        description="what overlaps with decode attention head by head: nothing, the transfers, or also qkv and output",
    )
    overlap_model: Literal["scheduled", "closed-form"] = Field(
        default="scheduled",
        description="scheduled: one task a head through the list scheduler; closed-form: the AttAcc simulator's "
        "'longest stage plus one head of the others'",
    )
    ffn_coprocessing: bool = Field(
        default=False, description="decode feed-forward weights shared out between main and the attention PIM"
    )
    sub_batches: int = Field(
        default=1, gt=0, le=16, description="decode batch halves that run interleaved (NeuPIMs: 2)"
    )
    spill: Name | None = Field(
        default=None,
        description="memory unit for weights and KV cache that the main unit has no room for, read over its connection",
    )
    capacity: Literal["per-unit", "pooled"] = Field(
        default="per-unit", description="pooled: all memories count as one, as AttAcc's own batch rule does"
    )
    reference_slips: bool = Field(
        default=False,
        description="copy the AttAcc simulator: prompt KV transfer free, no output projection to the vocabulary, heads "
        "per device rounded down, co-processing free of energy and room, batch limit rounded up",
    )


class Cluster(Config):
    """Equal nodes of the machine described, joined by a network. Only `archsim plan` looks beyond one node."""

    nodes: int = Field(gt=1, le=100_000)
    link: Link = Field(description="what one device of the main unit has towards the other nodes")


class SystemCost(Config):
    """What the whole machine costs beside its units, and at which prices."""

    economics: Economics
    node: Cost | None = Field(default=None, description="board, hosts, network, chassis, supplies: once per machine")


class System(Preset):
    """A machine."""

    kind: Literal["system"] = "system"
    units: dict[Name, Unit] = Field(min_length=1)
    connections: dict[Name, Connection] = Field(default_factory=dict)
    mapping: Mapping
    cost: SystemCost
    cluster: Cluster | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of results must know about the models of the units."""
        known = {name: unit.device.uncalibrated for name, unit in self.units.items() if unit.type == "gpu"}
        return tuple(f"{name}: {note}" for name, note in known.items() if note)

    @property
    def uncalibrated(self) -> str | None:
        """Units whose times were fitted to no measurement of them."""
        return "; ".join(self.notes) or None

    @model_validator(mode="after")
    def _names_exist(self) -> System:
        mentioned = [self.mapping.main, self.mapping.prefill_attention, self.mapping.decode_attention]
        mentioned.append(self.mapping.spill)
        mentioned += [unit.memory_in for unit in self.units.values()]
        mentioned += [name for connection in self.connections.values() for name in connection.between]
        for name in mentioned:
            if name is not None and name not in self.units:
                raise ValueError(unknown_name("unit", name, self.units))
        if self.units[self.mapping.main].count % self.mapping.data_parallel:
            raise ValueError(
                f"found data_parallel {self.mapping.data_parallel}, which does not divide the "
                f"{self.units[self.mapping.main].count} devices of {self.mapping.main!r}"
            )
        ways = self.units[self.mapping.main].count // self.mapping.data_parallel
        if ways % self.mapping.expert_parallel:
            raise ValueError(
                f"found expert_parallel {self.mapping.expert_parallel}, which does not divide the {ways} devices of a "
                "model copy"
            )
        return self

    @model_validator(mode="after")
    def _rules_apply(self) -> System:
        rules = self.mapping
        if self.units[rules.main].in_memory or self.units[rules.main].type == "memory":
            raise ValueError(
                f"found main {rules.main!r}, a {self.units[rules.main].type}, which cannot run every operator; "
                "allowed: a gpu, npu or cpu unit"
            )
        helper = self.units[rules.decode_attention or rules.main]
        if rules.ffn_coprocessing and helper.type != "pim":
            raise ValueError(f"found ffn_coprocessing with decode_attention on a {helper.type}, it needs a pim")
        for name, unit in self.units.items():
            if unit.memory_in is not None and self.units[unit.memory_in].memory_in is not None:
                raise ValueError(
                    f"found {name!r} with memory_in {unit.memory_in!r}, whose data are in "
                    f"{self.units[unit.memory_in].memory_in!r}; name the unit that has the memory"
                )
        return self

    @model_validator(mode="after")
    def _memory_units_only_hold(self) -> System:
        rules = self.mapping
        for name in (rules.prefill_attention, rules.decode_attention):
            if name is not None and self.units[name].type == "memory":
                raise ValueError(f"found attention on {name!r}, a memory unit, which does not compute")
        if rules.spill is None:
            return self
        if self.units[rules.spill].type != "memory":
            raise ValueError(f"found spill {rules.spill!r}, a {self.units[rules.spill].type}; allowed: a memory unit")
        if rules.sub_batches > 1 or rules.decode_attention not in (None, rules.main) or rules.capacity == "pooled":
            raise ValueError(
                "found spill with sub_batches, pooled capacity or decode attention elsewhere; not modelled"
            )
        pair = {rules.main, rules.spill}
        if not any(set(connection.between) == pair for connection in self.connections.values()):
            raise ValueError(f"found spill {rules.spill!r}, but no connection joins it and {rules.main!r}")
        return self

    @model_validator(mode="after")
    def _is_connected(self) -> System:
        """Every unit can be reached from the main one, and devices that share a model can talk to each other."""
        main = self.mapping.main
        pairs = [connection.between for connection in self.connections.values()]
        pairs += [(name, unit.memory_in) for name, unit in self.units.items() if unit.memory_in is not None]
        reached, grown = {main}, True
        while grown:
            more = {name for pair in pairs if reached & set(pair) for name in pair} - reached
            reached, grown = reached | more, bool(more)
        lost = sorted(set(self.units) - reached)
        if lost:
            raise ValueError(f"found unit {lost[0]!r} that no connection joins to main {main!r}")
        ways = self.units[main].count // self.mapping.data_parallel
        if ways > 1 and (main, main) not in pairs:
            raise ValueError(
                f"found {ways} devices of {main!r} that share a model, but no connection between {main!r} and "
                f"{main!r}; add one, or set mapping.data_parallel to {self.units[main].count}"
            )
        return self
