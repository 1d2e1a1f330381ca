"""A NeuPIMs device: an NPU core beside HBM channels whose banks compute and have two row buffers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Preset
from archsim.config.quantity import Bytes, Hertz, Volts

Clocks = int


class NeupimsOrganisation(Config):
    """The channels. The controller model is built for two ranks of four bank groups of four banks."""

    channels: int = Field(gt=0, le=1024, description="a power of two")
    capacity_per_channel: Bytes = Field(gt=0)
    ranks: Literal[2] = 2
    bank_groups: Literal[4] = 4
    banks_per_group: Literal[4] = 4
    row_bytes: Literal[1024] = 1024
    access_bytes: Literal[64] = 64
    lanes: int = Field(gt=0, le=512, description="elements one bank multiplies in one COMP")
    element_bytes: Literal[2] = 2

    @model_validator(mode="after")
    def _power_of_two(self) -> NeupimsOrganisation:
        if self.channels & (self.channels - 1):
            raise ValueError(f"channels: found {self.channels}, allowed: powers of two")
        return self


class NeupimsTiming(Config):
    """DRAM timings in clocks of the memory clock."""

    burst: Clocks = Field(gt=0, description="data bus clocks of one access; also one COMP")
    read_latency: Clocks = Field(gt=0, description="CL")
    write_latency: Clocks = Field(gt=0, description="CWL")
    rcd: Clocks = Field(gt=0)
    rp: Clocks = Field(gt=0)
    ras: Clocks = Field(gt=0)
    rc: Clocks = Field(gt=0)
    rrd_s: Clocks = Field(gt=0)
    rrd_l: Clocks = Field(gt=0)
    faw: Clocks = Field(gt=0)
    ccd_s: Clocks = Field(gt=0)
    ccd_l: Clocks = Field(gt=0)
    wr: Clocks = Field(gt=0)
    wtr_s: Clocks = Field(gt=0)
    wtr_l: Clocks = Field(gt=0)
    rtrs: Clocks = Field(ge=0, description="bus turn-around between ranks")
    rtp: Clocks = Field(gt=0)
    rfc: Clocks = Field(gt=0)
    refi: Clocks = Field(gt=0, le=100_000, description="refresh interval of one rank")
    gwrite: Clocks = Field(gt=0, description="row to global vector buffer")
    min_comps: Clocks = Field(gt=0, description="COMPs a composite at least occupies")
    guard_step: Clocks = Field(gt=0, description="clocks the refresh guard allows per buffer to be closed")
    memory_reserve: Clocks = Field(ge=0, description="slack kept free of memory commands before a guarded PIM step")


class NeupimsCurrents(Config):
    """Supply and IDD currents (mA), as in DRAM data sheets."""

    vdd: Volts = Field(gt=0)
    idd0: float = Field(ge=0)
    idd2n: float = Field(ge=0)
    idd3n: float = Field(ge=0)
    idd4w: float = Field(ge=0)
    idd4r: float = Field(ge=0)
    idd5ab: float = Field(ge=0)
    comp_reads: float = Field(ge=0, description="energy of an all-bank COMP, in reads")
    gwrite_reads: float = Field(ge=0, description="energy of a GWRITE, in reads")


class NeupimsCore(Config):
    """The NPU core: systolic arrays that stream weights past stationary activations, and vector units."""

    array_dim: Literal[128] = 128
    arrays: int = Field(gt=0, le=128, description="work on one instruction together; divides 128")
    vector_units: Literal[8] = 8
    vector_lanes: int = Field(gt=0, le=4096)
    sram: Bytes = Field(gt=0, description="on-chip memory; one tile may fill half of it")


class NeupimsDefects(Config):
    """Known defects of the public NeuPIMs simulator. None: as `peer_defects` says; true or false: on its own."""

    vector_sizes: bool | None = Field(default=None, description="row operations see size 0, softmax sees bytes")
    clipped_outputs: bool | None = Field(default=None, description="most GEMM outputs are never written")
    early_stores: bool | None = Field(default=None, description="stores leave before the last k block")
    response_mixup: bool | None = Field(default=None, description="reads of GWRITE's address get its answers")
    loose_single_buffer: bool | None = Field(default=None, description="no tRP before, no tRAS after G_ACT (single)")
    running_pointer: bool | None = Field(default=None, description="NPU addresses are one running pointer")
    hashed_order: bool | None = Field(default=None, description="requests of an instruction leave in hash order")
    whole_blocks: bool | None = Field(default=None, description="partial blocks cost as much as whole ones")
    repeated_boundary: bool | None = Field(default=None, description="a request is repeated where an operator is split")
    instant_vector_queue: bool | None = Field(default=None, description="a busy vector unit delays nothing")
    fused_attention: bool | None = Field(default=None, description="NPU-only attention is one dependent chain")
    npu_only_core: bool | None = Field(
        default=None, description="NPU-only: exposed preloads, one load per cycle, 96 requests of a channel under way"
    )


class NeupimsDevice(Preset):
    """One NeuPIMs device (a tensor-parallel shard): core, channels and the fidelity switches."""

    kind: Literal["neupims"] = "neupims"
    clock: Hertz = Field(gt=0, description="core and DRAM command clock")
    organisation: NeupimsOrganisation
    timing: NeupimsTiming
    currents: NeupimsCurrents
    core: NeupimsCore
    peer_defects: bool = Field(default=False, description="reproduce the public simulator cycle by cycle")
    defects: NeupimsDefects = NeupimsDefects()

    def defect(self, name: str) -> bool:
        """Is the defect called `name` reproduced?"""
        own: bool | None = getattr(self.defects, name)
        return self.peer_defects if own is None else own

    @property
    def capacity_bytes(self) -> float:
        """Bytes of all channels."""
        return self.organisation.channels * self.organisation.capacity_per_channel

    @property
    def peak_bandwidth(self) -> float:
        """External bandwidth of all channels, bytes per second."""
        access = self.organisation.access_bytes / self.timing.burst
        return self.organisation.channels * access * self.clock
