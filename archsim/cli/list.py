"""`archsim list`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from archsim.cli.options import Output, output_options

if TYPE_CHECKING:
    from rich.console import Console

Rows = list[tuple[str, str, str]]  # kind, name, description
_DEVICES = ("gpu", "npu", "cpu", "pim", "neupims", "memory", "link", "expander")
_PLURALS = {
    "memory": "memories",
    "economics": "economics",
    "requests": "requests",
    "events": "events",
    "neupims": "neupims",
    "gpu-kernels": "gpu-kernels",
}


@click.command("list")
@click.argument("what", required=False)
@output_options("json")
def list_(what: str | None, output: Output) -> None:
    """Names and one-line descriptions of WHAT there is.

    WHAT: systems, models, devices (or one kind of them: gpus, npus, ...), requests, policies, patterns, validations,
    papers.
    Without WHAT, everything that has a preset.
    """
    from archsim.errors import UsageError, unknown_name

    sources = _sources()
    if what is not None and what not in sources:
        raise UsageError(unknown_name("list", what, sources))
    rows = sources[what]() if what is not None else _all_presets()
    document = {
        "schema": "archsim.list/1",
        "items": [{"kind": kind, "name": name, "description": text} for kind, name, text in rows],
    }
    output.emit(document, lambda console: _show(rows, console))


def _show(rows: Rows, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for style, fold in (("dim", False), ("bold", False), ("", True)):
        table.add_column(style=style, no_wrap=not fold, overflow="fold" if fold else "ellipsis")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _sources() -> dict[str, Callable[[], Rows]]:
    """What can be listed: every kind of preset, kinds of devices together, and the registries of plug-ins."""
    from archsim.config.kinds import KINDS

    groups: dict[str, Callable[[], Rows]] = {
        "devices": _presets(*_DEVICES),
        "policies": _policies,
        "patterns": _patterns,
        "validations": _validations,
        "papers": _papers,
        "kinds": _kinds,
    }
    plurals = {_PLURALS.get(kind, f"{kind}s"): _presets(kind) for kind in KINDS}
    return {"systems": plurals["systems"], "models": plurals["models"], **groups, **plurals}


def _all_presets() -> Rows:
    from archsim.config.kinds import KINDS

    return _presets(*KINDS)()


def _presets(*kinds: str) -> Callable[[], Rows]:
    from archsim.config.presets import preset_description, preset_names

    return lambda: [(kind, name, preset_description(kind, name)) for kind in kinds for name in preset_names(kind)]


def _kinds() -> Rows:
    from archsim.config.kinds import KINDS

    return [("kind", kind.name, f"presets in {kind.folder}") for kind in KINDS.values()]


def _policies() -> Rows:
    from archsim.serving.policy import POLICIES

    return [("policy", name, _first_line(POLICIES.get(name))) for name in POLICIES.names()]


def _patterns() -> Rows:
    from archsim.memory.dram.streams import PATTERNS

    return [("pattern", name, _first_line(rule)) for name, rule in PATTERNS.items()]


def _papers() -> Rows:
    from archsim.validation.papers import PAPERS

    return [("paper", name, (PAPERS.get(name).__doc__ or "").strip().splitlines()[0]) for name in PAPERS.names()]


def _validations() -> Rows:
    from archsim.validation import KINDS

    return [("validation", name, _first_line(KINDS.get(name))) for name in KINDS.names()]


def _first_line(item: object) -> str:
    return (item.__doc__ or "").strip().partition("\n")[0]
