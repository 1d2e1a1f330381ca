"""What a run of a PIM program means: seconds, utilisation, bandwidth, where the time went, energy."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.memory.pim.device import PimDevice
from archsim.memory.pim.program import TIME_PARTS, ProgramRun


@dataclass(frozen=True)
class PimResult:
    """One run of a program on one stack (or on all stacks of a device in lockstep: `stacks` > 1).

    cycles                        memory clocks until everything has issued
    counts                        command -> commands issued, all channels of the stacks that are counted
    mac_utilisation               useful multiply-adds over those the units could do in this time
    internal_bandwidth_bytes_per_s, internal_bandwidth_share
                                  bytes from the banks to the units, per second; the same over what the units can take
    time_split_s                  activate, mac, data_movement, softmax, refresh, wait: mean over the channels, adds up
                                  to `seconds`
    energy_j                      component -> J
    """

    cycles: int
    seconds: float
    stacks: float
    counts: dict[str, int]
    mac_utilisation: float
    internal_bandwidth_bytes_per_s: float
    internal_bandwidth_share: float
    time_split_s: dict[str, float]
    energy_j: dict[str, float]

    @property
    def total_energy_j(self) -> float:
        """Sum of the components."""
        return sum(self.energy_j.values())

    @property
    def bound(self) -> str:
        """The part of the time split that takes most."""
        return max(self.time_split_s, key=lambda part: self.time_split_s[part])


def make_result(
    device: PimDevice,
    run: ProgramRun,
    mac: str,
    useful_macs: float,
    charged_macs: float,
    lanes_per_column: float,
    stacks: float = 1.0,
) -> PimResult:
    """Turn a run of one stack into a result.

    mac                MAC command of the program
    useful_macs        multiply-adds of the operator on the stack
    charged_macs       multiply-adds whose energy counts
    lanes_per_column   multiply-adds that one column of one bank can take part in
    stacks             counts and energy are those of so many stacks
    """
    seconds = run.ticks * device.tick_s
    peak_bytes = device.peak_bytes_per_tick(mac)
    read_bytes = int(run.counts[device.command(mac)]) * device.config.requests[mac].banks * device.geometry.access_bytes
    peak_macs_per_tick = peak_bytes / device.geometry.access_bytes * lanes_per_column
    total = int(run.split.sum())
    counts = {name: round(int(n) * stacks) for name, n in zip(device.compiled.commands, run.counts, strict=True) if n}
    energy = energy_j(device, run, charged_macs)
    return PimResult(
        cycles=run.ticks,
        seconds=seconds,
        stacks=stacks,
        counts=counts,
        mac_utilisation=useful_macs / (peak_macs_per_tick * run.ticks),
        internal_bandwidth_bytes_per_s=read_bytes * stacks / seconds,
        internal_bandwidth_share=read_bytes / (peak_bytes * run.ticks),
        time_split_s={part: seconds * int(n) / total for part, n in zip(TIME_PARTS, run.split, strict=True)},
        energy_j={part: joules * stacks for part, joules in energy.items()},
    )


def energy_j(device: PimDevice, run: ProgramRun, macs: float) -> dict[str, float]:
    """Energy of one stack by component: bytes on each part of the way times energy per byte, and the arithmetic.

    Every column of every bank that a MAC reads counts as cell bytes; moves pass bank group, global I/O and TSVs;
    operands (the first kind of move of the program) also pass the interposer. Refresh and background are left out.
    Source: AttAcc simulator c600051, devices.py.
    """
    config, access = device.config, device.geometry.access_bytes
    table = config.energy
    counted = {name: int(run.counts[device.command(name)]) for name in config.requests}
    cell = sum(n * config.requests[name].banks * access for name, n in counted.items())
    moved = sum(n * access for name, n in counted.items() if config.requests[name].role == "move")
    operands = counted.get(config.program.operands, 0) * access
    per_byte = 1.0 / 8.0 if "io_per_byte" in device.slips else 1.0
    return {
        "cell": cell * table.cell,
        "bankgroup_io": moved * table.bankgroup_io * per_byte,
        "global_io": moved * table.global_io * per_byte,
        "tsv": moved * table.tsv * per_byte,
        "interposer": operands * table.interposer * per_byte,
        "alu": macs * table.mac,
        "sram": cell * table.sram,
    }
