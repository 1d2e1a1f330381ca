"""What a PCIe and CXL link is made of: lanes and rate, flits and the slots in them."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from archsim.config.base import Config
from archsim.config.quantity import Bytes

# transfers per second and lane, a bit each; PCI Express Base Specifications 4.0, 5.0 and 6.0
_BITS_PER_S_LANE = {4: 16e9, 5: 32e9, 6: 64e9}


class Lanes(Config):
    """The PCIe port below a link; its raw rate, without the 2/130 that generations 4 and 5 spend on framing."""

    generation: Literal[4, 5, 6]
    width: Literal[1, 2, 4, 8, 16] = Field(description="lanes")

    @property
    def bandwidth(self) -> float:
        """Raw bytes/s of one direction."""
        return _BITS_PER_S_LANE[self.generation] * self.width / 8.0


class Flit(Config):
    """Slots of a CXL flit and how the messages of CXL.mem are packed into them.

    Requests go from master to subordinate (M2S): Req asks for a line, RwD brings one. Answers go back (S2M): DRS brings
    a line, NDR completes a write. A line follows its header in slots of `slot_bytes`; headers of one kind that wait at
    the same time share a slot.
    """

    bytes: int = Field(gt=0, le=65_536, description="on the wire, with checksums and protocol bytes")
    slots: int = Field(gt=0, le=256, description="usable slots of a flit")
    header_slots: int = Field(default=0, ge=0, le=256, description="the first slots, which take headers only")
    slot_bytes: int = Field(default=16, gt=0, le=4096)
    line: Bytes = Field(default=64.0, gt=0, le=65_536, description="bytes of one memory access")
    read_requests_per_slot: int = Field(default=1, gt=0, le=64, description="M2S Req")
    write_headers_per_slot: int = Field(default=1, gt=0, le=64, description="M2S RwD")
    completions_per_slot: int = Field(gt=0, le=64, description="S2M NDR")
    read_headers_per_slot: int = Field(gt=0, le=64, description="S2M DRS")

    @property
    def data_slots(self) -> int:
        """Slots of a line."""
        return math.ceil(self.line / self.slot_bytes)

    @property
    def read_m2s_slots(self) -> float:
        """Slots from the host per line read, headers packed as densely as they can be."""
        return 1.0 / self.read_requests_per_slot

    @property
    def read_s2m_slots(self) -> float:
        """Slots to the host per line read."""
        return self.data_slots + 1.0 / self.read_headers_per_slot

    @property
    def write_m2s_slots(self) -> float:
        """Slots from the host per line written."""
        return self.data_slots + 1.0 / self.write_headers_per_slot

    @property
    def write_s2m_slots(self) -> float:
        """Slots to the host per line written."""
        return 1.0 / self.completions_per_slot
