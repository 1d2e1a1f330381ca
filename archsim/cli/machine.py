"""Options and parsing that the serving commands share: machine or oracle, requests, policy, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from archsim.config.schemas.model import Model
    from archsim.config.schemas.system import System
    from archsim.serving import LatencyOracle, Slo

F = TypeVar("F", bound=Callable[..., Any])
SECONDS = click.FloatRange(min=0.0, min_open=True, max=1e6)


def slo_options(function: F) -> F:
    """Adds --slo-ttft and --slo-tpot, seconds."""
    function = click.option("--slo-tpot", type=SECONDS, metavar="S", help="Limit of the time per output token.")(
        function
    )
    return click.option("--slo-ttft", type=SECONDS, metavar="S", help="Limit of the time to first token.")(function)


def requests_options(function: F) -> F:
    """Adds --requests, --rate and --policy."""
    name = "Preset (`archsim list requests`), YAML description, CSV or JSONL file."
    function = click.option("--policy", default="vllm", show_default=True, metavar="NAME",
                            help="See `archsim list policies`.")(function)  # fmt: skip
    function = click.option("--rate", type=SECONDS, metavar="R", help="Stretch the arrivals to R requests/s.")(function)
    return click.option("--requests", "requests", required=True, metavar="TRACE", help=name)(function)


def limits(slo_ttft: float | None, slo_tpot: float | None) -> Slo | None:
    """The limits of the options; None if there are none."""
    from archsim.serving import Slo

    if slo_ttft is None and slo_tpot is None:
        return None
    return Slo(slo_ttft or float("inf"), slo_tpot or float("inf"))


def split_overrides(overrides: tuple[str, ...]) -> dict[str, list[str]]:
    """`--set` texts by what they begin with; those that name no part belong to the system."""
    parts: dict[str, list[str]] = {"system": [], "workload": [], "requests": [], "policy": []}
    for text in overrides:
        head, dot, rest = text.partition(".")
        known = bool(dot) and head in parts and head != "system"
        parts[head if known else "system"].append(rest if known else text)
    return parts


def policy_options(texts: list[str]) -> dict[str, Any]:
    """KEY=VALUE texts as options."""
    from archsim.config.yaml_reader import parse_scalar
    from archsim.errors import UsageError

    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set policy.{text[:80]}: expected policy.KEY=VALUE")
        options[key.strip()] = parse_scalar(value)
    return options


def load_machine(
    name: str, workload: str, parts: dict[str, list[str]]
) -> tuple[System | LatencyOracle, Model, dict[str, Any]]:
    """A system or an oracle by name or path, the model, and their configuration."""
    from archsim.config import load_model, load_system
    from archsim.config.loader import kind_of_file, load_with_document
    from archsim.config.presets import find_file, preset_names
    from archsim.config.schemas.oracle import Oracle
    from archsim.serving.described_oracle import oracle_of

    model = load_model(workload, parts["workload"])
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    if name in preset_names("oracle") or (is_path and kind_of_file(find_file("system", name)) == "oracle"):
        loaded = load_with_document("oracle", name, parts["system"])
        assert isinstance(loaded.config, Oracle)
        return oracle_of(loaded.config, loaded.file.parent), model, {"oracle": loaded.config.model_dump(mode="json")}
    system = load_system(name, parts["system"])
    return system, model, {"system": system.model_dump(mode="json"), "model": model.model_dump(mode="json")}
