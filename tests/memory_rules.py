"""What the constraint tables must say, from tests/data/dram_timing_constraints*.csv and nothing of archsim.

The files list the inter-command constraints of Ramulator 2.1 (python/ramulator/dram; c5b1c3a, HBM4 10dc869, LPDDR6
38c51d4) with their values for one speed bin of each standard. A tick of LPDDR6 is two clocks: commands start on every
other one.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

FILES = [Path(__file__).parent / "data" / f"dram_timing_constraints{which}.csv" for which in ("", "_hbm4", "_lpddr6")]
PRESETS = {
    "DDR4": "ddr4-3200", "DDR5": "ddr5-4800", "LPDDR5": "lpddr5-6400", "GDDR6": "gddr6-14000", "HBM2": "hbm2-2000",
    "HBM3": "hbm3-6400", "HBM4": "hbm4-8000", "LPDDR6": "lpddr6-10667",
}  # fmt: skip
LEVELS = {
    "Channel": "channel", "Rank": "rank", "PseudoChannel": "pseudochannel", "Sid": "stack", "BankGroup": "bankgroup",
    "Bank": "bank",
}  # fmt: skip
# JESD238, JESD270-4: precharge and refresh take half a clock on the row bus
HALF_CLOCK = {"PRE", "PREA", "REFab", "REFpb", "RFMab", "RFMpb"}


@dataclass(frozen=True)
class Rule:
    """One (preceding, following) pair: `ticks` must pass at nodes of `level`; siblings: at the other nodes."""

    level: str
    siblings: bool
    preceding: str
    following: str
    ticks: int
    window: int


def _commands(text: str) -> list[str]:
    return [word.replace("CAS(RD)", "CAS_RD").replace("CAS(WR)", "CAS_WR") for word in text.split("|")]


@cache
def rows(standard: str) -> tuple[dict[str, str], ...]:
    lines = [line for file in FILES for line in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]
    return tuple(row for row in lines if row["standard"] == standard)


@cache
def cycles(standard: str) -> dict[str, int]:
    """Ticks each command is on its bus, where more or less than one clock."""
    own = rows(standard)
    clock = Fraction(own[0]["ticks_per_CK"])
    known = {
        command: math.ceil(Fraction(r["latency_CK"]) * clock)
        for r in own
        if "command bus" in r["scope"]
        for command in _commands(r["preceding"])
    }
    if standard in ("HBM3", "HBM4"):
        known |= dict.fromkeys(HALF_CLOCK, 1)
    return known


@cache
def rules(standard: str) -> tuple[Rule, ...]:
    """Every pair of every row, in ticks; buses included."""
    own = rows(standard)
    clock, bus = Fraction(own[0]["ticks_per_CK"]), cycles(standard)
    found = []
    for row in own:
        if "command bus" in row["scope"]:
            continue
        for p in _commands(row["preceding"]):
            for f in _commands(row["following"]):
                ticks = math.ceil(Fraction(row["latency_CK"]) * clock + bus.get(p, clock) - bus.get(f, clock))
                siblings = "sibling" in row["scope"]
                found.append(Rule(LEVELS[row["level"]], siblings, p, f, ticks, int(row["window_n_cmds"])))
    return tuple(found)


def on_one_bus(standard: str, first: str, second: str) -> bool:
    """HBM has a row and a column bus, the others one bus."""
    columns = {"RD", "WR", "RDA", "WRA"}
    return not standard.startswith("HBM") or (first in columns) == (second in columns)


def earliest(
    standard: str, levels: tuple[str, ...], preceding: str, following: str, shared: int, scope: int, window: bool
) -> int | None:
    """Ticks from `preceding` (issued as often as a window counts, if `window`) to `following`; None: no rule.

    shared  number of levels, counted from the channel, that both addresses have in common
    scope   level index down to which both commands have an address
    """
    found = []
    for rule in rules(standard):
        if rule.preceding != preceding or rule.following != following or (rule.window > 1 and not window):
            continue
        level = levels.index(rule.level)
        same = level < shared and level <= scope
        sibling = level == shared and level <= scope
        if (sibling if rule.siblings else same) and rule.ticks > 0:
            found.append(rule.ticks)
    length = cycles(standard).get(preceding, math.ceil(Fraction(rows(standard)[0]["ticks_per_CK"])))
    if length > 1 and on_one_bus(standard, preceding, following):
        found.append(length)
    return max(found) if found else None
