"""JSON schema of description files, for editors."""

from __future__ import annotations

from typing import Any

from archsim.config.base import Preset

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def file_schema(config: type[Preset]) -> dict[str, Any]:
    """The schema of a file of this kind: pydantic's, plus the keys `extends` and `use` that the loader resolves.

    What a mapping must hold can come from the description that it, or a mapping around it, starts from. So only the
    top of a file that extends nothing has required keys here; `archsim check` sees the merged whole.
    """
    document = config.model_json_schema()
    for part in document.get("$defs", {}).values():
        _allow(part, "use", "start from KIND/NAME; the keys beside it are merged over it")
    required = _allow(document, "extends", "start from another preset of this kind")
    if required:
        document["anyOf"] = [{"required": required}, {"required": ["extends"]}]
    _several_may_fit(document)
    return {"$schema": DIALECT, **document}


def _several_may_fit(part: Any) -> None:
    """A mapping that says only `use` fits every alternative of a tagged union: oneOf becomes anyOf."""
    if isinstance(part, dict):
        if "discriminator" in part and "oneOf" in part:
            part["anyOf"] = part.pop("oneOf")
        for value in part.values():
            _several_may_fit(value)
    elif isinstance(part, list):
        for value in part:
            _several_may_fit(value)


def _allow(part: dict[str, Any], key: str, text: str) -> list[str]:
    """Add a key to an object's schema; returns the keys that it required before."""
    if part.get("type") != "object" or "properties" not in part:
        return []
    part["properties"][key] = {"type": "string", "description": text}
    required: list[str] = part.pop("required", [])
    return required
