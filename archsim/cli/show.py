"""`archsim show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archsim.cli.options import Output, log, output_options, override_option

if TYPE_CHECKING:
    from archsim.config.loader import Loaded


@click.command()
@click.argument("name")
@click.option("--kind", help="Which kind NAME is, where several have a preset of that name.")
@override_option
@output_options("json")
def show(name: str, kind: str | None, overrides: tuple[str, ...], output: Output) -> None:
    """A preset (or a file) fully resolved: every value with the file and line it comes from, its source, and peaks.

    The output is itself a valid description: `archsim show a100-hbm3 > mine.yaml` is a start for a new device.
    """
    from archsim.config.loader import load_with_document
    from archsim.config.resolved import derived_quantities, resolved_text

    loaded = load_with_document(kind or _kind_of(name), name, overrides)
    if output.as_json:
        from archsim.cli.options import print_json

        print_json(_document(loaded))
        return
    click.echo(resolved_text(loaded), nl=False)
    for line in derived_quantities(loaded.config):
        click.echo(f"# derived: {line}")


def _kind_of(name: str) -> str:
    """The kind of a path, or the first kind (in the order of KINDS) that has a preset of this name."""
    from pathlib import Path

    from archsim.config.kinds import KINDS
    from archsim.config.loader import kind_of_file
    from archsim.config.presets import preset_names
    from archsim.errors import UsageError, unknown_name

    if "/" in name or name.endswith((".yaml", ".yml")):
        return kind_of_file(Path(name))
    kinds = [kind for kind in KINDS if name in preset_names(kind)]
    if not kinds:
        raise UsageError(unknown_name("preset", name, [preset for kind in KINDS for preset in preset_names(kind)]))
    if len(kinds) > 1:
        log(f"{name!r} is a {' and a '.join(kinds)}; this is the {kinds[0]}, choose with --kind")
    return kinds[0]


def _document(loaded: Loaded) -> dict[str, object]:
    from archsim.config.resolved import derived, place, source_of

    document = loaded.document
    paths = [path for path in document.marks if path and path[-1] not in ("kind", "name")]
    return {
        "schema": "archsim.show/1",
        "kind": loaded.config.kind,
        "name": loaded.config.name,
        "file": str(loaded.file),
        "config": loaded.config.model_dump(mode="json"),
        "derived": derived(loaded.config),
        "origin": {".".join(map(str, path)): place(document, path) for path in paths},
        "source": {".".join(map(str, path)): source_of(document.value, path) for path in paths},
    }
