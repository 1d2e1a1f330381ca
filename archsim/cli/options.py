"""Options and output habits that commands share: results on stdout, files whole, progress on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 160
F = TypeVar("F", bound=Callable[..., Any])

override_option = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE",
    help="Override one key of the description, e.g. --set units.gpu.count=4; may be repeated.",
)  # fmt: skip


def framework_option(function: F) -> F:
    """Adds --framework, which stands for `--set framework=NAME` before the other overrides."""

    @wraps(function)
    def wrapped(*args: Any, framework: str | None, overrides: tuple[str, ...], **kwargs: Any) -> Any:
        own = () if framework is None else (f"framework={framework}",)
        return function(*args, overrides=own + overrides, **kwargs)

    name = "Serving framework of SYSTEM's GPUs: host times and kernels (`archsim list frameworks`)."
    return click.option("--framework", metavar="NAME", help=name)(wrapped)  # type: ignore[return-value]


FILE = click.Path(dir_okay=False, path_type=Path)
_OPTIONS = {
    "json": click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
    "hdf5": click.option("--hdf5", "hdf5", type=FILE, metavar="F", help="Write the result as an HDF5 file."),
    "perfetto": click.option(
        "--perfetto", "perfetto", type=FILE, metavar="F", help="Write the timeline for ui.perfetto.dev."
    ),
}


@dataclass(frozen=True)
class Output:
    """Where a result goes."""

    as_json: bool = False
    hdf5: Path | None = None
    perfetto: Path | None = None

    def emit(
        self,
        result: Any,
        show: Callable[[Console], None],
        *,
        write_hdf5: Callable[[Path], None] | None = None,
        write_perfetto: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the files that were asked for, then print `result` as JSON or call `show` with stdout's console."""
        if self.hdf5 is not None and write_hdf5 is not None:
            write_hdf5(self.hdf5)
        if self.perfetto is not None and write_perfetto is not None:
            write_perfetto(self.perfetto)
        if self.as_json:
            print_json(result)
        else:
            print_tables(show)


def output_options(*names: str) -> Callable[[F], F]:
    """Adds the named output options (`json`, `hdf5`, `perfetto`; none: all) and passes them as one `output: Output`."""
    chosen = names or tuple(_OPTIONS)

    def decorate(function: F) -> F:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            fields = {field: kwargs.pop(field) for field in ("as_json", "hdf5", "perfetto") if field in kwargs}
            return function(*args, output=Output(**fields), **kwargs)

        for name in reversed(chosen):
            wrapped = _OPTIONS[name](wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def print_json(result: Any) -> None:
    """One JSON document on stdout."""
    from archsim.report.json_text import json_text

    click.echo(json_text(result))


def print_tables(show: Callable[[Console], None]) -> None:
    """What `show` prints, on stdout: as wide as the terminal, or wide enough for every table when piped."""
    from rich.console import Console

    free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(file=sys.stdout, width=_PIPED_WIDTH if free else None, highlight=False)
    with console.capture() as captured:
        show(console)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), color=True)


def log(text: str) -> None:
    """A remark for the person at the terminal: on stderr, and only if that is a terminal."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr, drawn only on a terminal; call the yielded function with the work done so far."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)
