"""`archsim report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "page", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE.html",
    help="The page to write.",
)  # fmt: skip
def report(result: Path, page: Path) -> None:
    """Write RESULT (an HDF5 file or the JSON of a command) as one self-contained HTML page with plots."""
    from archsim.report.html import write_html
    from archsim.report.reader import read_result

    document, tables = read_result(result)
    write_html(page, document, tables)
