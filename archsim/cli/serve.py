"""`archsim serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from archsim.cli.options import Output, output_options, override_option


@click.command()
@click.argument("system")
@click.argument("workload")
@click.option("--requests", "requests", required=True, metavar="TRACE", help="Preset, YAML description or CSV file.")
@click.option("--policy", default="vllm", show_default=True, metavar="NAME", help="See `archsim list policies`.")
@override_option
@output_options("json", "hdf5")
def serve(system: str, workload: str, requests: str, policy: str, overrides: tuple[str, ...], output: Output) -> None:
    """Serve a stream of requests with WORKLOAD on SYSTEM under a scheduling policy.

    TRACE has the columns arrival_s, prompt_tokens, output_tokens and optionally tenant_id. `--set policy.KEY=VALUE`
    sets an option of the policy, `--set requests.PATH=VALUE` overrides the description of the requests,
    `--set workload.PATH=VALUE` that of the workload, and others that of the system.
    """
    from archsim.config import load_model, load_system
    from archsim.report.serving import print_serving, write_serving_hdf5
    from archsim.serving import serve as run
    from archsim.workload.requests import load_requests

    parts = split_overrides(overrides)
    machine, model = load_system(system, parts["system"]), load_model(workload, parts["workload"])
    trace = load_requests(requests, parts["requests"])
    report = run(machine, model, trace, policy, **policy_options(parts["policy"]))
    configuration = {
        "system": machine.model_dump(mode="json"), "model": model.model_dump(mode="json"),
        "requests": {"name": requests, "overrides": parts["requests"]}, "policy": {"name": policy, **report.options},
    }  # fmt: skip

    def write(path: Path) -> None:
        write_serving_hdf5(path, report, configuration)

    output.emit(report, lambda console: print_serving(report, console), write_hdf5=write)


def split_overrides(overrides: tuple[str, ...]) -> dict[str, list[str]]:
    """`--set` texts by what they begin with; those that name no part belong to the system."""
    parts: dict[str, list[str]] = {"system": [], "workload": [], "requests": [], "policy": []}
    for text in overrides:
        head, dot, rest = text.partition(".")
        known = bool(dot) and head in parts and head != "system"
        parts[head if known else "system"].append(rest if known else text)
    return parts


def policy_options(texts: list[str]) -> dict[str, Any]:
    from archsim.config.yaml_reader import parse_scalar
    from archsim.errors import UsageError

    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set policy.{text[:80]}: expected policy.KEY=VALUE")
        options[key.strip()] = parse_scalar(value)
    return options
