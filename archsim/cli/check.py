"""`archsim check`."""

from __future__ import annotations

import click

from archsim.cli.options import override_option


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@override_option
def check(files: tuple[str, ...], overrides: tuple[str, ...]) -> None:
    """Check description files against the schema of the `kind` they declare.

    Prints one line for each file; the first wrong one ends the command with exit code 2 and one line that names file,
    line, key, what was found and what is allowed.
    """
    from pathlib import Path

    from archsim.config import load, load_model
    from archsim.config.loader import kind_of_file

    for file in files:
        path = Path(file)
        if path.suffix == ".json":
            config = load_model(file, overrides)
        else:
            config = load(kind_of_file(path), str(path.absolute()), overrides)
        click.echo(f"{file}: valid {config.kind} {config.name!r}")
