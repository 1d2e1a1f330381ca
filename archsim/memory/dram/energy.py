"""Energy of a run: from IDD currents where they are public, else from energy per bit.

IDD formulas as in DRAMsim3 2981759 (configuration.cc), per device and then x devices on the channel:
activate + precharge  VDD (IDD0 tRC - IDD3N tRAS - IDD2N tRP)
read, write           VDD (IDD4 - IDD3N) burst
refresh               VDD (IDD5 - IDD3N) tRFC
background            VDD IDD3N while any row of the rank is open, VDD IDD2N otherwise
Core currents only: no I/O, termination or VPP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim.config.schemas.memory import EnergyPerBit, IddCurrents, Memory


@dataclass(frozen=True)
class Activity:
    """What costs energy: counts over all channels, and times in seconds summed over ranks or pseudo channels."""

    activates: int
    reads: int
    writes: int
    refresh_all: int
    refresh_bank: int
    open_s: float
    closed_s: float


@dataclass(frozen=True)
class Durations:
    """Seconds."""

    ras_s: float
    rp_s: float
    rfc_s: float
    rfc_bank_s: float
    burst_s: float


def idd_energy_j(idd: IddCurrents, activity: Activity, times: Durations, devices: float) -> dict[str, float]:
    """Joules by component, for `devices` devices that work in step."""
    v = idd.vdd_v * 1e-3 * devices
    act = idd.idd0_ma * (times.ras_s + times.rp_s) - idd.idd3n_ma * times.ras_s - idd.idd2n_ma * times.rp_s
    per_bank = (idd.idd5pb_ma or 0.0) - idd.idd3n_ma if idd.idd5pb_ma is not None else 0.0
    refresh = activity.refresh_all * (idd.idd5ab_ma - idd.idd3n_ma) * times.rfc_s
    return {
        "activate": activity.activates * v * act,
        "read": activity.reads * v * (idd.idd4r_ma - idd.idd3n_ma) * times.burst_s,
        "write": activity.writes * v * (idd.idd4w_ma - idd.idd3n_ma) * times.burst_s,
        "refresh": v * (refresh + activity.refresh_bank * per_bank * times.rfc_bank_s),
        "background_open": v * idd.idd3n_ma * activity.open_s,
        "background_closed": v * idd.idd2n_ma * activity.closed_s,
    }


def per_bit_energy_j(table: EnergyPerBit, activity: Activity, burst_bytes: int) -> dict[str, float]:
    """Joules by component from a pJ/bit table; `burst_bytes` are those on the pins."""
    bits = 8e-12 * burst_bytes
    moved = (activity.reads + activity.writes) * bits
    return {
        "activate": moved * table.activate_pj_per_bit,
        "read": activity.reads * bits * table.read_pj_per_bit,
        "write": activity.writes * bits * table.write_pj_per_bit,
        "io": moved * table.io_pj_per_bit,
    }


def run_energy_j(
    device: Memory, activity: Activity, timing_ticks: Mapping[str, int | Fraction]
) -> tuple[dict[str, float], str]:
    """Energy by component and the name of its source; ({}, "") where the device has none."""
    if device.idd is not None:
        tick_s = device.tick_ps * 1e-12

        def seconds(*names: str) -> float:
            return next((float(timing_ticks[name]) * tick_s for name in names if name in timing_ticks), 0.0)

        organization = device.organization
        burst_s = device.standard.burst_beats / (device.data_rate_mtps * 1e6)
        times = Durations(seconds("tRAS"), seconds("tRP"), seconds("tRFC", "tRFC_ab"), seconds("tRFC_pb"), burst_s)
        devices = organization.width_bits / (device.idd.device_width_bits or organization.dq_bits)
        return idd_energy_j(device.idd, activity, times, devices), device.sources.get("idd", "IDD currents")
    if device.energy_per_bit is not None:
        energy = per_bit_energy_j(
            device.energy_per_bit, activity, device.standard.burst_bytes(device.organization.width_bits)
        )
        return energy, device.sources.get("energy_per_bit", "energy per bit")
    return {}, ""
