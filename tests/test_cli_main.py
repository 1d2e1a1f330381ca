"""The command line as a program: exit codes, one line per error, where output goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from archsim import __version__
from archsim.cli import main as cli
from archsim.errors import ArchsimError, CheckFailedError, ConfigError, InfeasibleError, InputError, UsageError

ROOT = Path(__file__).resolve().parents[1]
Captured = pytest.CaptureFixture[str]


def archsim(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "archsim", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_help_names_every_command(capsys: Captured) -> None:
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("evaluate", "compare", "list", "show", "check", "schema", "validate", "report"):
        assert f"\n  {name} " in text


def test_help_texts_agree_with_the_commands() -> None:
    context = click.Context(cli.app)
    group = cli.app
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert command.help, name


def test_module_and_version() -> None:
    answer = archsim("--version")
    assert answer.returncode == 0
    assert __version__ in answer.stdout


def test_without_arguments_the_help_is_shown() -> None:
    answer = archsim()
    assert answer.returncode == 2
    assert "Usage: archsim" in answer.stderr + answer.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluat"], "did you mean 'evaluate'?"),
        (["evaluate"], "Missing argument 'SYSTEM'"),
        (["evaluate", "dgx-a100"], "Missing argument 'WORKLOAD'"),
        (["evaluate", "a", "b", "--batc", "1"], "--batch"),
        (["evaluate", "a", "b", "--batch", "many"], "expected a whole number"),
        (["evaluate", "a", "b", "--batch", "0"], "expected a whole number"),
        (["evaluate", "a", "b", "--input-len", "0"], "--input-len"),
        (["evaluate", "dgx-a10", "gpt3-175b"], "did you mean 'dgx-a100'?"),
        (["evaluate", "dgx-a100", "gpt3-175"], "did you mean 'gpt3-175b'?"),
        (["evaluate", "gpt3-175b", "dgx-a100"], "'gpt3-175b' is a model"),
        (["list", "systms"], "did you mean 'systems'?"),
        (["show", "a100-hbm"], "did you mean 'a100-hbm3'?"),
        (["schema", "gpuu"], "did you mean 'gpu'?"),
        (["compare", "gpt3-175b", "dgx-a100", "--baseline", "dgx-h100"], "unknown system 'dgx-h100'"),
        (["report", "result.h5"], "Missing option"),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], says: str, capsys: Captured) -> None:
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckFailedError("c"), 1), (UsageError("u"), 2), (ConfigError("p", file="f", line=3, key="k"), 2),
        (InfeasibleError("i"), 3), (InputError("i"), 4), (ArchsimError("a\nb"), 2),
        (FileNotFoundError(2, "No such file", "x"), 4), (ZeroDivisionError("division by zero"), 70),
        (MemoryError(), 70), (RecursionError("deep"), 70),
    ],
)  # fmt: skip
def test_exit_codes(error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: click.Command("list", callback=fail))
    assert cli.run(["list"]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert ("--debug" in captured.err) == (code == 70)
    assert cli.run(["--debug", "list"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_debug_may_stand_anywhere(capsys: Captured) -> None:
    assert cli.run(["show", "no-such-preset", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: click.Command("list", callback=interrupt))
    assert cli.run(["list"]) == 130
    assert capsys.readouterr().err == "archsim: interrupted\n"


def test_signal_ends_a_running_process_with_130() -> None:
    code = "import time, click\nfrom archsim.cli import main as m\n"
    code += "wait = click.Command('list', callback=lambda: (print('ready', flush=True), time.sleep(60)))\n"
    code += "m.LazyGroup.get_command = lambda *_: wait\nimport sys; sys.argv[1:] = ['list']; m.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "archsim", "schema", "report"]
    answer = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(write)
    assert answer.stderr == b""
    assert answer.returncode == 141


@pytest.mark.parametrize(
    "arguments", [["list", "models", "--json"], ["show", "gpt3-175b", "--json"], ["schema", "model"]]
)
def test_json_is_one_document_and_nothing_else(arguments: Sequence[str], capsys: Captured) -> None:
    assert cli.run(arguments) == 0
    captured = capsys.readouterr()
    assert isinstance(json.loads(captured.out), dict)
    assert captured.err == ""


def test_presets_are_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["list", "models"]) == 0
    assert "gpt3-175b" in capsys.readouterr().out
