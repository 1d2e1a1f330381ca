"""`archsim schema`."""

from __future__ import annotations

import click


@click.command()
@click.argument("kind")
def schema(kind: str) -> None:
    """JSON schema of a KIND of description (gpu, system, model, ...) or of a result (report, validation, ...)."""
    from archsim.cli.options import print_json
    from archsim.config.file_schema import file_schema
    from archsim.config.kinds import KINDS
    from archsim.errors import UsageError, unknown_name
    from archsim.report.schemas import result_schema, result_schema_names

    if kind in KINDS:
        document = file_schema(KINDS[kind].schema_class())
    elif kind in result_schema_names():
        document = result_schema(kind)
    else:
        raise UsageError(unknown_name("kind", kind, [*KINDS, *result_schema_names()]))
    print_json(document)
