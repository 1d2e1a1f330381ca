"""An independent judge of PIM command logs: written from the constraint rows alone, shares no code with the engine."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np

from archsim.config.schemas.pim import Pim


def violations(config: Pim, log: list[tuple[int, str, int, int]]) -> list[str]:
    """What is wrong with one channel's commands (tick, name, flat bank, row) in order of issue."""
    dram = config.dram
    timing = dict(dram.timing) | (config.timing_limited if config.power_limit else {})
    levels = dram.standard.levels
    fanout = [1, *(dram.organization.count[level] for level in levels[1:])]
    below = [int(np.prod(fanout[i + 1 :])) for i in range(len(levels))]
    rows = [row for group in dram.standard.constraints.values() for row in group]
    scope = {name: levels.index(command.scope) for name, command in dram.standard.commands.items()}
    history: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    wrong = []
    for tick, name, bank, _ in log:
        for row in rows:
            level = levels.index(row.level)
            if name not in row.following or level > scope[name]:
                continue
            for before in row.preceding:
                past = history[level, bank // below[level], before]
                if len(past) >= row.window and tick - past[-row.window] < _ticks(row.expression, timing):
                    wrong.append(f"{name} at {tick}: {row.expression} after {before} at {past[-row.window]}")
        for level in range(len(levels)):
            history[level, bank // below[level], name].append(tick)
    return wrong + _wrong_rows(config, log, fanout) + _crowded(config, log)


def _ticks(expression: str, timing: dict[str, float]) -> int:
    """Sums and differences of timing names and numbers."""
    assert re.fullmatch(r"[\w+\- ]+", expression), expression
    total, sign = 0.0, 1
    for token in re.findall(r"\w+|[+-]", expression):
        if token in "+-":
            sign = 1 if token == "+" else -1
        else:
            total += sign * (float(token) if token.isdigit() else timing[token])
    return int(total)


def _wrong_rows(config: Pim, log: list[tuple[int, str, int, int]], fanout: list[int]) -> list[str]:
    """MACs whose row is not open; refreshes of open banks."""
    levels = config.dram.standard.levels
    place = np.array(np.unravel_index(np.arange(int(np.prod(fanout))), fanout))
    opened = np.full(int(np.prod(fanout)), -1)
    effect = {name: command.effect for name, command in config.dram.standard.commands.items()}
    refresh = config.dram.standard.refresh.all.command
    wrong = []
    for tick, name, bank, row in log:
        free = [levels.index(level) for level in config.reach.get(name, ())]
        fixed = [i for i in range(len(levels)) if i not in free]
        reached = (place[fixed] == place[fixed, bank][:, None]).all(axis=0)
        if effect[name] == "open":
            if (opened[reached] >= 0).any():
                wrong.append(f"{name} at {tick}: a bank is open already")
            opened[reached] = row
        elif effect[name] == "close":
            opened[reached] = -1
        elif name == refresh and (opened >= 0).any():
            wrong.append(f"{name} at {tick}: a bank is open")
        elif name in config.requests and config.requests[name].activate and opened[bank] != row:
            wrong.append(f"{name} at {tick}: row {row} is not open in bank {bank}")
    return wrong


def _crowded(config: Pim, log: list[tuple[int, str, int, int]]) -> list[str]:
    """More than one command of a bus in a clock."""
    commands = config.dram.standard.commands
    seen = set()
    wrong = []
    for tick, name, _, _ in log:
        key = (tick, commands[name].bus)
        if key in seen:
            wrong.append(f"{name} at {tick}: the bus is taken")
        seen.add(key)
    return wrong
