"""JSON schema of description files, for editors."""

from __future__ import annotations

from typing import Any

from archsim.config.base import Preset

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def file_schema(config: type[Preset]) -> dict[str, Any]:
    """The schema of a file of this kind: pydantic's, plus the keys `extends` and `use` that the loader resolves.

    A mapping that starts from another description does not have to repeat the keys that are required otherwise.
    """
    document = config.model_json_schema()
    for part in document.get("$defs", {}).values():
        _allow(part, "use", "start from KIND/NAME; the keys beside it are merged over it")
    _allow(document, "extends", "start from another preset of this kind")
    return {"$schema": DIALECT, **document}


def _allow(part: dict[str, Any], key: str, text: str) -> None:
    if part.get("type") != "object" or "properties" not in part:
        return
    part["properties"][key] = {"type": "string", "description": text}
    required = part.pop("required", [])
    if required:
        part["anyOf"] = [{"required": required}, {"required": [key]}]
