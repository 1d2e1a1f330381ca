"""The PIM engine: skipping ahead changes nothing, no command breaks a constraint, none waits longer than it must."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from pim_checker import violations

from archsim.config import load
from archsim.errors import ConfigError, InputError
from archsim.memory.pim.attacc_program import attention_program
from archsim.memory.pim.commands import command_log
from archsim.memory.pim.device import PimDevice, compile_pim
from archsim.memory.pim.gemv import gemv_program
from archsim.memory.pim.program import Program, ProgramBuilder, run_program
from archsim.memory.pim.stream import stream_program

UNITS = ("attacc-bank", "attacc-bankgroup", "attacc-buffer")
MACS = ("MACAB", "MACSB", "MACPB")


def _device(name: str, *overrides: str, skip_ahead: bool = True) -> PimDevice:
    return compile_pim(load("pim", name, overrides), skip_ahead=skip_ahead)


def _random_program(device: PimDevice, random: np.random.Generator) -> Program:
    """Bursts of MACs on few rows, moves, softmax and barriers, over one or several classes of channels."""
    mac = device.command(MACS[random.integers(3)])
    first = {"MACAB": [0], "MACSB": [0, 1, 2, 3], "MACPB": list(range(32))}[device.compiled.commands[mac]]
    moves = [device.command(name) for name in ("WRGB", "MVSB", "MVGB")]
    builder = ProgramBuilder(16)
    for _ in range(random.integers(5, 40)):
        kind = random.integers(5)
        if kind <= 1:
            builder.add(mac, int(random.choice(first)), int(random.integers(4)), int(random.integers(1, 200)))
        elif kind == 2:
            builder.add(moves[random.integers(3)], int(random.integers(32)), count=int(random.integers(1, 9)))
        elif kind == 3 and len(first) > 1:
            builder.add(mac, 0, int(random.integers(4)), int(random.integers(1, 900)), walk=True)
        elif kind == 3:
            builder.add(device.command("SFM"), ticks=int(random.integers(0, 90)))
        else:
            builder.barrier()
    builder.add(mac, 0, 0, 1)
    program = builder.build(first)
    classes = int(random.integers(1, 4))
    ops = program.ops.copy()
    ops[:, 4] = random.integers(0, classes, len(ops))
    ops[:, 5] = ops[:, 4] + 1 + random.integers(0, classes - ops[:, 4])
    width = np.ones(classes, np.int64)
    width[0] = 17 - classes
    return Program(ops, width, program.walk)


@pytest.mark.parametrize("slips", ["false", "true"])
def test_skipping_ahead_changes_nothing_on_random_programs(slips: str) -> None:
    fast = _device("attacc-bank", f"reference_slips={slips}")
    plain = _device("attacc-bank", f"reference_slips={slips}", skip_ahead=False)
    random = np.random.default_rng(11)
    skipped = 0
    for _ in range(150):
        program = _random_program(fast, random)
        a, b = run_program(fast, program), run_program(plain, program)
        assert a.ticks == b.ticks
        np.testing.assert_array_equal(a.counts, b.counts)
        np.testing.assert_array_equal(a.split, b.split)
        assert b.skipped == 0
        skipped += a.skipped
    assert skipped > 0


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("slips", ["false", "true"])
def test_skipping_ahead_changes_nothing_on_attention(name: str, slips: str) -> None:
    fast = _device(name, f"reference_slips={slips}")
    plain = _device(name, f"reference_slips={slips}", skip_ahead=False)
    random = np.random.default_rng(3)
    for _ in range(4):
        size = int(random.integers(1, 1500)), int(random.integers(1, 70)), int(random.choice([64, 80, 128])), 2
        program = attention_program(fast, *size, queries_per_kv=int(random.integers(1, 3)))
        a, b = run_program(fast, program), run_program(plain, program)
        assert (a.ticks, a.counts.tolist(), a.split.tolist()) == (b.ticks, b.counts.tolist(), b.split.tolist()), size


def _judge(device: PimDevice, program: Program) -> None:
    for log in command_log(device, program):
        commands = list(zip(log.tick.tolist(), log.command, log.bank.tolist(), log.row.tolist(), strict=True))
        assert violations(device.config, commands) == []


@pytest.mark.parametrize("name", UNITS)
def test_attention_keeps_every_constraint(name: str) -> None:
    device = _device(name)
    _judge(device, attention_program(device, 700, 20, 128, 2))


@pytest.mark.parametrize("name", ["gddr6-aim", "hbm-pim"])
def test_gemv_keeps_every_constraint(name: str) -> None:
    device = _device(name)
    _judge(device, gemv_program(device, 700, 1500, 2))


def test_random_programs_keep_every_constraint() -> None:
    device = _device("attacc-bank")
    random = np.random.default_rng(2)
    for _ in range(8):
        _judge(device, _random_program(device, random))


def test_the_judge_sees_a_command_that_is_one_clock_early() -> None:
    device = _device("attacc-bank")
    log = command_log(device, stream_program(device, "MACAB", 70))[0]
    commands = list(zip(log.tick.tolist(), log.command, log.bank.tolist(), log.row.tolist(), strict=True))
    early = 0
    for i, (tick, name, bank, row) in enumerate(commands[1:], 1):
        moved = [*commands[:i], (tick - 1, name, bank, row), *commands[i + 1 :]]
        early += violations(device.config, moved) != []
    assert early == len(commands) - 1  # in a plain stream every command goes as soon as it may


def test_a_log_holds_all_commands_that_were_counted() -> None:
    device = _device("attacc-bankgroup")
    program = attention_program(device, 500, 20, 128, 2)
    counts = run_program(device, program).counts
    logged = np.zeros_like(counts)
    for log in command_log(device, program):
        for name in log.command:
            logged[device.command(name)] += log.channels[1] - log.channels[0]
    np.testing.assert_array_equal(logged, counts)


def test_same_bits_without_the_compiler() -> None:
    code = (
        "from archsim.config import load; from archsim.memory.pim.device import compile_pim;"
        "from archsim.memory.pim.attacc import simulate_attention as s;"
        "d = compile_pim(load('pim', 'attacc-bankgroup'));"
        "r = s(d, 400, 19, 128, 2); print(r.cycles, r.counts, r.time_split_s)"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "NUMBA_DISABLE_JIT": flag},
            capture_output=True, text=True, check=True,
        ).stdout
        for flag in ("0", "1")
    ]  # fmt: skip
    assert out[0] == out[1] != ""


def test_wrong_descriptions_and_programs_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown slip"):
        load("pim", "attacc-bank", ("reference_slips=[context_repaly]",))
    with pytest.raises(ConfigError, match="MACXB"):
        _device("attacc-bank", "requests.MACXB={role: move}")
    with pytest.raises(InputError, match="no requests"):
        ProgramBuilder(16).build()
    with pytest.raises(InputError, match="allowed: 1 to"):
        stream_program(_device("attacc-bank"), "MACAB", 10**9)
