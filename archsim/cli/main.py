"""The `archsim` command: finds the subcommand, imports only that, and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from archsim import __version__
from archsim.cli.startup import start_lean
from archsim.errors import ArchsimError, unknown_name

_LONGEST = 300  # characters of an unexpected error's message; a compiler's can fill pages
EXIT_INPUT, EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_PIPE = 4, 70, 130, 141

# name -> (module:attribute, one-line help). The help stands here so that `archsim --help` imports no command.
COMMANDS = {
    "evaluate": ("evaluate:evaluate", "Latency, energy and cost of WORKLOAD on SYSTEM."),
    "compare": ("compare:compare", "One workload on several machines, side by side."),
    "plan": ("plan:plan", "Search the fastest parallel plan of WORKLOAD over the devices of SYSTEM."),
    "serve": ("serve:serve", "Simulate a request trace on a machine under a serving policy."),
    "clients": ("clients:clients", "TTFT, TPOT and throughput that a constant number of clients get."),
    "capacity": ("capacity:capacity", "Highest request rate that meets a service level objective."),
    "place": ("place:place", "Share devices out between prefill and decode instances."),
    "explore": ("explore:explore", "Sweep or search a design space; resumable, in parallel."),
    "memory": ("memory:memory", "Simulate DRAM and PIM devices command by command."),
    "network": ("network:network", "Simulate CXL links and the memory behind them, flit by flit."),
    "npu": ("npu:npu", "Products, layers and vector work on an NPU, tile by tile."),
    "list": ("list:list_", "What there is: systems, models, devices, policies, patterns, ..."),
    "show": ("show:show", "A preset fully resolved, with sources and derived peaks."),
    "check": ("check:check", "Check description files: one line each, exit 2 at the first wrong one."),
    "schema": ("schema:schema", "JSON schema of a kind of description or of a result."),
    "cost": ("cost:cost", "What a machine costs to make, buy and run, line by line."),
    "area": ("area:area", "Silicon of a machine: logic dies, parts of accelerators, DRAM, compute in DRAM."),
    "power": ("power:power", "Energy by operator and component, watts over time, design power check."),
    "sensitivity": ("sensitivity:sensitivity", "Which parameter moves latency, energy and cost most."),
    "validate": ("validate:validate", "Compare archsim with folders of reference data."),
    "replicate": ("replicate:replicate", "Published claims of a paper beside ours."),
    "report": ("report:report", "Self-contained HTML page of a saved result."),
}
# command group -> further subcommands that live in a file of their own: (name, module:attribute)
MOUNTED = {"memory": (("pim", "memory_pim:pim"), ("neupims", "memory_neupims:neupims"))}


class LazyGroup(click.Group):
    """A click group whose subcommands are imported when they run; one whose module is absent is not listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands whose module is installed, in the order of COMMANDS."""
        return [name for name, (target, _) in COMMANDS.items() if _module_file(target).is_file()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        if name not in self.list_commands(ctx):
            return None
        command = _imported(COMMANDS[name][0])
        for part, target in MOUNTED.get(name, ()):
            if isinstance(command, click.Group) and _module_file(target).is_file():
                command.add_command(_imported(target), part)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but an unknown name is answered with the nearest one."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            ctx.fail(unknown_name("command", args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command table, from COMMANDS alone."""
        rows = [(name, COMMANDS[name][1]) for name in self.list_commands(ctx)]
        if not rows:
            return
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a reader that went away or Ctrl-C ends it quietly, before click rewrites them."""
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise click.exceptions.Exit(EXIT_PIPE) from None
        except KeyboardInterrupt:
            _complain("interrupted")
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
        return result


def _imported(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command: click.Command = getattr(importlib.import_module(f"archsim.cli.{module}"), attribute)
    return command


def _module_file(target: str) -> Path:
    return Path(__file__).with_name(target.partition(":")[0] + ".py")


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.command(cls=LazyGroup, no_args_is_help=True, context_settings=_CONTEXT)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="archsim")
def app(debug: bool) -> None:
    """How fast, how hungry and how expensive is a machine for transformer work, and why?"""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; prints errors on stderr, a traceback only with --debug."""
    debug = "--debug" in arguments
    rest = [argument for argument in arguments if argument != "--debug"]
    try:
        code = app.main(args=rest, prog_name="archsim", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Exception as error:
        if debug and not isinstance(error, click.ClickException):
            traceback.print_exc()
        return _explain(error, rest)


def _explain(error: Exception, arguments: Sequence[str]) -> int:
    if type(error).__name__ == "NoArgsIsHelpError" and isinstance(error, click.ClickException):
        error.show()  # the whole help, not an error line
        return error.exit_code
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "archsim"
        _complain(f"{_one_line(error.format_message())} (see '{command} --help')")
        return error.exit_code
    if isinstance(error, click.ClickException):
        _complain(_one_line(error.format_message()))
        return 2
    if isinstance(error, click.Abort):
        return EXIT_INTERRUPTED
    if isinstance(error, ArchsimError):
        _complain(_one_line(str(error)))
        return error.exit_code
    if isinstance(error, OSError):
        _complain(_one_line(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"))
        return EXIT_INPUT
    name, text = type(error).__name__, _one_line(str(error))[:_LONGEST]
    again = " ".join(["archsim", "--debug", *arguments])
    _complain(f"internal error: {name}{': ' if text else ''}{text}; rerun with --debug for the traceback: {again}")
    return EXIT_INTERNAL


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _complain(text: str) -> None:
    click.echo(f"archsim: {text}", err=True)


def main() -> None:
    """Entry point of the console script and of `python -m archsim`."""
    start_lean()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = EXIT_PIPE
    if code == EXIT_PIPE:  # whatever is still buffered has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
