"""The base classes of every description."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


class Config(BaseModel):
    """A part of a description: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, defer_build=True)


class Preset(Config):
    """What stands at the top of every description file."""

    kind: str = Field(description="which schema the file follows")
    name: Name = Field(description="unique within its kind")
    description: str = Field(default="", description="one line for `archsim list`")
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="where the numbers come from: dotted key prefix -> text; `default` covers the rest of the file",
    )
    not_modelled: tuple[str, ...] = Field(default=(), description="effects that the model leaves out")
